//! `--max-rate`: so many starts of commands in a time, whoever they are for.
#![forbid(unsafe_code)]

use super::gcra::Rate;
use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::arrival::Arrival;
use crate::policy::grounds::{Figures, Info};
use crate::policy::source::Source;
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "rate",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a0a",
        option: Some("max-rate"),
        summary: "over the rate limit",
        is_of_source: false,
        words: |grounds, f| match grounds.figures {
            Figures::Rate { rate, .. } => write!(f, "over the rate limit ({rate})"),
            _ => f.write_str("over the rate limit"),
        },
    },
    stage: Stage::Start,
    spares_exempt: true,
    build,
};

#[derive(Debug)]
struct TotalRate {
    rate: Rate,
    /// When what is owed is paid, if anybody was started yet.
    paid: Option<Instant>,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    rules.max_rate.map(|rate| Box::new(TotalRate { rate, paid: None }) as Box<dyn Limit>)
}

impl Limit for TotalRate {
    fn ask(&self, now: Instant, census: &Census, _: Who) -> Result<(), No> {
        let (rate, active) = (self.rate, census.active);
        match self.paid {
            Some(paid) if paid > now + rate.tolerance() => Err(No {
                figures: Figures::Rate { rate, network: None, active },
                until: Until::Then(paid - rate.tolerance()),
            }),
            _ => Ok(()),
        }
    }

    fn charge(&mut self, now: Instant, _: &Arrival) {
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + self.rate.interval());
    }

    fn refund(&mut self, _: Instant, _: Source) {
        // Who was started while there was no such limit may have been charged nothing.
        self.paid = self.paid.and_then(|paid| paid.checked_sub(self.rate.interval()));
    }

    fn keep(&mut self, now: Instant, rules: &Rules) -> bool {
        let Some(rate) = rules.max_rate else { return false };
        let owed = self.paid.map(|paid| paid.saturating_duration_since(now));
        self.paid = owed.and_then(|owed| now.checked_add(self.rate.converted(owed, rate)));
        self.rate = rate;
        true
    }
}
