//! `--max-per-source`: at most N commands running and clients held of one source, or of one network.
#![forbid(unsafe_code)]

use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "source-limit",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a08",
        option: Some("max-per-source"),
        summary: "source at capacity",
        is_of_source: true,
        words: |grounds, f| {
            write!(f, "at capacity ({}/{}) of this source", grounds.figures.active(), grounds.figures.max())
        },
    },
    stage: Stage::Entry,
    spares_exempt: true,
    build,
};

/// Limits of the levels of [`Census::present`], in their order.
#[derive(Debug)]
struct PerSource {
    max: Vec<u32>,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let max: Vec<_> = rules.max_per_source.iter().map(|(max, _)| *max).collect();
    (!max.is_empty()).then(|| Box::new(PerSource { max }) as Box<dyn Limit>)
}

impl Limit for PerSource {
    fn ask(&self, _: Instant, census: &Census, who: Who) -> Result<(), No> {
        let Who::Client(who) = who else { return Ok(()) };
        for (level, max) in census.present.iter().zip(&self.max) {
            match level.count(who.source) {
                Some((network, active)) if active >= *max => {
                    return Err(No { figures: Figures::OfSource { network, active, max: *max }, until: Until::AnEnd });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
