//! What the gate is asked with, and what it answers.
#![forbid(unsafe_code)]

use crate::policy::arrival::{ListenerId, Ticket};
use crate::policy::queue::QueueOrder;
use crate::policy::reason::{Reason, Refusal};
use crate::policy::source::Source;
use std::time::Duration;

/// What happens to a connection that a limit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Accept, tell, close.
    Refuse,
    /// Leave it in the kernel's queue, in order.
    Wait,
}

impl std::fmt::Display for WhenFull {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            WhenFull::Refuse => "refuse",
            WhenFull::Wait => "wait",
        })
    }
}

/// How clients are held that were accepted and cannot be admitted yet. The default holds nobody: those that a
/// limit does not allow are left in the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// `--max-wait`: who has waited so long, counted from the end of the handshake, is refused.
    pub max_wait: Option<Duration>,
    /// `--max-waiting`: who comes while so many wait is refused; 0 is no such limit.
    pub max_waiting: u32,
    /// How many may be held; the rest is left in the kernel's queue.
    pub capacity: u32,
    /// `--queue-order`: who of them is next.
    pub order: QueueOrder,
}

/// One command's place under every limit. It is charged whole and given back whole and once, so it is neither `Copy`
/// nor `Clone`: it goes in with a command, and comes back with its end ([`super::Gate::ended`]) or because it could not be
/// started ([`super::Gate::postponed`]).
#[must_use = "a slot that is not given back is lost until the next start"]
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    pub(super) listener: Option<ListenerId>,
    pub(super) source: Source,
    pub(super) is_exempt: bool,
}

impl Slot {
    /// Which listener it is counted for; `None` if that is not known, of a command that an earlier daemon started.
    pub fn listener(&self) -> Option<ListenerId> {
        self.listener
    }

    /// Which source it is counted for.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether its client is one of `--exempt`.
    pub fn is_exempt(&self) -> bool {
        self.is_exempt
    }
}

/// What becomes of a client that has just arrived.
#[must_use]
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Start its command.
    Admit(Slot),
    /// Keep it: it is in the queue now.
    Hold,
    /// Tell it, and close.
    Refuse(Refusal),
}

/// What is to be done besides: to clients that are held, and to listeners.
#[must_use]
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Start the command for this client, which was held.
    Admit(Ticket, Slot),
    /// Tell this client, which was held, and close.
    Refuse(Ticket, Refusal),
    /// Take this listener out of the poll set.
    Pause(ListenerId),
    /// Put this listener back.
    Resume(ListenerId),
    /// So many clients were not remembered by the limit of this reason: its table of sources is full of those that it limits.
    Untracked(Reason, u32),
}
