//! The sources that owe something to one limit, by network, and how many it could not remember.
#![forbid(unsafe_code)]

use super::debts::{Debts, Key, Terms};
use super::rule::Who;
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::Source;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Debtors {
    prefixes: Prefixes,
    debts: Debts,
    untracked: u32,
}

impl Debtors {
    /// Nobody owes anything; `max` are remembered.
    pub(super) fn new(prefixes: Prefixes, terms: Terms, max: u32) -> Debtors {
        Debtors { prefixes, debts: Debts::new(terms, max), untracked: 0 }
    }

    /// The network of this client and until when it is limited, if it is.
    pub(super) fn limited_until(&self, now: Instant, who: Who) -> Option<(Network, Instant)> {
        let Who::Client(who) = who else { return None };
        let (network, key) = self.of(who.source)?;
        Some((network, self.debts.limited_until(now, key)?))
    }

    /// This source owes so much more; one that is not to be limited owes nothing.
    pub(super) fn owe(&mut self, now: Instant, source: Source, more: Duration) {
        if let Some((_, key)) = self.of(source) {
            self.untracked += u32::from(!self.debts.owe(now, key, more));
        }
    }

    /// It owes so much less.
    pub(super) fn forgive(&mut self, source: Source, less: Duration) {
        if let Some((_, key)) = self.of(source) {
            self.debts.forgive(key, less);
        }
    }

    /// How many, since this was asked last, found no room.
    pub(super) fn take_untracked(&mut self) -> u32 {
        std::mem::take(&mut self.untracked)
    }

    fn of(&self, source: Source) -> Option<(Network, Key)> {
        let network = Network::of(source, self.prefixes)?;
        Some((network, Key::of(network.base())?))
    }
}
