//! The one table of metrics: name, kind, help, labels, and how each is read from a snapshot of a daemon.
//!
//! No label takes values that clients choose. Rows by listener add up to the total of the daemon: what belongs to none that is open now,
//! such as a command found again after a restart whose listener is not known, is in a row with an empty `listener`. Counters have a
//! row from the beginning, wherever the values of their labels are known beforehand: a rate needs the 0 before the 1.
#![forbid(unsafe_code)]

use crate::observe::snapshot::{Count, Histogram, Listener, Phase, Snapshot};
use crate::policy::reason::Reason;

/// What a metric may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the daemon begins anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Spans of time in buckets.
    Histogram,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Count(u64),
    /// Microseconds.
    Usec(u64),
    /// Buckets.
    Histogram(&'a Histogram),
}

/// A value, and those of the metric's labels in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// One for each of [`Metric::labels`].
    pub labels: Vec<&'a str>,
    /// How much.
    pub value: Value<'a>,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Without `sockcap_` before it and `_total` after it.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// A sentence without its full stop.
    pub help: &'static str,
    /// Names of its labels, `unit` left out, which all have.
    pub labels: &'static [&'static str],
    /// Its rows in a snapshot. No row: there is no such value, as for a limit that is not set.
    pub rows: for<'a> fn(&'a Snapshot) -> Vec<Row<'a>>,
}

impl Metric {
    /// Its name in an exposition: `sockcap_connections_accepted_total`.
    pub fn full_name(&self) -> String {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("sockcap_{}{total}", self.name)
    }

    /// Base unit of its values, if they have one.
    pub fn unit(&self) -> Option<&'static str> {
        self.name.ends_with("_seconds").then_some("seconds")
    }
}

/// All of them.
pub static METRICS: [Metric; 28] = [
    Metric {
        name: "build_info",
        kind: Kind::Gauge,
        help: "Always 1; the version is that of the running daemon",
        labels: &["version"],
        rows: |s| vec![Row { labels: vec![&s.context.version], value: Value::Count(1) }],
    },
    Metric {
        name: "start_time_seconds",
        kind: Kind::Gauge,
        help: "When the daemon was started, in seconds since 1970",
        labels: &[],
        rows: |s| one(Value::Usec(s.runtime.started_usec)),
    },
    Metric {
        name: "connections_accepted",
        kind: Kind::Counter,
        help: "Connections accepted: those served, refused and gone, and those active and held now",
        labels: &["listener"],
        rows: |s| by_listener(s, s.runtime.accepted, |listener| listener.accepted),
    },
    Metric {
        name: "connections_served",
        kind: Kind::Counter,
        help: "Connections whose command has ended",
        labels: &["listener"],
        rows: |s| by_listener(s, s.runtime.served, |listener| listener.served),
    },
    Metric {
        name: "connections_refused",
        kind: Kind::Counter,
        help: "Connections refused, by reason",
        labels: &["listener", "reason"],
        rows: refused,
    },
    Metric {
        name: "connections_gone",
        kind: Kind::Counter,
        help: "Connections whose client left before it was served or refused",
        labels: &["listener"],
        rows: |s| by_listener(s, s.runtime.gone, |listener| listener.gone),
    },
    Metric {
        name: "connections_would_refuse",
        kind: Kind::Counter,
        help: "Connections that --dry-run let in though a limit would have refused them, by reason",
        labels: &["reason"],
        rows: would_refuse,
    },
    Metric {
        name: "connections_active",
        kind: Kind::Gauge,
        help: "Commands that run now",
        labels: &["listener"],
        rows: |s| by_listener(s, s.runtime.active.into(), |listener| listener.active.into()),
    },
    Metric {
        name: "connections_limit",
        kind: Kind::Gauge,
        help: "Commands that may run at once: in total, and at a listener; no row if there is no limit",
        labels: &["limit", "listener"],
        rows: limits,
    },
    Metric {
        name: "connections_waiting",
        kind: Kind::Gauge,
        help: "Clients that wait now: held by sockcap, or still in the kernel's queue, where it can be read",
        labels: &["listener", "place"],
        rows: waiting,
    },
    Metric {
        name: "waiting_limit",
        kind: Kind::Gauge,
        help: "Clients that may be held at once; no row if there is no limit",
        labels: &[],
        rows: |s| {
            s.context.limits.max_waiting.filter(|max| *max > 0).map_or(vec![], |max| one(Value::Count(max.into())))
        },
    },
    Metric {
        name: "wait_limit_seconds",
        kind: Kind::Gauge,
        help: "How long a client may wait before it is refused; no row if there is no limit",
        labels: &[],
        rows: |s| s.context.limits.max_wait_usec.filter(|max| *max > 0).map_or(vec![], |max| one(Value::Usec(max))),
    },
    Metric {
        name: "oldest_wait_seconds",
        kind: Kind::Gauge,
        help: "How long the client that is held longest has waited; 0 if none is held",
        labels: &[],
        rows: |s| one(Value::Usec(s.runtime.oldest_wait_usec.unwrap_or(0))),
    },
    Metric {
        name: "wait_seconds",
        kind: Kind::Histogram,
        help: "How long clients waited, by what became of them",
        labels: &["outcome"],
        rows: |s| {
            let known = s.runtime.wait_times.iter().filter(|times| !times.counts.is_empty());
            known.map(|times| Row { labels: vec![&times.name], value: Value::Histogram(times) }).collect()
        },
    },
    Metric {
        name: "session_seconds",
        kind: Kind::Histogram,
        help: "How long commands ran",
        labels: &[],
        rows: |s| match &s.runtime.session_times {
            times if times.counts.is_empty() => vec![],
            times => one(Value::Histogram(times)),
        },
    },
    Metric {
        name: "time_limit_seconds",
        kind: Kind::Gauge,
        help: "How long a command may run (--time-limit); no row if there is no limit",
        labels: &[],
        rows: |s| Some(s.context.time_limit_usec).filter(|max| *max > 0).map_or(vec![], |max| one(Value::Usec(max))),
    },
    Metric {
        name: "commands_ended",
        kind: Kind::Counter,
        help: "Commands that ended, by result",
        labels: &["result"],
        rows: |s| counts(&["ok", "failed", "signal", "time-limit", "oom", "stopped", "unknown"], &s.runtime.ended),
    },
    Metric {
        name: "start_failures",
        kind: Kind::Counter,
        help: "Commands that could not be started, by error",
        labels: &["error"],
        rows: |s| counts(&[], &s.runtime.start_failures),
    },
    Metric {
        name: "accept_errors",
        kind: Kind::Counter,
        help: "Connections that could not be accepted, by class of error",
        labels: &["class"],
        rows: |s| counts(&["gone", "exhausted", "forbidden", "broken"], &s.runtime.accept_errors),
    },
    Metric {
        name: "sources_active",
        kind: Kind::Gauge,
        help: "Sources (addresses, networks, users) for which commands run now",
        labels: &[],
        rows: |s| one(Value::Count(s.runtime.sources_active.into())),
    },
    Metric {
        name: "sources_penalised",
        kind: Kind::Gauge,
        help: "Sources that are refused now because of how their commands ended",
        labels: &[],
        rows: |s| one(Value::Count(s.runtime.sources_penalised.into())),
    },
    Metric {
        name: "source_table_entries",
        kind: Kind::Gauge,
        help: "Sources that --max-rate-per-source and --penalty remember",
        labels: &[],
        rows: |s| one(Value::Count(s.runtime.source_table_entries.into())),
    },
    Metric {
        name: "source_table_limit",
        kind: Kind::Gauge,
        help: "Sources that can be remembered (--max-sources)",
        labels: &[],
        rows: |s| one(Value::Count(s.context.max_sources)),
    },
    Metric {
        name: "source_table_overflow",
        kind: Kind::Counter,
        help: "Clients let in without being remembered, since the table of sources was full of those being limited",
        labels: &[],
        rows: |s| one(Value::Count(s.runtime.source_table_overflow)),
    },
    Metric {
        name: "gate_closed",
        kind: Kind::Gauge,
        help: "1 while the load or pressure of the machine lets no second command start",
        labels: &["gate"],
        rows: |s| {
            let is_closed = |gate: &str| s.runtime.gates_closed.iter().any(|closed| closed == gate);
            let row = |gate| Row { labels: vec![gate], value: Value::Count(is_closed(gate).into()) };
            ["load", "cpu", "memory", "io"].map(row).to_vec()
        },
    },
    Metric {
        name: "listener_paused",
        kind: Kind::Gauge,
        help: "1 while nothing is accepted: no command could start, or accepting has failed",
        labels: &["listener"],
        rows: |s| {
            let row = |listener: &'_ Listener| Value::Count(listener.is_paused.into());
            let listeners = s.runtime.listeners.iter();
            listeners.map(|listener| Row { labels: vec![&listener.label], value: row(listener) }).collect()
        },
    },
    Metric {
        name: "draining",
        kind: Kind::Gauge,
        help: "1 while no further command is started, since sockcapctl drain or the end of the service asks for it",
        labels: &[],
        rows: |s| one(Value::Count((s.runtime.phase != Phase::Running).into())),
    },
    Metric {
        name: "log_entries_lost",
        kind: Kind::Counter,
        help: "Log entries that the journal or stderr did not take in time",
        labels: &[],
        rows: |s| one(Value::Count(s.runtime.log_entries_lost)),
    },
];

fn one(value: Value) -> Vec<Row> {
    vec![Row { labels: vec![], value }]
}

/// Another process has sent these numbers, perhaps.
fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn count_of(counts: &[Count], name: &str) -> u64 {
    sum(counts.iter().filter(|count| count.name == name).map(|count| count.count))
}

/// These names, and after them those that only the snapshot knows, since its daemon has another version.
fn names<'a>(known: impl Iterator<Item = &'a str>, counts: &'a [Count]) -> Vec<&'a str> {
    let mut names: Vec<&str> = known.collect();
    for count in counts {
        if !names.contains(&count.name.as_str()) {
            names.push(&count.name);
        }
    }
    names
}

fn counts<'a>(known: &[&'static str], counts: &'a [Count]) -> Vec<Row<'a>> {
    let row = |name: &'a str| Row { labels: vec![name], value: Value::Count(count_of(counts, name)) };
    names(known.iter().copied(), counts).into_iter().map(row).collect()
}

/// A row each, and one for what none of them accounts for.
fn by_listener(snapshot: &Snapshot, total: u64, of: fn(&Listener) -> u64) -> Vec<Row<'_>> {
    let listeners = &snapshot.runtime.listeners;
    let row = |name, count| Row { labels: vec![name], value: Value::Count(count) };
    let mut rows: Vec<Row> = listeners.iter().map(|listener| row(listener.label.as_str(), of(listener))).collect();
    let elsewhere = total.saturating_sub(sum(listeners.iter().map(of)));
    if elsewhere > 0 || rows.is_empty() {
        rows.push(row("", elsewhere));
    }
    rows
}

fn refused(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let listeners = &snapshot.runtime.listeners;
    let mut rows = Vec::new();
    for reason in names(Reason::ALL.iter().map(|reason| reason.slug()), &snapshot.runtime.refused) {
        let mut elsewhere = count_of(&snapshot.runtime.refused, reason);
        for listener in listeners {
            let count = count_of(&listener.refused, reason);
            elsewhere = elsewhere.saturating_sub(count);
            rows.push(Row { labels: vec![&listener.label, reason], value: Value::Count(count) });
        }
        if elsewhere > 0 || listeners.is_empty() {
            rows.push(Row { labels: vec!["", reason], value: Value::Count(elsewhere) });
        }
    }
    rows
}

/// Without --dry-run no rows but of what was, before it was left out.
fn would_refuse(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let is_tried = !snapshot.context.dry_run.is_empty();
    let limits = Reason::ALL.iter().filter(|reason| is_tried && reason.info().option.is_some());
    let names = names(limits.map(|reason| reason.slug()), &snapshot.runtime.would_refuse);
    let counts = names.into_iter().map(|name| (name, count_of(&snapshot.runtime.would_refuse, name)));
    let rows = counts.filter(|(_, count)| is_tried || *count > 0);
    rows.map(|(name, count)| Row { labels: vec![name], value: Value::Count(count) }).collect()
}

fn limits(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let total = ("total", "", snapshot.context.limits.max_connections.unwrap_or(0));
    let listeners = snapshot.runtime.listeners.iter().map(|listener| ("listener", &*listener.label, listener.max));
    let all = std::iter::once(total).chain(listeners).filter(|(_, _, max)| *max > 0);
    all.map(|(limit, name, max)| Row { labels: vec![limit, name], value: Value::Count(max.into()) }).collect()
}

fn waiting(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let mut rows = by_listener(snapshot, snapshot.runtime.held.into(), |listener| listener.held.into());
    rows.iter_mut().for_each(|row| row.labels.push("held"));
    for listener in &snapshot.runtime.listeners {
        if let Some(queued) = listener.queued {
            rows.push(Row { labels: vec![&listener.label, "kernel"], value: Value::Count(queued.into()) });
        }
    }
    rows
}
