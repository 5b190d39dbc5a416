//! `--max-rate-per-source`: so many connections of one source in a time.
#![forbid(unsafe_code)]

use super::debtors::Debtors;
use super::gcra::Rate;
use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::arrival::Arrival;
use crate::policy::grounds::{Figures, Info};
use crate::policy::source::Source;
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "source-rate",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a09",
        option: Some("max-rate-per-source"),
        summary: "source over the rate limit",
        is_of_source: true,
        words: |grounds, f| match grounds.figures {
            Figures::Rate { rate, .. } => write!(f, "over the rate limit ({rate}) of this source"),
            _ => f.write_str("over the rate limit of this source"),
        },
    },
    stage: Stage::Entry,
    spares_exempt: true,
    build,
};

#[derive(Debug)]
struct SourceRate {
    rate: Rate,
    debtors: Debtors,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let rate = rules.max_rate_per_source?;
    let debtors = Debtors::new(rules.source_prefix, rate.terms(), rules.max_sources);
    Some(Box::new(SourceRate { rate, debtors }))
}

impl Limit for SourceRate {
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No> {
        let Who::Client(who) = who else { return Ok(()) };
        let Some((network, at)) = self.debtors.limited_until(now, who.source) else { return Ok(()) };
        let figures = Figures::Rate { rate: self.rate, network: Some(network), active: census.active };
        Err(No { figures, until: Until::Then(at) })
    }

    fn charge(&mut self, now: Instant, who: &Arrival) {
        self.debtors.owe(now, who.source, self.rate.interval());
    }

    fn refund(&mut self, _: Instant, source: Source) {
        self.debtors.forgive(source, self.rate.interval());
    }

    fn keep(&mut self, now: Instant, rules: &Rules) -> bool {
        let Some(rate) = rules.max_rate_per_source else { return false };
        if rate != self.rate {
            self.debtors.set_terms(now, rate.terms(), |debt| self.rate.converted(debt, rate));
            self.rate = rate;
        }
        true
    }

    fn debtors(&self) -> Option<&Debtors> {
        Some(&self.debtors)
    }

    fn debtors_mut(&mut self) -> Option<&mut Debtors> {
        Some(&mut self.debtors)
    }

    fn take_untracked(&mut self) -> u32 {
        self.debtors.take_untracked()
    }
}
