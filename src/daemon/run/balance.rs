//! The books: of those that were accepted, each was served, refused or found gone, or runs, or is held.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::observe::tally::Tally;

impl Daemon {
    /// What does not add up between two turns of the loop, in total or at a listener. Walks over all who are held.
    pub(super) fn imbalance(&self) -> Option<String> {
        let census = self.gate.census();
        let held: Vec<u32> = (0..self.listeners.len()).map(|id| self.waiting.count_of(id)).collect();
        let differs = |tally: &Tally, active: u32, held: u32| tally.accepted != tally.over() + u64::from(active + held);
        let total = &self.report.counters().total;
        if differs(total, census.active, held.iter().sum()) {
            return Some(format!("{total:?}, {} active, {held:?} held", census.active));
        }
        let all = self.report.listeners().iter().zip(&census.per_listener).zip(held).enumerate();
        let mut wrong = all.filter(|(_, ((tally, active), held))| differs(tally, **active, *held));
        wrong.next().map(|(id, wrong)| format!("at listener {id}: {wrong:?}"))
    }
}
