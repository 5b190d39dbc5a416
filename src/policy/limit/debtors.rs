//! The sources that owe something to one limit, by network, and how many it could not remember.
#![forbid(unsafe_code)]

use super::debts::{Debts, Key, Terms};
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::Source;
use std::time::{Duration, Instant};

/// They.
#[derive(Debug)]
pub(in crate::policy) struct Debtors {
    prefixes: Prefixes,
    debts: Debts,
    untracked: u32,
}

impl Debtors {
    /// Nobody owes anything; `max` are remembered.
    pub(super) fn new(prefixes: Prefixes, terms: Terms, max: u32) -> Debtors {
        Debtors { prefixes, debts: Debts::new(terms, max), untracked: 0 }
    }

    /// The network of this source and until when it is limited, if it is.
    pub(super) fn limited_until(&self, now: Instant, source: Source) -> Option<(Network, Instant)> {
        let (network, key) = self.of(source)?;
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

    /// How long this source is limited; zero: not at all.
    pub(in crate::policy) fn limited_for(&self, now: Instant, source: Source) -> Duration {
        let until = self.of(source).and_then(|(_, key)| self.debts.limited_until(now, key));
        until.map_or(Duration::ZERO, |until| until - now)
    }

    /// Forgets what is owed by all in this network, or by the one around it; whether anything was.
    pub(in crate::policy) fn forget(&mut self, now: Instant, network: Network) -> bool {
        let around = self.of(network.base()).map(|(_, key)| key);
        self.debts.forget(now, |key| Some(key) == around || network.contains(key.source()))
    }

    /// How many are remembered.
    pub(in crate::policy) fn len(&self) -> usize {
        self.debts.len()
    }

    /// Those that are limited.
    pub(in crate::policy) fn limited(&self, now: Instant) -> impl Iterator<Item = Network> + use<'_> {
        self.debts.limited(now).filter_map(|key| Network::of(key.source(), self.prefixes))
    }

    /// From now on under other terms, with what this makes of each debt.
    pub(super) fn set_terms(&mut self, now: Instant, terms: Terms, debt: impl Fn(Duration) -> Duration) {
        self.debts.set_terms(now, terms, debt);
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
