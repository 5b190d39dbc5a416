//! `status`: limits and how near they are, who waits, who was refused and why.
#![forbid(unsafe_code)]

use super::ask;
use super::failure::Failure;
use super::globals::Globals;
use super::limits;
use super::list::state;
use super::output::{self, Colour, Paint, visible};
use super::units;
use super::words::{self, Table};
use crate::observe::snapshot::{Phase, Runtime, Snapshot};
use std::fmt::Write;

/// Marks of a bar.
const BAR: usize = 10;

/// # Errors
/// As of asking; of several units those that answer are shown.
pub fn run(unit: Option<&str>, globals: &Globals) -> Result<(), Failure> {
    let units = units::one_or_all(unit, globals)?;
    let paint = Paint::new();
    let mut is_first = true;
    units::each(&units, |one| {
        if globals.json {
            return ask::describe_as_json(one, unit.is_some());
        }
        let snapshot = ask::describe(one)?;
        let gap = if std::mem::take(&mut is_first) { "" } else { "\n" };
        output::print(&format!("{gap}{}", text(&one.name, &snapshot, paint, output::width())))
    })
}

/// All that is shown of one unit; of a terminal that has a width, no line is longer.
pub fn text(name: &str, snapshot: &Snapshot, paint: Paint, width: Option<usize>) -> String {
    let Snapshot { context, runtime } = snapshot;
    let mut out = String::new();
    let unit = if context.unit.is_empty() { name } else { &context.unit };
    let colour = if runtime.phase == Phase::Running { Colour::Green } else { Colour::Yellow };
    let head =
        cut(&format!("{} - {}", visible(unit), visible(&context.command)), width.map(|width| width.saturating_sub(2)));
    let _ = writeln!(out, "{} {head}", paint.paint(colour, "\u{25cf}")); // writing to a String cannot fail
    let mut line = |name: &str, text: &str| {
        const INDENT: usize = 14;
        const MARGIN: usize = 13;
        let text = wrapped(text, width.map(|width| width.saturating_sub(INDENT)), INDENT);
        let _ = writeln!(out, "{name:>MARGIN$}: {text}", MARGIN = MARGIN - 1);
    };
    let since = runtime.now_usec.saturating_sub(runtime.started_usec);
    // The daemon tells since when it runs, and not since when it is drained.
    let runs = if runtime.phase == Phase::Running { "" } else { "; running" };
    line(
        "State",
        &format!(
            "{}{runs} since {}; {} ago",
            paint.paint(colour, state(runtime.phase)),
            words::date(runtime.started_usec),
            words::span(since)
        ),
    );
    line("Version", &visible(&context.version));
    line("Active", &active(snapshot, paint));
    line("Waiting", &waiting(snapshot, paint));
    line("Served", &format!("{} (accepted {}, gone {})", runtime.served, runtime.accepted, runtime.gone));
    line("Refused", &words::counts(&runtime.refused));
    for (name, counts) in [
        ("Would refuse", &runtime.would_refuse),
        ("Ended", &runtime.ended),
        ("Not started", &runtime.start_failures),
        ("Not accepted", &runtime.accept_errors),
    ] {
        if words::sum(counts) > 0 {
            line(name, &words::counts(counts));
        }
    }
    let in_force: Vec<_> = limits::told(&context.limits)
        .into_iter()
        .filter(|(name, value)| *name != "max-connections" && limits::is_limit(value))
        .map(|(name, value)| format!("{name} {}", visible(&value)))
        .collect();
    if !in_force.is_empty() {
        line("Limits", &in_force.join("; "));
    }
    if !runtime.gates_closed.is_empty() {
        let gates: Vec<_> = runtime.gates_closed.iter().map(|gate| visible(gate)).collect();
        line("Held back", &paint.paint(Colour::Yellow, &format!("by {}", gates.join(", "))));
    }
    line("Sources", &sources(runtime));
    if !runtime.top_refused.is_empty() {
        let top = runtime.top_refused.iter().map(|top| format!("{} ({})", visible(&top.source), top.count));
        line("Most refused", &top.collect::<Vec<_>>().join(", "));
    }
    if runtime.log_entries_lost > 0 {
        line("Log", &format!("{} entries lost", runtime.log_entries_lost));
    }
    if runtime.listeners.len() > 1 {
        out.push('\n');
        out.push_str(&listeners(runtime).text(width));
    }
    out
}

fn active(snapshot: &Snapshot, paint: Paint) -> String {
    let active = snapshot.runtime.active;
    let max = snapshot.context.limits.max_connections.unwrap_or(0);
    let reserved = match snapshot.context.limits.reserved.unwrap_or(0) {
        0 => String::new(),
        reserved => format!(", {reserved} reserved"),
    };
    match max {
        0 => format!("{active} (no limit)"),
        max => format!("{} {active}/{max}{reserved}", colour_bar(active, max, paint)),
    }
}

/// Red when it is full, yellow from four fifths on.
fn colour_bar(part: u32, whole: u32, paint: Paint) -> String {
    let (part, whole) = (u64::from(part), u64::from(whole));
    let colour = match part {
        full if full >= whole => Colour::Red,
        nearly if nearly * 5 >= whole * 4 => Colour::Yellow,
        _ => Colour::Green,
    };
    paint.paint(colour, &words::bar(part, whole, BAR))
}

fn waiting(snapshot: &Snapshot, paint: Paint) -> String {
    let Snapshot { context, runtime } = snapshot;
    let mut out = match context.limits.max_waiting.unwrap_or(0) {
        max if max > 0 && context.when_full == "wait" => {
            format!("{} {}/{max} held", colour_bar(runtime.held, max, paint), runtime.held)
        }
        _ => format!("{} held", runtime.held),
    };
    let _ = write!(out, ", {} in the kernel's queue", runtime.queued);
    if let Some(longest) = runtime.oldest_wait_usec {
        let _ = write!(out, "; longest wait {}", words::span(longest));
    }
    out
}

fn sources(runtime: &Runtime) -> String {
    let mut out = format!("{} active, {} remembered", runtime.sources_active, runtime.source_table_entries);
    if runtime.sources_penalised > 0 {
        let _ = write!(out, ", {} penalised", runtime.sources_penalised);
    }
    if runtime.source_table_overflow > 0 {
        let _ =
            write!(out, "; {} clients were not remembered, since the table was full", runtime.source_table_overflow);
    }
    out
}

fn listeners(runtime: &Runtime) -> Table {
    let mut table = Table::new(&["LISTENER", "ADDRESS", ">ACTIVE", ">HELD", ">QUEUED", ">SERVED", ">REFUSED", ">GONE"]);
    for listener in &runtime.listeners {
        let active = match listener.max {
            0 => listener.active.to_string(),
            max => format!("{}/{max}", listener.active),
        };
        table.row(vec![
            listener.label.clone(),
            listener.address.clone(),
            active,
            listener.held.to_string(),
            listener.queued.map_or_else(|| "-".to_owned(), |queued| queued.to_string()),
            listener.served.to_string(),
            words::sum(&listener.refused).to_string(),
            listener.gone.to_string(),
        ]);
    }
    table
}

fn cut(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if text.chars().count() > width => {
            text.chars().take(width.saturating_sub(1)).chain(['~']).collect()
        }
        _ => text.to_owned(),
    }
}

/// Broken at blanks, with further lines below the first. Escape sequences count as if they were seen, which breaks early at worst.
fn wrapped(text: &str, width: Option<usize>, indent: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Context, Count, Limits, Listener, Rate, RefusedSource};

    fn count(name: &str, count: u64) -> Count {
        Count { name: name.into(), count }
    }

    fn snapshot() -> Snapshot {
        let limits = Limits {
            max_connections: Some(10),
            max_rate: Some(Rate { count: 10, per_usec: 1_000_000, burst: 20 }),
            max_wait_usec: Some(60_000_000),
            ..Limits::default()
        };
        let context = Context {
            version: "0.1.0".into(),
            unit: "rsync-capped.service".into(),
            command: "/usr/bin/rsync".into(),
            when_full: "wait".into(),
            limits,
            ..Context::default()
        };
        let runtime = Runtime {
            started_usec: 1_795_946_400_000_000,
            now_usec: 1_795_946_592_000_000,
            active: 5,
            held: 3,
            queued: 2,
            oldest_wait_usec: Some(12_000_000),
            accepted: 1267,
            served: 1234,
            gone: 5,
            refused: vec![count("source-limit", 8), count("waited-too-long", 12)],
            top_refused: vec![RefusedSource { source: "192.0.2.7".into(), count: 12 }],
            sources_active: 4,
            listeners: vec![Listener { label: "rsync".into(), ..Listener::default() }],
            ..Runtime::default()
        };
        Snapshot { context, runtime }
    }

    #[test]
    fn it_reads_like_systemctl() {
        let expected = "\
\u{25cf} rsync-capped.service - /usr/bin/rsync
       State: running since 2026-11-29 10:00:00 UTC; 3min 12s ago
     Version: 0.1.0
      Active: [#####-----] 5/10
     Waiting: 3 held, 2 in the kernel's queue; longest wait 12s
      Served: 1234 (accepted 1267, gone 5)
     Refused: 20: 12 waited-too-long, 8 source-limit
      Limits: max-rate 10/1s:20; max-wait 1m
     Sources: 4 active, 0 remembered
Most refused: 192.0.2.7 (12)
";
        assert_eq!(text("rsync-capped", &snapshot(), Paint::none(), Some(80)), expected);
    }

    #[test]
    fn all_of_it_fits_and_nothing_moves_the_cursor() {
        let mut full = snapshot();
        let runtime = &mut full.runtime;
        (runtime.phase, runtime.active, runtime.log_entries_lost) = (Phase::Drained, 10, 7);
        (runtime.sources_penalised, runtime.source_table_overflow) = (2, 9);
        runtime.gates_closed = vec!["cpu".into(), "memory".into()];
        runtime.would_refuse = vec![count("max-rate", 3)];
        runtime.ended = vec![count("ok", 3), count("signal", 4)];
        (runtime.start_failures, runtime.accept_errors) = (vec![count("EAGAIN", 1)], vec![count("broken", 1)]);
        runtime.refused = (0..12).map(|n| count(&format!("reason\x1b[2J-{n}"), n)).collect();
        let source = |n| RefusedSource { source: format!("2001:db8:1111:2222:3333:4444:5555:{n:04x}\x1b"), count: n };
        runtime.top_refused = (0..10).map(source).collect();
        runtime.listeners = (0..3).map(|n| Listener { label: format!("rsync\n{n}"), ..Listener::default() }).collect();
        full.context.command = "/usr/bin/\x1b[31m".repeat(20);
        let text = text("rsync-capped", &full, Paint::none(), Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.contains("\n   Held back: by cpu, memory\n"), "{text}");
        let page = include_str!("../../docs/sockcapctl.md");
        for label in text.lines().filter_map(|line| line.get(..13)?.trim_start().strip_suffix(':')) {
            assert!(page.contains(&format!("`{label}`")), "{label} is not in the table of docs/sockcapctl.md");
        }
        assert!(text.contains("State: drained; running since 2026-"), "{text}");
    }

    #[test]
    fn without_a_limit_there_is_no_bar() {
        let mut open = snapshot();
        open.context.limits.max_connections = Some(0);
        assert!(text("x", &open, Paint::none(), None).contains("      Active: 5 (no limit)\n"));
        open.context.limits =
            Limits { max_connections: Some(10), reserved: Some(2), max_waiting: Some(6), ..Limits::default() };
        let text = text("x", &open, Paint::none(), None);
        assert!(text.contains("Active: [#####-----] 5/10, 2 reserved\n"), "{text}");
        assert!(text.contains("Waiting: [#####-----] 3/6 held"), "{text}");
    }
}
