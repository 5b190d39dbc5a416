//! The daemon's own numbers in the ledger, so that counters and connection numbers go on from one daemon to the next.
#![forbid(unsafe_code)]

use crate::child::ledger::{Ledger, MAX_NUMBERS, SavedState, key};
use crate::listen::adopt::StoredClient;
use crate::observe::tally::{Books, Counters, Tally, Unwritten};
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
    /// Names of what was closed, since only another version knows it.
    pub(super) unknown: Vec<String>,
}

/// No count comes this far, and sums of such counts fit.
const MAX_COUNT: u64 = 1 << 53;
/// In the order in which [`note`] writes them; the refusals come after them, by reason.
const NAMES: [&str; 7] = ["next-id", "next-ticket", "accepted", "served", "gone", "longest-wait-usec", "untracked"];

/// What a daemon goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) next_id: u64,
    pub(super) next_ticket: u64,
    pub(super) counters: Counters,
    /// By [`ListenerId`].
    pub(super) listeners: Vec<Tally>,
}

impl Numbers {
    /// Of a daemon with so many listeners that begins.
    pub(super) fn new(listeners: usize) -> Numbers {
        Numbers {
            next_id: 1,
            next_ticket: 0,
            counters: Counters::default(),
            listeners: vec![Tally::default(); listeners],
        }
    }
}

const REASONS: usize = Reason::ALL.len();
/// Numbers of the daemon's, before those of listeners.
const TOTALS: usize = NAMES.len() + 2 * REASONS;
/// Accepted, served and gone, and the refusals.
const OF_A_LISTENER: usize = 3 + REASONS;
/// Listeners whose numbers there is room for. Those of the others begin anew with each daemon.
const MAX_LISTENERS: usize = (MAX_NUMBERS - TOTALS) / OF_A_LISTENER;
const _: () = assert!(MAX_LISTENERS >= 50);

/// The keys of one listener's numbers, in the order in which they are written.
fn listener_keys(label: &str) -> impl Iterator<Item = u64> {
    let counts = ["listener-accepted", "listener-served", "listener-gone"].map(|name| key(name, label));
    let reasons = Reason::ALL.map(|reason| key(&format!("listener-refused {}", reason.slug()), label));
    counts.into_iter().chain(reasons)
}

/// Gives all numbers their keys, so that [`note`] has only to write them.
pub(super) fn name<'a>(ledger: &Ledger, labels: impl Iterator<Item = &'a str>) {
    let names = NAMES.into_iter().map(|name| key("number", name));
    let reasons = Reason::ALL.into_iter().map(|reason| key("refused", reason.slug()));
    let dry = Reason::ALL.into_iter().map(|reason| key("would-refuse", reason.slug()));
    let listeners = labels.take(MAX_LISTENERS).flat_map(listener_keys);
    names.chain(reasons).chain(dry).chain(listeners).enumerate().for_each(|(nth, key)| ledger.name(nth, key));
}

/// Writes what has changed: a dozen words of memory, and two dozen more after a refusal.
pub(super) fn note(ledger: &Ledger, next_id: u64, next_ticket: u64, books: &mut Books) {
    let write = |from: usize, numbers: &[u64]| {
        numbers.iter().enumerate().for_each(|(nth, number)| ledger.note(from + nth, *number));
    };
    write(0, &[next_id, next_ticket]);
    let Unwritten { any, refusals } = books.take_unwritten();
    if !any {
        return;
    }
    let Counters { total, longest_wait_usec, ref would_refuse, untracked } = *books.counters();
    write(2, &[total.accepted, total.served, total.gone, longest_wait_usec, untracked]);
    if refusals {
        write(NAMES.len(), &total.refused);
        write(NAMES.len() + REASONS, would_refuse);
    }
    for id in 0..books.listeners().len().min(MAX_LISTENERS) {
        if books.take_unwritten_listener(id) {
            let (from, Tally { accepted, served, gone, ref refused }) =
                (TOTALS + id * OF_A_LISTENER, books.listeners()[id]);
            write(from, &[accepted, served, gone]);
            if refusals {
                write(from + 3, refused);
            }
        }
    }
}

/// What an earlier daemon noted of the total and of listeners of these labels; from the beginning, if that cannot be true.
pub(super) fn read<'a>(past: &SavedState, labels: impl Iterator<Item = &'a str>) -> Numbers {
    let number = |key| past.number(key).unwrap_or(0);
    let [next_id, next_ticket, accepted, served, gone, longest_wait_usec, untracked] =
        NAMES.map(|name| number(key("number", name)));
    let refused = Reason::ALL.map(|reason| number(key("refused", reason.slug())));
    let would_refuse = Reason::ALL.map(|reason| number(key("would-refuse", reason.slug())));
    let mut is_true = next_id > 0;
    let mut believe = |number: u64| is_true &= number <= MAX_COUNT;
    [next_id, next_ticket, longest_wait_usec, untracked].into_iter().chain(would_refuse).for_each(&mut believe);
    let mut tally = |accepted, served, gone, refused: [u64; REASONS]| {
        [accepted, served, gone].into_iter().chain(refused).for_each(&mut believe);
        Tally { accepted, served, gone, refused }
    };
    let total = tally(accepted, served, gone, refused);
    let of_listener = |label| {
        let mut numbers = listener_keys(label).map(number);
        let [accepted, served, gone] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
        tally(accepted, served, gone, std::array::from_fn(|_| numbers.next().unwrap_or(0)))
    };
    let listeners: Vec<Tally> = labels.map(of_listener).collect();
    match is_true {
        false => Numbers::new(listeners.len()),
        true => Numbers {
            next_id,
            next_ticket,
            counters: Counters { total, longest_wait_usec, would_refuse, untracked },
            listeners,
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
        let listeners = self.listeners.iter().zip(&numbers.listeners);
        Books::new(counters, listeners.map(|(remains, tally)| remains.balance(*tally)).collect())
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
        let labels = ["one", "two"];
        let read_again = |labels: &[&str]| read(&Ledger::reopen(fd(&ledger)).unwrap().1, labels.iter().copied());
        assert_eq!(read_again(&labels), Numbers::new(2));
        name(&ledger, labels.into_iter());
        let total = Tally { accepted: 20, served: 9, gone: 1, ..Tally::default() };
        let mut counters = Counters { total, longest_wait_usec: 1500, ..Counters::default() };
        counters.total.refused[Reason::START_FAILED.index()] = 3;
        let mut listeners = [total, counters.total];
        listeners[1].accepted = 21;
        let books = || Books::new(counters, listeners.to_vec());
        note(&ledger, 18, 40, &mut books());
        name(&ledger, labels.into_iter());
        let numbers = Numbers { next_id: 18, next_ticket: 40, counters, listeners: listeners.to_vec() };
        assert_eq!(read_again(&labels), numbers);
        let others = Numbers { listeners: vec![listeners[1], Tally::default(), listeners[0]], ..numbers };
        assert_eq!(read_again(&["two", "three", "one"]), others, "each has its own, wherever it is now");
        for made_up in [0, MAX_COUNT + 1, u64::MAX - 1] {
            note(&ledger, made_up, 40, &mut books());
            assert_eq!(read_again(&labels), Numbers::new(2), "{made_up}");
        }
        note(&ledger, 18, 40, &mut books());
        listeners[1].refused[2] = MAX_COUNT + 1;
        note(&ledger, 18, 40, &mut Books::new(counters, listeners.to_vec()));
        assert_eq!(read_again(&labels), Numbers::new(2));
    }

    /// Whatever is counted is written down in the same turn.
    #[test]
    fn each_change_is_noted() {
        let ledger = Ledger::new(1);
        name(&ledger, ["one", "two"].into_iter());
        let mut books = Books::new(Counters::default(), vec![Tally::default(); 2]);
        note(&ledger, 1, 0, &mut books);
        let changes: [fn(&mut Books); 4] = [
            |books| books.count(Some(1), |tally| tally.accepted += 1),
            |books| books.count_refusal(Some(0), Reason::QUEUE_FULL),
            |books| books.count_dry(Reason::QUEUE_FULL),
            |books| books.count(None, |tally| tally.served += 1),
        ];
        for change in changes {
            change(&mut books);
            note(&ledger, 1, 0, &mut books);
            let numbers = read(&Ledger::reopen(fd(&ledger)).unwrap().1, ["one", "two"].into_iter());
            assert_eq!((&numbers.counters, numbers.listeners.as_slice()), (books.counters(), books.listeners()));
        }
    }

    /// More listeners than there is room for begin anew, and spoil nothing.
    #[test]
    fn there_is_room_for_the_numbers_of_so_many_listeners() {
        let ledger = Ledger::new(1);
        let labels: Vec<String> = (0..MAX_LISTENERS + 3).map(|nth| format!("listener {nth}")).collect();
        let labels = || labels.iter().map(String::as_str);
        name(&ledger, labels());
        let tally = Tally { accepted: 7, served: 7, ..Tally::default() };
        note(&ledger, 1, 0, &mut Books::new(Counters::default(), vec![tally; MAX_LISTENERS + 3]));
        let (_, past) = Ledger::reopen(fd(&ledger)).unwrap();
        let listeners = read(&past, labels()).listeners;
        assert_eq!(listeners[..MAX_LISTENERS], [tally; MAX_LISTENERS]);
        assert_eq!(listeners[MAX_LISTENERS..], [Tally::default(); 3]);
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
