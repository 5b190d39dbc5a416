//! The fair order: the turn of the waiting source with the fewest running, of two such of the one whose first client came first;
//! within a source, first come, first served.
//!
//! A source that is served often could keep another one waiting for ever, so every eighth turn is that of the client that came first
//! of all: who is at position p in the order of coming waits for 8 (p + 1) turns at most.
//!
//! Nothing here takes longer than the logarithm of how many wait, whatever they choose as their addresses.
#![forbid(unsafe_code)]

use crate::policy::arrival::Ticket;
use crate::policy::network::{Network, Prefixes};
use crate::policy::source::{Source, Sources};
use std::collections::BTreeSet;

/// Of so many turns, one is that of the client that came first.
pub const TURNS: u32 = 8;

/// Who is next.
#[derive(Debug)]
pub struct Fair {
    prefixes: Prefixes,
    /// By network, as all below.
    running: Sources,
    /// Turns since the last one of the client that came first.
    turns: u32,
    lines: Vec<Line>,
}

/// Who is next in one line.
#[derive(Clone, Debug, Default)]
struct Line {
    waiting: BTreeSet<(Source, Ticket)>,
    /// How many commands each waiting source has running, and its first ticket.
    sources: BTreeSet<(u32, Ticket)>,
}

impl Line {
    /// Changes how many of a source run, who of it waits here, or both. What `change` returns is not looked at.
    fn change(
        &mut self,
        source: Source,
        running: (u32, u32),
        change: impl FnOnce(&mut BTreeSet<(Source, Ticket)>) -> bool,
    ) {
        let first = |waiting: &BTreeSet<(Source, Ticket)>| {
            waiting.range((source, Ticket::MIN)..=(source, Ticket::MAX)).next().map(|(_, ticket)| *ticket)
        };
        let before = first(&self.waiting);
        if let Some(ticket) = before {
            self.sources.remove(&(running.0, ticket));
        }
        change(&mut self.waiting);
        self.sources.extend(first(&self.waiting).map(|ticket| (running.1, ticket)));
    }
}

impl Fair {
    /// So many lines, and nothing runs.
    pub fn new(lines: usize, prefixes: Prefixes) -> Fair {
        Fair { prefixes, running: Sources::default(), turns: 0, lines: vec![Line::default(); lines] }
    }

    /// A client waits in this line.
    pub fn enter(&mut self, line: usize, source: Source, ticket: Ticket) {
        let (source, running) = (self.key(source), self.running(source));
        self.lines[line].change(source, (running, running), |waiting| waiting.insert((source, ticket)));
    }

    /// A client does not wait in this line any more.
    pub fn leave(&mut self, line: usize, source: Source, ticket: Ticket) {
        let (source, running) = (self.key(source), self.running(source));
        self.lines[line].change(source, (running, running), |waiting| waiting.remove(&(source, ticket)));
    }

    /// A command of this source runs.
    pub fn started(&mut self, source: Source) {
        let before = self.running(source);
        self.running.enter(self.key(source));
        self.recount(source, before);
    }

    /// A command of this source does not run any more.
    pub fn ended(&mut self, source: Source) {
        let before = self.running(source);
        self.running.leave(self.key(source));
        self.recount(source, before);
    }

    /// All whom nobody knows are one source.
    fn key(&self, source: Source) -> Source {
        Network::of(source, self.prefixes).map_or(source, Network::base)
    }

    fn recount(&mut self, source: Source, before: u32) {
        let (source, now) = (self.key(source), self.running(source));
        self.lines.iter_mut().for_each(|line| line.change(source, (before, now), |_| false));
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

    /// How many commands of this source run.
    pub fn running(&self, source: Source) -> u32 {
        self.running.count(self.key(source))
    }
}
