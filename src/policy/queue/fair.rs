//! The fair order: the turn of the waiting source with the fewest running, and of two such of the one that was served longest ago, so
//! that sources take turns where each may have one command alone. Within a source, first come, first served.
//!
//! A source that is served often could keep another one waiting for ever, so every eighth turn is that of the client that came first
//! of all: who is at position p in the order of coming waits for 8 (p + 1) turns at most.
//!
//! Nothing here takes longer than the logarithm of how many wait, whatever they choose as their addresses.
#![forbid(unsafe_code)]

use crate::policy::arrival::Ticket;
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::{Source, Sources};
use std::collections::{BTreeSet, HashMap};

/// Of so many turns, one is that of the client that came first.
pub const TURNS: u32 = 8;

/// How many commands of a source run, and which start of all was its last; 0 if none of those that is remembered.
pub type Standing = (u32, u64);

/// Who is next.
#[derive(Debug)]
pub struct Fair {
    prefixes: Prefixes,
    /// By network, as all below.
    running: Sources,
    /// The last start of each source that runs or waits, by number.
    served: HashMap<Source, u64>,
    starts: u64,
    /// Turns since the last one of the client that came first.
    turns: u32,
    lines: Vec<Line>,
}

/// Who is next in one line.
#[derive(Clone, Debug, Default)]
struct Line {
    waiting: BTreeSet<(Source, Ticket)>,
    /// Each waiting source's standing, and its first ticket.
    sources: BTreeSet<(Standing, Ticket)>,
}

impl Line {
    /// The client of this source that came first.
    fn first(&self, source: Source) -> Option<Ticket> {
        let all = (source, Ticket::MIN)..=(source, Ticket::MAX);
        self.waiting.range(all).next().map(|(_, ticket)| *ticket)
    }

    /// Changes a source's standing, who of it waits here, or both. What `change` returns is not looked at.
    fn change(
        &mut self,
        source: Source,
        (before, now): (Standing, Standing),
        change: impl FnOnce(&mut BTreeSet<(Source, Ticket)>) -> bool,
    ) {
        if let Some(ticket) = self.first(source) {
            self.sources.remove(&(before, ticket));
        }
        change(&mut self.waiting);
        self.sources.extend(self.first(source).map(|ticket| (now, ticket)));
    }
}

impl Fair {
    /// So many lines, and nothing runs.
    pub fn new(lines: usize, prefixes: Prefixes) -> Fair {
        let (running, served) = (Sources::default(), HashMap::new());
        Fair { prefixes, running, served, starts: 0, turns: 0, lines: vec![Line::default(); lines] }
    }

    /// A client waits in this line.
    pub fn enter(&mut self, line: usize, source: Source, ticket: Ticket) {
        let (source, standing) = (self.key(source), self.standing(source));
        self.lines[line].change(source, (standing, standing), |waiting| waiting.insert((source, ticket)));
    }

    /// A client does not wait in this line any more.
    pub fn leave(&mut self, line: usize, source: Source, ticket: Ticket) {
        let (source, standing) = (self.key(source), self.standing(source));
        self.lines[line].change(source, (standing, standing), |waiting| waiting.remove(&(source, ticket)));
        self.forget(source);
    }

    /// A command of this source runs.
    pub fn started(&mut self, source: Source) {
        let (source, before) = (self.key(source), self.standing(source));
        self.running.enter(source);
        self.starts += 1;
        self.served.insert(source, self.starts);
        self.change(source, before);
    }

    /// A command of this source does not run any more.
    pub fn ended(&mut self, source: Source) {
        let (source, before) = (self.key(source), self.standing(source));
        self.running.leave(source);
        self.change(source, before);
        self.forget(source);
    }

    /// All whom nobody knows are one source.
    fn key(&self, source: Source) -> Source {
        Network::of(source, self.prefixes).map_or(source, Network::base)
    }

    fn change(&mut self, source: Source, before: Standing) {
        let now = self.standing(source);
        self.lines.iter_mut().for_each(|line| line.change(source, (before, now), |_| false));
    }

    /// Remembers nothing of a source that neither runs nor waits.
    fn forget(&mut self, source: Source) {
        if self.running.count(source) == 0 && !self.lines.iter().any(|line| line.first(source).is_some()) {
            self.served.remove(&source);
        }
    }

    /// Somebody had a turn.
    pub fn next_turn(&mut self) {
        self.turns = (self.turns + 1) % TURNS;
    }

    /// Whether this turn is that of the client that came first.
    pub fn is_turn_of_oldest(&self) -> bool {
        self.turns == TURNS - 1
    }

    /// Who is next in this line, in any other turn.
    pub fn head(&self, line: usize) -> Option<Ticket> {
        self.lines[line].sources.first().map(|(_, ticket)| *ticket)
    }

    /// Of two sources that of the lesser standing is next.
    pub fn standing(&self, source: Source) -> Standing {
        let source = self.key(source);
        (self.running.count(source), self.served.get(&source).copied().unwrap_or(0))
    }
}
