//! What an administrator asks of the gate while it works. Nothing of it ends a command, and nobody who waits loses a place.
#![forbid(unsafe_code)]

use super::{Action, Gate, Hold};
use crate::policy::least::least;
use crate::policy::limit::rule::Rules;
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::Source;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a source is refused; zero: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// For its penalty.
    pub penalty: Duration,
    /// By `--max-rate-per-source`.
    pub rate: Duration,
}

/// A source that has commands running or clients held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceUse {
    /// Which; `None`: all of whom nobody knows who they are.
    pub network: Option<Network>,
    /// Commands running.
    pub active: u32,
    /// Clients held.
    pub held: u32,
}

impl Gate {
    /// Begins, or ends, to let no command start for anybody, those of `--exempt` among them: clients are refused for
    /// [`Reason::DRAINED`](super::Reason::DRAINED), or wait with [`WhenFull::Wait`](super::WhenFull::Wait), and `--max-wait` goes on.
    /// At the end of it those who wait are admitted in their order. Asking for what is so already changes nothing.
    pub fn set_drained(&mut self, now: Instant, is_drained: bool, out: &mut VecDeque<Action>) {
        self.limits.set_drained(is_drained);
        self.settle(now, out);
    }

    /// Goes on under other limits and other terms for who is held; `hold.order` stays as it was. `rules` has one entry of
    /// `max_per_listener` per listener, and the same penalties, pressures, exempt networks, prefixes and tables as those before.
    ///
    /// No command ends and nobody loses a place. Who may start now is admitted at once, in order. A rate that goes on begins without
    /// debts; those of one that changes are debts of as many connections at the new one. A limit that depends on a gauge which was not
    /// read before lets nobody in until it is: read [`Limits::due_gauge`](super::Limits::due_gauge) at once.
    pub fn set(&mut self, now: Instant, rules: &Rules, hold: Hold, out: &mut VecDeque<Action>) {
        debug_assert_eq!(rules.max_per_listener.len(), self.paused.len());
        let is_read = self.limits.set(now, rules);
        self.census.recount(&rules.max_per_source, self.queue.iter().map(|who| who.source));
        self.hold = Hold { order: self.hold.order, ..hold };
        if is_read {
            self.settle(now, out);
        }
    }

    /// How long this source is refused for what it owes. Limits that are only tried refuse nobody.
    pub fn standing(&self, now: Instant, source: Source) -> Standing {
        let is_exempt = self.limits.is_exempt(source);
        let limited_for = |option| match self.limits.debtors(option) {
            Some(debtors) if !is_exempt => debtors.limited_for(now, source),
            _ => Duration::ZERO,
        };
        Standing { penalty: limited_for("penalty"), rate: limited_for("max-rate-per-source") }
    }

    /// Forgets penalties and rates of all sources in this network or, where more than this network is one source, of that. Whether any
    /// of them owed anything. Looks at all entries of both tables.
    pub fn forget_source(&mut self, now: Instant, network: Network, out: &mut VecDeque<Action>) -> bool {
        let mut has_owed = false;
        self.limits.all_debtors_mut().for_each(|debtors| has_owed |= debtors.forget(now, network));
        self.settle(now, out);
        has_owed
    }

    /// Entries in the tables of sources.
    pub fn remembered(&self) -> usize {
        self.limits.all_debtors().map(|debtors| debtors.len()).sum()
    }

    /// How many sources are refused for a penalty now. Looks at all entries of its table.
    pub fn penalised(&self, now: Instant) -> usize {
        self.limits.debtors("penalty").map_or(0, |debtors| debtors.limited(now).count())
    }

    /// Sources that are refused for what they owe, in no order; at most `count`. Looks at all entries of both tables.
    pub fn limited(&self, now: Instant, count: usize) -> Vec<Network> {
        let mut all: Vec<Network> = self.limits.all_debtors().flat_map(|debtors| debtors.limited(now)).collect();
        all.sort_unstable();
        all.dedup();
        all.truncate(count);
        all
    }

    /// The sources with most commands, and of those the ones with most clients held; at most `count` of them. Addresses that agree in
    /// these prefixes are one source. Looks at each source with commands, and at each client held.
    pub fn sources(&self, prefixes: Prefixes, count: usize) -> Vec<SourceUse> {
        let mut all: HashMap<Option<Network>, (u32, u32)> = HashMap::new();
        for (source, active) in self.census.per_source.iter() {
            all.entry(Network::of(source, prefixes)).or_default().0 += active;
        }
        for who in self.queue.iter() {
            all.entry(Network::of(who.source, prefixes)).or_default().1 += 1;
        }
        let order =
            |(network, (active, held)): (Option<Network>, (u32, u32))| (Reverse(active), Reverse(held), network);
        let first = least(all.into_iter().map(order), count);
        let told = |(Reverse(active), Reverse(held), network)| SourceUse { network, active, held };
        first.into_iter().map(told).collect()
    }

    /// Those with most commands and held clients together, and how many, as far as it is known who they are; at most `count` of them.
    pub fn most(&self, prefixes: Prefixes, count: usize) -> Vec<(Network, u64)> {
        let known = self.sources(prefixes, usize::MAX).into_iter();
        let known = known.filter_map(|of| Some((Reverse(u64::from(of.active) + u64::from(of.held)), of.network?)));
        least(known, count).into_iter().map(|(Reverse(count), network)| (network, count)).collect()
    }

    /// Whether no command starts for anybody, since that was asked for.
    pub fn is_drained(&self) -> bool {
        self.limits.is_drained()
    }
}
