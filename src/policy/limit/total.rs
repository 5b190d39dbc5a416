//! `--max-connections`: at most N commands over all listeners.
#![forbid(unsafe_code)]

use super::rule::{Census, Kind, Limit, No, Rules, Until, Who};
use crate::policy::grounds::{Figures, Info};
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: Info {
        slug: "total-limit",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a01",
        option: Some("max-connections"),
        summary: "at capacity",
        is_for_coming: true,
        words: |grounds, f| write!(f, "at capacity ({}/{})", grounds.figures.active(), grounds.figures.max()),
    },
    build,
};

#[derive(Debug)]
struct Total {
    max: u32,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    (rules.max_connections > 0).then(|| Box::new(Total { max: rules.max_connections }) as Box<dyn Limit>)
}

impl Limit for Total {
    fn ask(&self, _: Instant, census: &Census, _: Who) -> Result<(), No> {
        let (active, max) = (census.active, self.max);
        if active < max { Ok(()) } else { Err(No { figures: Figures::Count { active, max }, until: Until::AnEnd }) }
    }
}
