//! `--max-rate-per-source`: so many connections of one source in a time.
#![forbid(unsafe_code)]

use super::debts::{Debts, Key};
use super::gcra::Rate;
use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::arrival::Arrival;
use crate::policy::grounds::{Figures, Info};
use crate::policy::network::Prefixes;
use crate::policy::source::Source;
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: Info {
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
    prefixes: Prefixes,
    debts: Debts,
    untracked: u32,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let rate = rules.max_rate_per_source?;
    let debts = Debts::new(rate.terms(), rules.max_sources);
    Some(Box::new(SourceRate { rate, prefixes: rules.source_prefix, debts, untracked: 0 }))
}

impl Limit for SourceRate {
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No> {
        let Who::Client(who) = who else { return Ok(()) };
        let Some((network, key)) = Key::and_network(who.source, self.prefixes) else { return Ok(()) };
        let Some(at) = self.debts.limited_until(now, key) else { return Ok(()) };
        let figures = Figures::Rate { rate: self.rate, network: Some(network), active: census.active };
        Err(No { figures, until: Until::Then(at) })
    }

    fn charge(&mut self, now: Instant, who: &Arrival) {
        if let Some((_, key)) = Key::and_network(who.source, self.prefixes) {
            self.untracked += u32::from(!self.debts.owe(now, key, self.rate.interval()));
        }
    }

    fn refund(&mut self, _: Instant, source: Source) {
        if let Some((_, key)) = Key::and_network(source, self.prefixes) {
            self.debts.forgive(key, self.rate.interval());
        }
    }

    fn take_untracked(&mut self) -> u32 {
        std::mem::take(&mut self.untracked)
    }
}
