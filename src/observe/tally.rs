//! What became of connections, counted: in total, and by the listener that they came in by.
#![forbid(unsafe_code)]

use crate::policy::arrival::ListenerId;
use crate::policy::reason::Reason;

/// What became of some connections. Of those that were accepted, whoever is none of the rest runs or is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken from the kernel's queue.
    pub accepted: u64,
    /// Given a command, which has ended since.
    pub served: u64,
    /// Found gone.
    pub gone: u64,
    /// Told to come back later, by reason.
    pub refused: [u64; Reason::ALL.len()],
}

impl Tally {
    /// Served, refused or gone.
    pub fn over(&self) -> u64 {
        self.served + self.gone + self.refused.iter().sum::<u64>()
    }

    /// Refused by a limit: all reasons but a command that failed to start.
    pub fn refused_by_limits(&self) -> u64 {
        self.refused.iter().sum::<u64>() - self.failed()
    }

    /// Connections whose command could not be started.
    pub fn failed(&self) -> u64 {
        self.refused[Reason::START_FAILED.index()]
    }
}

/// What became of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All of them.
    pub total: Tally,
    /// Would have been refused, but for `--dry-run`, by reason.
    pub would_refuse: [u64; Reason::ALL.len()],
    /// Not remembered by a limit whose table of sources was full.
    pub untracked: u64,
    /// Microseconds that the longest waiting of those served or refused had waited, as far as it was read.
    pub longest_wait_usec: u64,
}

/// The counters of the daemon and of each listener.
#[derive(Debug, Default)]
pub struct Books {
    /// The daemon's.
    pub counters: Counters,
    /// By [`ListenerId`]. The total has more: a command of an earlier daemon may have no listener that is known.
    pub listeners: Vec<Tally>,
}

impl Books {
    /// Of so many listeners at which nobody has come yet.
    pub fn new(listeners: usize) -> Books {
        Books { counters: Counters::default(), listeners: vec![Tally::default(); listeners] }
    }

    /// Counts in the total, and for this listener, if it is known.
    pub(super) fn count(&mut self, listener: Option<ListenerId>, count: impl Fn(&mut Tally)) {
        count(&mut self.counters.total);
        listener.and_then(|id| self.listeners.get_mut(id)).into_iter().for_each(count);
    }
}
