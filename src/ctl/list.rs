//! `list`: the units that run, a line each.
#![forbid(unsafe_code)]

use super::ask;
use super::failure::Failure;
use super::globals::Globals;
use super::output;
use super::units::{self, Unit};
use super::words::{self, Table};
use crate::observe::snapshot::{Phase, Snapshot};

/// # Errors
/// One line of what could not be asked is on stderr by then; the others are listed.
pub fn run(globals: &Globals) -> Result<(), Failure> {
    let units = units::all(globals)?;
    if globals.json {
        return units::each(&units, |unit| ask::describe_as_json(unit, false));
    }
    if units.is_empty() {
        return output::print("No unit runs sockcap.\n");
    }
    let mut table = Table::new(HEADER);
    let asked = units::each(&units, |unit| {
        table.row(row(unit, &ask::describe(unit)?));
        Ok(())
    });
    if !table.is_empty() {
        output::print(&table.text(output::width()))?;
    }
    asked
}

/// What is told of a unit in one line.
pub const HEADER: &[&str] = &["UNIT", "STATE", ">ACTIVE", ">WAITING", ">LONGEST", ">SERVED", ">REFUSED", ">GONE"];

/// The line.
pub fn row(unit: &Unit, snapshot: &Snapshot) -> Vec<String> {
    let runtime = &snapshot.runtime;
    vec![
        unit.name.clone(),
        state(runtime.phase).to_owned(),
        active(snapshot),
        (u64::from(runtime.held) + u64::from(runtime.queued)).to_string(),
        runtime.oldest_wait_usec.map_or_else(|| "-".to_owned(), words::span),
        runtime.served.to_string(),
        words::sum(&runtime.refused).to_string(),
        runtime.gone.to_string(),
    ]
}

/// `running`
pub fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Draining => "draining",
        Phase::Drained => "drained",
        Phase::Stopping => "stopping",
        Phase::Other => "unknown", // newer than this program
    }
}

/// `5/10`, or `5` without a limit.
fn active(snapshot: &Snapshot) -> String {
    let active = snapshot.runtime.active;
    match snapshot.context.limits.max_connections.unwrap_or(0) {
        0 => active.to_string(),
        max => format!("{active}/{max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Context, Count, Limits, Runtime};

    #[test]
    fn a_line_fits() {
        let snapshot = Snapshot {
            context: Context {
                limits: Limits { max_connections: Some(10_000), ..Limits::default() },
                ..Context::default()
            },
            runtime: Runtime {
                phase: Phase::Drained,
                active: 10_000,
                held: 900,
                queued: 100,
                oldest_wait_usec: Some(192_000_000),
                served: 1_234_567,
                gone: 5,
                refused: vec![Count { name: "max-wait".into(), count: 7 }],
                ..Runtime::default()
            },
        };
        let unit = Unit { name: "rsync-capped".into(), path: "/x".into() };
        let mut table = Table::new(HEADER);
        table.row(row(&unit, &snapshot));
        assert_eq!(
            table.lines(Some(80)),
            [
                "UNIT          STATE         ACTIVE  WAITING   LONGEST   SERVED  REFUSED  GONE",
                "rsync-capped  drained  10000/10000     1000  3min 12s  1234567        7     5"
            ]
        );
    }
}
