//! The waiting: clients that were accepted and are held. Limits on starts depend on a client's listener and class alone, so there is
//! a line for each, and who is next in it stands for all of it.
//!
//! * [`QueueOrder::Fifo`]: first come, first served, by tickets;
//! * [`QueueOrder::Fair`]: the turn of the waiting source with the fewest running, see `fair.rs`.
//!
//! Numbers only; the connections themselves are the daemon's.
#![forbid(unsafe_code)]

mod fair;

pub use super::arrival::Ticket;

use super::arrival::Arrival;
use super::network::Prefixes;
use super::source::Source;
use fair::{Fair, Standing};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// Who is next of those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// Who came first.
    #[default]
    Fifo,
    /// The first of the source with the fewest running, or of such sources that which was served longest ago; now and then who came first, so that nobody waits for ever.
    /// `--source-prefix` is what one source is.
    Fair(Prefixes),
}

impl fmt::Display for QueueOrder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            QueueOrder::Fifo => "fifo",
            QueueOrder::Fair(_) => "fair",
        })
    }
}

/// The lines.
#[derive(Debug)]
pub struct Queue {
    /// For each listener one of ordinary clients, then one of those of `--exempt`.
    lines: Vec<BTreeMap<Ticket, Arrival>>,
    len: u32,
    fair: Option<Fair>,
}

/// Which line is a client's.
fn line_of(who: &Arrival) -> usize {
    who.listener * 2 + usize::from(who.is_exempt)
}

impl Queue {
    /// Empty lines for so many listeners.
    pub fn new(listeners: usize, order: QueueOrder) -> Self {
        let lines = listeners * 2;
        let fair = match order {
            QueueOrder::Fifo => None,
            QueueOrder::Fair(prefixes) => Some(Fair::new(lines, prefixes)),
        };
        Queue { lines: vec![BTreeMap::new(); lines], len: 0, fair }
    }

    /// A client takes its place, which its ticket gives: one that could not be started comes to the front again.
    pub fn enter(&mut self, who: Arrival) {
        let line = line_of(&who);
        if self.lines[line].insert(who.ticket, who).is_none() {
            self.len += 1;
            self.fair.iter_mut().for_each(|fair| fair.enter(line, who.source, who.ticket));
        }
    }

    /// A client leaves, for whatever reason; `false` if it does not wait here.
    pub fn leave(&mut self, who: &Arrival) -> bool {
        let line = line_of(who);
        let Some(who) = self.lines[line].remove(&who.ticket) else { return false };
        self.len -= 1;
        self.fair.iter_mut().for_each(|fair| fair.leave(line, who.source, who.ticket));
        true
    }

    /// A client leaves to be started: it was one of [`Queue::heads`].
    pub fn admit(&mut self, who: &Arrival) {
        if self.len > 1 {
            self.fair.iter_mut().for_each(Fair::next_turn);
        }
        self.leave(who);
    }

    /// A command of this source runs from now on, whether it has waited here or not.
    pub fn started(&mut self, source: Source) {
        self.fair.iter_mut().for_each(|fair| fair.started(source));
    }

    /// A command of this source does not run any more.
    pub fn ended(&mut self, source: Source) {
        self.fair.iter_mut().for_each(|fair| fair.ended(source));
    }

    /// Who is next, of each line in which somebody waits. The first of those who may be started is the one of least
    /// [`Queue::rank`].
    pub fn heads(&self) -> impl Iterator<Item = &Arrival> {
        self.lines.iter().enumerate().filter_map(|(nth, line)| match &self.fair {
            Some(fair) if !fair.is_turn_of_oldest() => line.get(&fair.head(nth)?),
            _ => line.values().next(),
        })
    }

    /// The order among heads.
    pub fn rank(&self, who: &Arrival) -> (Standing, Ticket) {
        match &self.fair {
            Some(fair) if !fair.is_turn_of_oldest() => (fair.standing(who.source), who.ticket),
            _ => ((0, 0), who.ticket),
        }
    }

    /// Who came first, of each line in which somebody waits.
    pub fn oldest(&self) -> impl Iterator<Item = &Arrival> {
        self.lines.iter().filter_map(|line| line.values().next())
    }

    /// All who wait, line by line.
    pub fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.lines.iter().flat_map(BTreeMap::values)
    }

    /// How many wait, over all lines.
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
        self.oldest().map(|who| who.since).min()
    }
}

#[cfg(test)]
mod tests;
