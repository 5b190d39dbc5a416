//! A client that was accepted, as far as decisions depend on it.
#![forbid(unsafe_code)]

use super::source::Source;
use std::time::Instant;

/// Position of a listener in the daemon's table.
pub type ListenerId = usize;

/// Number of a connection, in the order of accept(2) over all listeners.
pub type Ticket = u64;

/// A client that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, and so its place in the order.
    pub ticket: Ticket,
    /// Where it came in.
    pub listener: ListenerId,
    /// Whom it is counted for.
    pub source: Source,
    /// Whether it is one of `--exempt`: limits on sources and rates do not apply to it, and it may take `--reserved` slots.
    pub is_exempt: bool,
    /// Since when it has waited: the end of the handshake, where that is known.
    pub since: Instant,
}
