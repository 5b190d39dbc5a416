//! `--max-connections`: at most N commands over all listeners, of which `--reserved` only clients of `--exempt` may take.
#![forbid(unsafe_code)]

use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "total-limit",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a01",
        option: Some("max-connections"),
        summary: "at capacity",
        is_of_source: false,
        words: |grounds, f| write!(f, "at capacity ({}/{})", grounds.figures.active(), grounds.figures.max()),
    },
    stage: Stage::Start,
    spares_exempt: false,
    build,
};

#[derive(Debug)]
struct Total {
    max: u32,
    reserved: u32,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    (rules.max_connections > 0)
        .then(|| Box::new(Total { max: rules.max_connections, reserved: rules.reserved }) as Box<dyn Limit>)
}

impl Limit for Total {
    fn ask(&self, _: Instant, census: &Census, who: Who) -> Result<(), No> {
        let reserved = match who {
            Who::Client(who) if !who.is_exempt => self.reserved,
            _ => 0,
        };
        let (active, max) = (census.active, self.max.saturating_sub(reserved));
        if active < max { Ok(()) } else { Err(No { figures: Figures::Count { active, max }, until: Until::AnEnd }) }
    }
}
