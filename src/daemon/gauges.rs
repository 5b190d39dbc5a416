//! What limits depend on outside of this program, and whether it lets only one command run.
#![forbid(unsafe_code)]

use crate::child::pressure::Pressure;
use crate::policy::episode::{Edge, Episode};
use crate::policy::limit::rule::{Gauge, Reading};
use crate::policy::reason::{Reason, Refusal};
use std::time::{Duration, Instant};

/// All gauges.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) pressure: Pressure,
    /// While no second and further command is started for what they show.
    pub(super) closed: Episode,
    /// By the limit that was the first to say so.
    closed_by: Option<Reason>,
}

/// What is to be told of an episode.
#[derive(Debug)]
pub(super) enum Told {
    /// It has begun.
    Closed(Refusal),
    /// It is over.
    Open { reason: Reason, lasted: Duration },
}

impl Gauges {
    /// Those that are opened.
    pub(super) fn new(pressure: Pressure) -> Gauges {
        Gauges { pressure, ..Gauges::default() }
    }

    /// Reads one.
    pub(super) fn read(&mut self, gauge: Gauge) -> Reading {
        match gauge {
            Gauge::Load => Reading::Load(load_average()),
            Gauge::Pressure => Reading::Pressure(self.pressure.read()),
        }
    }

    /// Notes what lets no second and further command start now. It is told once it matters, with a command running.
    pub(super) fn note(&mut self, now: Instant, closed: Option<Refusal>, is_running: bool) -> Option<Told> {
        let matters = is_running || self.closed.is_on();
        match (self.closed.note(now, closed.is_some() && matters), closed) {
            (Some(Edge::Begun), Some(refusal)) => {
                self.closed_by = Some(refusal.reason);
                Some(Told::Closed(refusal))
            }
            (Some(Edge::Over(lasted)), _) => self.closed_by.take().map(|reason| Told::Open { reason, lasted }),
            _ => None,
        }
    }
}

/// The 1-minute load average. The file is what the administrator sees (LXCFS gives a container its own); `ProcSubset=pid` hides
/// it, and then the kernel tells (sysinfo(2)). A system with neither has no load.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let told = text.split(' ').next().and_then(|first| first.parse().ok());
    told.or_else(|| nix::sys::sysinfo::sysinfo().ok().map(|info| info.load_average().0)).unwrap_or(0.0)
}
