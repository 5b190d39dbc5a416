//! The waiting: clients that were accepted and are held, one line per listener, first come first served.
//!
//! Numbers only; the connections themselves are the daemon's.
#![forbid(unsafe_code)]

pub use super::arrival::Ticket;

use super::arrival::{Arrival, ListenerId};
use std::collections::BTreeMap;
use std::time::Instant;

/// The lines.
#[derive(Debug)]
pub struct Queue {
    lines: Vec<BTreeMap<Ticket, Arrival>>,
    len: u32,
}

impl Queue {
    /// One empty line for each listener.
    pub fn new(listeners: usize) -> Self {
        Queue { lines: vec![BTreeMap::new(); listeners], len: 0 }
    }

    /// A client takes its place, which its ticket gives: one that could not be started comes to the front again.
    pub fn enter(&mut self, who: Arrival) {
        let new = self.lines[who.listener].insert(who.ticket, who).is_none();
        self.len += u32::from(new);
    }

    /// A client leaves, for whatever reason; `false` if it does not wait here.
    pub fn leave(&mut self, listener: ListenerId, ticket: Ticket) -> bool {
        let was_here = self.lines[listener].remove(&ticket).is_some();
        self.len -= u32::from(was_here);
        was_here
    }

    /// Who is next at this listener.
    pub fn head(&self, listener: ListenerId) -> Option<&Arrival> {
        self.lines[listener].first_key_value().map(|(_, who)| who)
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
        (0..self.lines.len()).filter_map(|listener| self.head(listener)).map(|who| who.since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::source::Source;
    use std::time::Duration;

    fn head(queue: &Queue, listener: ListenerId) -> Option<(Ticket, Instant)> {
        queue.head(listener).map(|who| (who.ticket, who.since))
    }

    #[test]
    fn a_line_per_listener_in_order_of_tickets() {
        let (mut queue, now) = (Queue::new(2), Instant::now());
        let arrival = |ticket, since| Arrival {
            ticket,
            listener: ticket as usize % 2,
            source: Source::Unknown,
            is_exempt: false,
            since,
        };
        for ticket in [3, 5, 4] {
            queue.enter(arrival(ticket, now + Duration::from_secs(ticket)));
        }
        assert_eq!(head(&queue, 0).map(|(ticket, _)| ticket), Some(4));
        assert_eq!(head(&queue, 1).map(|(ticket, _)| ticket), Some(3));
        assert_eq!(queue.longest(), Some(now + Duration::from_secs(3)));
        assert!(!queue.leave(0, 3), "it waits at the other listener");
        assert!(queue.leave(1, 3));
        assert_eq!((queue.len(), head(&queue, 1).map(|(ticket, _)| ticket)), (2, Some(5)));
        queue.enter(arrival(3, now));
        assert_eq!(head(&queue, 1), Some((3, now)), "back to the front");
    }
}
