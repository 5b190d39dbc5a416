//! Limits with a memory, written out as plain sums.
#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

/// Rates and penalties, in seconds, written out with nothing but when debts end.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// From one start to the next, and how many at once.
    rate: Option<(u32, u32)>,
    rate_paid: u32,
    /// The same for one source.
    source_rate: Option<(u32, u32)>,
    source_paid: HashMap<Source, u32>,
    /// What each end costs, what it has to add up to, and the most.
    penalty: Option<(u32, u32, u32)>,
    /// When it expires, and whether it is enforced.
    penalized: HashMap<Source, (u32, bool)>,
}

pub(super) fn memories() -> impl Strategy<Value = Memory> {
    let rate = || prop::option::of((1..4u32, 1..4u32));
    let penalty = prop::option::of((1..4u32, 0..6u32, 6..9u32));
    (rate(), rate(), penalty).prop_map(|(rate, source_rate, penalty)| Memory {
        rate,
        source_rate,
        penalty,
        ..Memory::default()
    })
}

impl Memory {
    pub(super) fn rules(&self) -> Rules {
        let rate = |(interval, burst)| Rate::new(1, SECOND * interval, Some(burst)).unwrap();
        let penalties = |(span, min, max)| Penalties {
            of: vec![Penalty { outcome: END.outcome, span: SECOND * span, always: false }],
            min: SECOND * min,
            max: SECOND * max,
        };
        Rules {
            max_rate: self.rate.map(rate),
            max_rate_per_source: self.source_rate.map(rate),
            penalties: self.penalty.map(penalties).unwrap_or_default(),
            max_sources: 3, // as many as there are
            ..Rules::default()
        }
    }

    pub(super) fn may_enter(&self, source: Source, clock: u32) -> bool {
        let paid = self.source_paid.get(&source).copied().unwrap_or(0);
        let is_slow = self.source_rate.is_none_or(|(interval, burst)| paid <= clock + interval * (burst - 1));
        let (expires, is_enforced) = self.penalized.get(&source).copied().unwrap_or_default();
        is_slow && !(is_enforced && expires > clock)
    }

    pub(super) fn enter(&mut self, source: Source, clock: u32) {
        if let Some((interval, _)) = self.source_rate {
            let paid = self.source_paid.entry(source).or_default();
            *paid = clock.max(*paid) + interval;
        }
    }

    pub(super) fn give_back(&mut self, source: Source) {
        if let Some((interval, _)) = self.source_rate {
            *self.source_paid.get_mut(&source).unwrap() -= interval;
        }
    }

    /// When anybody may be started.
    pub(super) fn start_due(&self) -> u32 {
        self.rate.map_or(0, |(interval, burst)| self.rate_paid.saturating_sub(interval * (burst - 1)))
    }

    pub(super) fn start(&mut self, clock: u32) {
        self.rate_paid = clock.max(self.rate_paid) + self.rate.map_or(0, |(interval, _)| interval);
    }

    /// No process was spent on what was started.
    pub(super) fn not_started(&mut self) {
        self.rate_paid -= self.rate.map_or(0, |(interval, _)| interval);
    }

    pub(super) fn ended(&mut self, source: Source, clock: u32) {
        let Some((span, min, max)) = self.penalty else { return };
        let (expires, is_enforced) = self.penalized.entry(source).or_default();
        *is_enforced &= *expires > clock;
        *expires = (clock.max(*expires) + span).min(clock + max);
        *is_enforced |= *expires >= clock + min;
    }
}
