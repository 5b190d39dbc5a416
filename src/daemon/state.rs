//! The daemon's own numbers in the ledger, so that counters and connection numbers go on from one daemon to the next.
#![forbid(unsafe_code)]

use crate::child::ledger::{Ledger, SavedState, key};
use crate::listen::adopt::StoredClient;
use crate::observe::tally::{Books, Counters, Tally};
use crate::policy::arrival::ListenerId;
use crate::policy::reason::Reason;
use std::os::fd::OwnedFd;

/// What an earlier daemon has left to this one.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    /// Clients that were waiting, in their order.
    pub(super) held: Vec<StoredClient>,
    /// What it wrote down.
    pub(super) state: Option<OwnedFd>,
}

/// No count comes this far, and sums of such counts fit.
const MAX_COUNT: u64 = 1 << 53;
/// In the order in which [`note`] writes them; the refusals come after them, by reason.
const NAMES: [&str; 7] = ["next-id", "next-ticket", "accepted", "served", "gone", "longest-wait-usec", "untracked"];

/// What a daemon goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) next_id: u64,
    pub(super) next_ticket: u64,
    pub(super) counters: Counters,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { next_id: 1, next_ticket: 0, counters: Counters::default() }
    }
}

/// Gives all numbers their keys, so that [`note`] has only to write them.
pub(super) fn name(ledger: &Ledger) {
    let names = NAMES.into_iter().map(|name| key("number", name));
    let reasons = Reason::ALL.into_iter().map(|reason| key("refused", reason.slug()));
    let dry = Reason::ALL.into_iter().map(|reason| key("would-refuse", reason.slug()));
    names.chain(reasons).chain(dry).enumerate().for_each(|(nth, key)| ledger.name(nth, key));
}

/// Writes all numbers: some two dozen words of memory.
pub(super) fn note(ledger: &Ledger, next_id: u64, next_ticket: u64, counters: &Counters) {
    let Counters { total: Tally { accepted, served, gone, refused }, longest_wait_usec, would_refuse, untracked } =
        *counters;
    let numbers = [next_id, next_ticket, accepted, served, gone, longest_wait_usec, untracked];
    numbers
        .into_iter()
        .chain(refused)
        .chain(would_refuse)
        .enumerate()
        .for_each(|(nth, number)| ledger.note(nth, number));
}

/// What an earlier daemon noted; from the beginning, if that cannot be true.
pub(super) fn read(past: &SavedState) -> Numbers {
    let number = |of, name| past.number(key(of, name)).unwrap_or(0);
    let [next_id, next_ticket, accepted, served, gone, longest_wait_usec, untracked] =
        NAMES.map(|name| number("number", name));
    let refused = Reason::ALL.map(|reason| number("refused", reason.slug()));
    let would_refuse = Reason::ALL.map(|reason| number("would-refuse", reason.slug()));
    let all = [next_id, next_ticket, accepted, served, gone, longest_wait_usec, untracked];
    if all.into_iter().chain(refused).chain(would_refuse).any(|number| number > MAX_COUNT) || next_id == 0 {
        return Numbers::default();
    }
    Numbers {
        next_id,
        next_ticket,
        counters: Counters {
            total: Tally { accepted, served, gone, refused },
            longest_wait_usec,
            would_refuse,
            untracked,
        },
    }
}

/// What an earlier daemon has left, in total or of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remains {
    /// Commands that run.
    pub(super) running: u64,
    /// Commands that have ended since, unseen.
    pub(super) ended: u64,
    /// Clients that wait.
    pub(super) waiting: u64,
}

impl Remains {
    /// The counts once these are known. Whoever else is missing has gone: it waited, and left or lost its connection meanwhile. A
    /// daemon that was killed may have counted less than it began.
    pub(super) fn balance(self, mut tally: Tally) -> Tally {
        tally.served += self.ended;
        let known = tally.over() + self.running + self.waiting;
        tally.accepted = tally.accepted.max(known);
        tally.gone += tally.accepted - known;
        tally
    }
}

/// What an earlier daemon has left.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) total: Remains,
    /// By [`ListenerId`]. Some commands have none that is known.
    listeners: Vec<Remains>,
}

impl Inventory {
    /// Nothing, at so many listeners.
    pub(super) fn new(listeners: usize) -> Inventory {
        Inventory { total: Remains::default(), listeners: vec![Remains::default(); listeners] }
    }

    /// Counts something of this listener, if it is known.
    pub(super) fn count(&mut self, listener: Option<ListenerId>, count: impl Fn(&mut Remains)) {
        count(&mut self.total);
        listener.and_then(|id| self.listeners.get_mut(id)).into_iter().for_each(count);
    }

    /// The books of a daemon that goes on from these numbers with what is left.
    pub(super) fn books(&self, numbers: &Numbers) -> Books {
        let counters = Counters { total: self.total.balance(numbers.counters.total), ..numbers.counters };
        let listeners = self.listeners.iter().map(|remains| remains.balance(Tally::default())).collect();
        Books { counters, listeners }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd(ledger: &Ledger) -> OwnedFd {
        ledger.fd().unwrap().try_clone_to_owned().unwrap()
    }

    #[test]
    fn numbers_are_read_as_they_were_noted_or_not_at_all() {
        let ledger = Ledger::new(1);
        let read_again = || read(&Ledger::reopen(fd(&ledger)).unwrap().1);
        assert_eq!(read_again(), Numbers::default());
        name(&ledger);
        let total = Tally { accepted: 20, served: 9, gone: 1, ..Tally::default() };
        let mut counters = Counters { total, longest_wait_usec: 1500, ..Counters::default() };
        counters.total.refused[Reason::START_FAILED.index()] = 3;
        note(&ledger, 18, 40, &counters);
        name(&ledger);
        assert_eq!(read_again(), Numbers { next_id: 18, next_ticket: 40, counters });
        for made_up in [0, MAX_COUNT + 1, u64::MAX - 1] {
            note(&ledger, made_up, 40, &counters);
            assert_eq!(read_again(), Numbers::default(), "{made_up}");
        }
    }

    #[test]
    fn nobody_is_forgotten_and_nobody_is_made_up() {
        let tally = Tally { accepted: 20, served: 9, gone: 1, ..Tally::default() };
        let sums = |running, ended, waiting| {
            let Tally { accepted, served, gone, .. } = Remains { running, ended, waiting }.balance(tally);
            assert_eq!(accepted, served + gone + running + waiting);
            (accepted, served, gone)
        };
        assert_eq!(sums(4, 2, 4), (20, 11, 1));
        assert_eq!(sums(4, 2, 1), (20, 11, 4), "three who waited have gone");
        assert_eq!(sums(9, 2, 0), (21, 11, 1), "one was started and not yet counted");
    }
}
