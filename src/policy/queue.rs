//! The waiting: clients that were accepted and are held, one line per listener, first come first served.
//!
//! Numbers only; the connections themselves are the daemon's.
#![forbid(unsafe_code)]

use super::limit::ListenerId;
use std::collections::BTreeMap;
use std::time::Instant;

/// Number of a connection, in the order of accept(2) over all listeners.
pub type Ticket = u64;

/// The lines, and since when each client has waited.
#[derive(Debug)]
pub struct Queue {
    lines: Vec<BTreeMap<Ticket, Instant>>,
    len: u32,
}

impl Queue {
    /// One empty line for each listener.
    pub fn new(listeners: usize) -> Self {
        Queue { lines: vec![BTreeMap::new(); listeners], len: 0 }
    }

    /// A client takes its place, which its ticket gives: one that could not be started comes to the front again.
    pub fn enter(&mut self, listener: ListenerId, ticket: Ticket, since: Instant) {
        let new = self.lines[listener].insert(ticket, since).is_none();
        self.len += u32::from(new);
    }

    /// A client leaves, for whatever reason; `false` if it does not wait here.
    pub fn leave(&mut self, listener: ListenerId, ticket: Ticket) -> bool {
        let was_here = self.lines[listener].remove(&ticket).is_some();
        self.len -= u32::from(was_here);
        was_here
    }

    /// Who is next at this listener, and since when it has waited.
    pub fn head(&self, listener: ListenerId) -> Option<(Ticket, Instant)> {
        self.lines[listener].first_key_value().map(|(ticket, since)| (*ticket, *since))
    }

    /// How many wait, over all listeners.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Since when the longest waiting has waited. Within a line the first has, but for the kernel's
    /// milliseconds.
    pub fn longest(&self) -> Option<Instant> {
        (0..self.lines.len()).filter_map(|listener| self.head(listener)).map(|(_, since)| since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_per_listener_in_order_of_tickets() {
        let (mut queue, now) = (Queue::new(2), Instant::now());
        for ticket in [3, 5, 4] {
            queue.enter((ticket % 2) as usize, ticket, now + Duration::from_secs(ticket));
        }
        assert_eq!(queue.head(0).map(|(ticket, _)| ticket), Some(4));
        assert_eq!(queue.head(1).map(|(ticket, _)| ticket), Some(3));
        assert_eq!(queue.longest(), Some(now + Duration::from_secs(3)));
        assert!(!queue.leave(0, 3), "it waits at the other listener");
        assert!(queue.leave(1, 3));
        assert_eq!((queue.len(), queue.head(1).map(|(ticket, _)| ticket)), (2, Some(5)));
        queue.enter(1, 3, now);
        assert_eq!(queue.head(1), Some((3, now)), "back to the front");
    }
}
