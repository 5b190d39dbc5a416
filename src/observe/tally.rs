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

/// The counters of the daemon and of each listener, and which of them are still to be written down.
#[derive(Debug, Default)]
pub struct Books {
    counters: Counters,
    /// By [`ListenerId`]. The total has more: a command of an earlier daemon may have no listener that is known.
    listeners: Vec<Tally>,
    unwritten: Unwritten,
    unwritten_listeners: Vec<bool>,
}

/// What has changed since the numbers were written down last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Any number.
    pub any: bool,
    /// One by reason.
    pub refusals: bool,
}

impl Books {
    /// These counts, none of which is written down yet.
    pub fn new(counters: Counters, listeners: Vec<Tally>) -> Books {
        let unwritten_listeners = vec![true; listeners.len()];
        Books { counters, listeners, unwritten: Unwritten { any: true, refusals: true }, unwritten_listeners }
    }

    /// The daemon's.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Each listener's.
    pub fn listeners(&self) -> &[Tally] {
        &self.listeners
    }

    /// Counts in the total, and for this listener, if it is known.
    pub fn count(&mut self, listener: Option<ListenerId>, count: impl Fn(&mut Tally)) {
        count(&mut self.counters.total);
        self.unwritten.any = true;
        if let Some((id, tally)) = listener.and_then(|id| Some((id, self.listeners.get_mut(id)?))) {
            count(tally);
            self.unwritten_listeners[id] = true;
        }
    }

    /// Counts a refusal.
    pub fn count_refusal(&mut self, listener: Option<ListenerId>, reason: Reason) {
        self.count(listener, |tally| tally.refused[reason.index()] += 1);
        self.unwritten.refusals = true;
    }

    /// Counts one that `--dry-run` has let in.
    pub fn count_dry(&mut self, reason: Reason) {
        self.counters.would_refuse[reason.index()] += 1;
        self.unwritten = Unwritten { any: true, refusals: true };
    }

    pub(super) fn count_untracked(&mut self, clients: u32) {
        self.counters.untracked += u64::from(clients);
        self.unwritten.any = true;
    }

    pub(super) fn note_wait(&mut self, usec: u64) {
        if usec > self.counters.longest_wait_usec {
            self.counters.longest_wait_usec = usec;
            self.unwritten.any = true;
        }
    }

    /// What is to be written down, which is done with that. Listeners with [`Books::take_unwritten_listener`].
    pub fn take_unwritten(&mut self) -> Unwritten {
        std::mem::take(&mut self.unwritten)
    }

    /// Whether this listener's are to be written down, which is done with that.
    pub fn take_unwritten_listener(&mut self, id: ListenerId) -> bool {
        self.unwritten_listeners.get_mut(id).is_some_and(std::mem::take)
    }
}
