//! `top`: units, or one of them and its connections, once a second: in place on a terminal, in lines elsewhere.
#![forbid(unsafe_code)]

use super::ask;
use super::client::{Client, Nothing};
use super::failure::{Exit, Failure};
use super::globals::Globals;
use super::list::state;
use super::output::{self, Paint};
use super::screen::{Event, Screen};
use super::status;
use super::tables::{self, OfConnection};
use super::units::{self, Unit};
use super::words::{self, Table, bar};
use crate::observe::snapshot::{Connection, Snapshot};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_secs(1);
const HEADER: &[&str] = &["UNIT", "STATE", "", ">ACTIVE", ">WAITING", ">LONGEST", ">NEW/S", ">SERVED", ">REFUSED"];
/// Marks of a bar: with more, 80 columns would not hold a unit's name.
const BAR: usize = 5;

/// # Errors
/// As of asking at the start; a daemon that goes is waited for.
pub fn run(unit: Option<&str>, globals: &Globals) -> Result<(), Failure> {
    if globals.json {
        return in_json(unit, globals);
    }
    let mut top = Top::new(unit, globals)?;
    if output::width().is_none() {
        return top.in_lines();
    }
    let screen = Screen::enter()?;
    top.in_place(screen)
}

/// The replies, each second.
fn in_json(unit: Option<&str>, globals: &Globals) -> Result<(), Failure> {
    loop {
        let next = Instant::now() + TICK;
        units::each(&units::one_or_all(unit, globals)?, |one| ask::describe_as_json(one, unit.is_some()))?;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

struct Top<'a> {
    /// If it is one alone.
    name: Option<&'a str>,
    globals: &'a Globals,
    rows: Vec<Row>,
    connections: Vec<Connection>,
}

/// A unit.
struct Row {
    unit: Unit,
    client: Option<Client>,
    /// Asked, and not answered yet.
    is_asked: bool,
    last: Option<Snapshot>,
    /// Connections accepted per second, between the last two answers.
    rate: Option<f64>,
}

impl Row {
    fn new(unit: Unit) -> Self {
        Self { unit, client: None, is_asked: false, last: None, rate: None }
    }

    /// Asks, unless it has still not answered.
    fn ask(&mut self) -> Result<(), Failure> {
        if self.is_asked {
            return Ok(());
        }
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(Client::connect(&self.unit)?),
        };
        client.ask("Describe", Nothing {})?;
        self.is_asked = true;
        Ok(())
    }

    /// Reads what has come. Whether that is an answer.
    fn hear(&mut self) -> Result<bool, Failure> {
        let Some(client) = &mut self.client else { return Ok(false) };
        client.fill()?;
        let Some(now) = client.try_next_reply::<Snapshot>()? else { return Ok(false) };
        self.rate = self.last.as_ref().and_then(|before| rate(before, &now));
        self.last = Some(now);
        self.is_asked = false;
        Ok(true)
    }

    /// It has gone; it may come again.
    fn lose(&mut self) {
        *self = Row::new(self.unit.clone());
    }
}

/// Connections per second, unless it was another daemon that counted.
fn rate(before: &Snapshot, now: &Snapshot) -> Option<f64> {
    let span = now.runtime.now_usec.checked_sub(before.runtime.now_usec).filter(|span| *span > 0)?;
    let new = now.runtime.accepted.checked_sub(before.runtime.accepted)?;
    Some(new as f64 * 1e6 / span as f64)
}

impl<'a> Top<'a> {
    /// All answer once, so that what cannot be asked is said before the screen is taken.
    fn new(name: Option<&'a str>, globals: &'a Globals) -> Result<Self, Failure> {
        let mut rows: Vec<_> = units::one_or_all(name, globals)?.into_iter().map(Row::new).collect();
        units::each(&mut rows, |row| {
            row.ask()?;
            while !row.hear()? {}
            Ok(())
        })
        .or_else(|failure| if failure.exit == Exit::Partly { Ok(()) } else { Err(failure) })?;
        Ok(Self { name, globals, rows, connections: Vec::new() })
    }

    /// Asks all that there are now. Those that have gone are forgotten, unless one was named.
    fn tick(&mut self) -> Result<(), Failure> {
        if self.name.is_none() {
            let now = units::all(self.globals)?;
            let mut before = std::mem::take(&mut self.rows);
            let row = |unit| match before.iter().position(|row| row.unit == unit) {
                Some(at) => before.swap_remove(at),
                None => Row::new(unit),
            };
            self.rows = now.into_iter().map(row).collect();
        }
        for row in &mut self.rows {
            if row.ask().is_err() {
                row.lose();
            }
        }
        Ok(())
    }

    fn in_place(&mut self, mut screen: Screen) -> Result<(), Failure> {
        self.list_connections(screen.size().0);
        let mut next = Instant::now() + TICK;
        loop {
            let (rows, columns) = screen.size();
            screen.draw(&self.lines(rows, columns))?;
            let (mut has_changed, mut is_over) = (false, false);
            while !has_changed && !is_over {
                let asked: Vec<usize> = (0..self.rows.len()).filter(|at| self.rows[*at].is_asked).collect();
                let fds: Vec<_> = asked.iter().filter_map(|at| Some(self.rows[*at].client.as_ref()?.fd())).collect();
                match screen.wait(next, &fds)? {
                    Event::Quit => return Ok(()),
                    Event::Redraw => has_changed = true,
                    Event::Time => is_over = true,
                    Event::Readable(those) => {
                        for at in those.into_iter().filter_map(|at| asked.get(at)) {
                            let heard = self.rows[*at].hear();
                            if heard.is_err() {
                                self.rows[*at].lose();
                            }
                            has_changed |= heard != Ok(false);
                        }
                        // Of one unit alone, whose daemon has just answered.
                        if has_changed {
                            self.list_connections(rows);
                        }
                    }
                }
            }
            if is_over {
                self.tick()?;
                next = Instant::now() + TICK;
            }
        }
    }

    /// A line for each unit, each second, below one that names the columns.
    fn in_lines(&mut self) -> Result<(), Failure> {
        let header = self.table().lines(None).swap_remove(0);
        output::print(&format!("{:<23}  {header}\n", "TIME"))?;
        loop {
            let next = Instant::now() + TICK;
            let lines = self.table().lines(None);
            let at = words::date(words::now_usec());
            let text: String = lines.iter().skip(1).map(|line| format!("{at}  {line}\n")).collect();
            output::print(&text)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            self.tick()?;
            for row in &mut self.rows {
                while row.is_asked {
                    if row.hear().is_err() {
                        row.lose();
                    }
                }
            }
        }
    }

    /// As many of one unit's as are shown, those that run longest.
    fn list_connections(&mut self, rows: usize) {
        self.connections.clear();
        let ([row], true) = (&self.rows[..], self.name.is_some()) else { return };
        if row.last.is_none() {
            return;
        }
        let _ = Client::connect(&row.unit).and_then(|mut client| {
            client.list("ListConnections", Nothing {}, |of: OfConnection| {
                self.connections.extend(of.connection);
                Ok(self.connections.len() < rows)
            })
        }); // those that have come are shown
    }

    fn table(&self) -> Table {
        let mut table = Table::new(HEADER);
        for row in &self.rows {
            table.row(match &row.last {
                Some(snapshot) => cells(&row.unit, snapshot, row.rate),
                None => [&row.unit.name, "no answer", "", "", "", "", "", "", ""].map(str::to_owned).to_vec(),
            });
        }
        table
    }

    /// The screen.
    fn lines(&self, rows: usize, columns: usize) -> Vec<String> {
        let head = format!("sockcapctl top, q quits - {}", words::date(words::now_usec()));
        let mut lines = vec![head, String::new()];
        match (self.name, &self.rows[..]) {
            (Some(_), [Row { unit, last: Some(snapshot), .. }]) => {
                let text = status::text(&unit.name, snapshot, Paint::none(), Some(columns));
                // The rest belongs to connections.
                lines.extend(text.lines().take((rows / 2).max(4)).map(str::to_owned));
                lines.push(String::new());
                let now = words::now_usec();
                let mut table = Table::new(tables::CONNECTIONS);
                self.connections.iter().for_each(|one| table.row(tables::connection(one, now)));
                let active = snapshot.runtime.active as usize;
                lines.extend(fitting(table.lines(Some(columns)), rows.saturating_sub(lines.len()), active));
            }
            _ => {
                let room = rows.saturating_sub(lines.len());
                lines.extend(fitting(self.table().lines(Some(columns)), room, self.rows.len()));
            }
        }
        lines
    }
}

/// As many lines as there is room for; the last one says how many of `all` are not shown.
fn fitting(mut lines: Vec<String>, room: usize, all: usize) -> Vec<String> {
    if lines.len() > room || all + 1 > lines.len() {
        lines.truncate(room.saturating_sub(1));
        let more = (all + 1).saturating_sub(lines.len());
        lines.push(format!("and {more} more"));
    }
    lines
}

fn cells(unit: &Unit, snapshot: &Snapshot, rate: Option<f64>) -> Vec<String> {
    let runtime = &snapshot.runtime;
    let max = snapshot.context.limits.max_connections.unwrap_or(0);
    let (bar, active) = match max {
        0 => (String::new(), runtime.active.to_string()),
        max => (bar(runtime.active.into(), max.into(), BAR), format!("{}/{max}", runtime.active)),
    };
    let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.*}", usize::from(rate < 10.0)));
    vec![
        unit.name.clone(),
        state(runtime.phase).to_owned(),
        bar,
        active,
        (u64::from(runtime.held) + u64::from(runtime.queued)).to_string(),
        runtime.oldest_wait_usec.map_or_else(|| "-".to_owned(), words::span),
        rate,
        runtime.served.to_string(),
        words::sum(&runtime.refused).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Context, Limits, Runtime};

    fn snapshot(accepted: u64, now_usec: u64) -> Snapshot {
        let limits = Limits { max_connections: Some(10), ..Limits::default() };
        Snapshot {
            context: Context { limits, ..Context::default() },
            runtime: Runtime { accepted, now_usec, active: 5, ..Runtime::default() },
        }
    }

    fn top<'a>(name: Option<&'a str>, globals: &'a Globals, units: usize) -> Top<'a> {
        let row = |n: usize| Row {
            last: Some(snapshot(7, 1_000_000)),
            rate: Some(2.5),
            ..Row::new(Unit { name: format!("unit-{n}"), path: "/x".into() })
        };
        Top { name, globals, rows: (0..units).map(row).collect(), connections: Vec::new() }
    }

    #[test]
    fn rates_are_of_one_daemon() {
        assert_eq!(rate(&snapshot(10, 1_000_000), &snapshot(15, 3_000_000)), Some(2.5));
        assert_eq!(rate(&snapshot(10, 1_000_000), &snapshot(15, 1_000_000)), None);
        assert_eq!(rate(&snapshot(10, 1_000_000), &snapshot(3, 3_000_000)), None);
    }

    #[test]
    fn units_fit_a_screen() {
        let globals = Globals::default();
        let lines = top(None, &globals, 2).lines(24, 80);
        let expected = "unit-0  running  [##---]    5/10        0        -    2.5       0        0";
        assert_eq!((lines.len(), lines[3].as_str()), (5, expected));
        let many = top(None, &globals, 100).lines(24, 80);
        assert_eq!((many.len(), many[23].as_str()), (24, "and 80 more"));
        assert!(many.iter().all(|line| line.chars().count() <= 80), "{many:#?}");
    }

    #[test]
    fn one_unit_has_its_connections_below() {
        let globals = Globals::default();
        let mut top = top(Some("unit-0"), &globals, 1);
        let connection = |id| Connection { id: Some(id), source: "192.0.2.1".into(), ..Connection::default() };
        top.connections = (0..5).map(connection).collect();
        let lines = top.lines(24, 80);
        assert!(lines.iter().any(|line| line.starts_with("ID  PID  SOURCE")), "{lines:#?}");
        assert!(lines.last().unwrap().contains("192.0.2.1") && lines.len() <= 24, "{lines:#?}");
        top.rows[0].last.as_mut().unwrap().runtime.active = 100;
        top.connections = (0..24).map(connection).collect();
        let lines = top.lines(24, 80);
        assert!(lines.len() == 24 && lines[23].starts_with("and ") && lines[23].ends_with(" more"), "{lines:#?}");
    }
}
