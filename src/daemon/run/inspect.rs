//! The daemon's settings and state as plain data, made when somebody asks.
#![forbid(unsafe_code)]

use super::{Daemon, realtime_usec};
use crate::listen::{DisplayAddr, Listener};
use crate::observe::snapshot::{
    self, Context, Count, Limits, ListenerLimit, RefusedSource, Runtime, Snapshot, SourceLimit,
};
use crate::observe::statistics::Histogram;
use crate::observe::tally::{Counters, Tally};
use crate::policy::grounds::Figures;
use crate::policy::limit::gcra::Rate;
use crate::policy::reason::{Reason, Refusal};
use std::time::{Duration, Instant};

/// Refused sources that are told.
const TOP: usize = 10;

/// Microseconds; as many as there are if there are too many.
pub(super) fn usec(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// When that was, in microseconds since 1970.
pub(super) fn since_usec(now: Instant, at: Instant) -> u64 {
    realtime_usec().saturating_sub(usec(now.saturating_duration_since(at)))
}

fn by_reason(counts: &[u64; Reason::ALL.len()]) -> Vec<Count> {
    let named = Reason::ALL.into_iter().map(|reason| (reason.slug(), counts[reason.index()]));
    counts_of(named)
}

fn counts_of(counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<Count> {
    counts.map(|(name, count)| Count { name: name.into(), count }).collect()
}

fn histogram(name: &str, of: &Histogram) -> snapshot::Histogram {
    let (bounds_usec, counts) = (of.bounds_usec().to_vec(), of.counts().to_vec());
    snapshot::Histogram { name: name.into(), bounds_usec, counts, sum_usec: of.sum_usec() }
}

/// What closes it, by the name that its option has for it.
fn gate_name(refusal: &Refusal) -> String {
    match refusal.grounds.figures {
        Figures::Pressure { resource, .. } => resource.name().into(),
        _ => refusal.reason.slug().into(),
    }
}

fn rate(rate: Option<Rate>) -> snapshot::Rate {
    let Some((count, per, burst)) = rate.map(Rate::parts) else { return snapshot::Rate::default() };
    snapshot::Rate { count, per_usec: usec(per), burst }
}

impl Daemon {
    /// All of it.
    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot { context: self.context(), runtime: self.runtime(now) }
    }

    fn context(&self) -> Context {
        let settings = &self.settings;
        let span = |span: Option<Duration>| span.map_or(0, usec);
        Context {
            version: env!("CARGO_PKG_VERSION").into(),
            unit: self.inquiry.unit.clone(),
            command: self.commands.program().into(),
            when_full: settings.when_full.to_string(),
            queue_order: settings.queue_order.to_string(),
            limits: self.limits(),
            time_limit_usec: span(settings.time_limit),
            idle_exit_usec: span(settings.idle_exit),
            max_sources: settings.max_sources.into(),
            proxy_protocol: settings.proxy_protocol,
            dry_run: settings.dry_run.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The limits that hold now.
    pub(super) fn limits(&self) -> Limits {
        let settings = &self.settings;
        let per_source = settings.max_per_source.iter().map(|(max, prefixes)| SourceLimit {
            max: *max,
            ipv4_prefix: prefixes.v4,
            ipv6_prefix: prefixes.v6,
        });
        let mut per_listener: Vec<ListenerLimit> = Vec::new();
        for listener in self.listeners.iter() {
            let (name, max) = (listener.name.to_string(), settings.max_of_listener(&listener.name));
            if max > 0 && per_listener.iter().all(|other| other.listener != name) {
                per_listener.push(ListenerLimit { listener: name, max });
            }
        }
        Limits {
            max_connections: Some(settings.max_connections),
            max_per_listener: Some(per_listener),
            max_per_source: Some(per_source.collect()),
            max_rate: Some(rate(settings.max_rate)),
            max_rate_per_source: Some(rate(settings.max_rate_per_source)),
            reserved: Some(settings.reserved),
            load_average: Some(settings.load_average.unwrap_or(0.0)),
            max_wait_usec: Some(settings.max_wait.map_or(0, usec)),
            max_waiting: Some(settings.max_waiting),
        }
    }

    /// The state.
    pub(super) fn runtime(&self, now: Instant) -> Runtime {
        let (census, queue, counters) = (self.gate.census(), self.gate.queue(), self.report.counters());
        let Counters { total, would_refuse, untracked, .. } = counters;
        let Tally { accepted, served, gone, ref refused } = *total;
        let phase = match (self.phase.is_running(), self.gate.is_drained(), self.is_drained()) {
            (false, ..) => snapshot::Phase::Stopping,
            (_, true, _) => snapshot::Phase::Drained,
            (.., true) => snapshot::Phase::Draining,
            _ => snapshot::Phase::Running,
        };
        let closed = self.gate.limits().all_closed(now, census.active);
        let (statistics, top) = (self.report.statistics(), self.report.refused_sources().most(TOP));
        Runtime {
            phase,
            started_usec: self.inquiry.started_usec,
            now_usec: realtime_usec(),
            active: census.active,
            held: queue.len() + self.waiting.preambles.len() as u32,
            queued: self.listeners.queued(),
            oldest_wait_usec: queue.longest().map(|since| usec(now.saturating_duration_since(since))),
            accepted,
            served,
            gone,
            refused: by_reason(refused),
            would_refuse: by_reason(would_refuse),
            ended: counts_of(statistics.results()),
            start_failures: counts_of(statistics.start_failures()),
            accept_errors: counts_of(self.listeners.accept_errors()),
            wait_times: statistics.wait_times().map(|(what, times)| histogram(what, times)).collect(),
            session_times: histogram("", statistics.session_times()),
            log_entries_lost: self.report.log_entries_lost(),
            sources_active: census.per_source.len() as u32,
            source_table_overflow: *untracked,
            source_table_entries: self.gate.remembered() as u32,
            sources_penalised: self.gate.penalised(now) as u32,
            gates_closed: closed.map(|refusal| gate_name(&refusal)).collect(),
            log_level: self.report.max_severity().number(),
            listeners: self.listeners.iter().enumerate().map(|(id, from)| self.listener(id, from)).collect(),
            top_refused: top.into_iter().map(|(of, count)| RefusedSource { source: of.short(), count }).collect(),
        }
    }

    fn listener(&self, id: usize, from: &Listener) -> snapshot::Listener {
        let Tally { accepted, served, gone, ref refused } = self.report.listeners()[id];
        snapshot::Listener {
            name: from.name.to_string(),
            label: from.label.clone(),
            address: DisplayAddr(&from.local).to_string(),
            is_paused: !self.listeners.is_watched(id),
            max: self.settings.max_of_listener(&from.name),
            active: self.gate.census().per_listener[id],
            held: self.waiting.count_of(id),
            queued: from.queued(),
            accepted,
            served,
            gone,
            refused: by_reason(refused),
        }
    }
}
