//! `--max-per-listener`: at most N commands for one listening socket.
#![forbid(unsafe_code)]

use super::rule::{Census, Kind, Limit, No, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "listener-limit",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a02",
        option: Some("max-per-listener"),
        summary: "listener at capacity",
        is_of_source: false,
        words: |grounds, f| {
            write!(f, "at capacity ({}/{}) of this listener", grounds.figures.active(), grounds.figures.max())
        },
    },
    stage: Stage::Start,
    spares_exempt: false,
    build,
};

#[derive(Debug)]
struct PerListener {
    /// By listener; 0 is unlimited.
    max: Vec<u32>,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let max = &rules.max_per_listener;
    max.iter().any(|max| *max > 0).then(|| Box::new(PerListener { max: max.clone() }) as Box<dyn Limit>)
}

impl Limit for PerListener {
    fn ask(&self, _: Instant, census: &Census, who: Who) -> Result<(), No> {
        let (active, max) = (census.per_listener[who.listener()], self.max[who.listener()]);
        if max == 0 || active < max {
            return Ok(());
        }
        Err(No { figures: Figures::Count { active, max }, until: Until::AnEnd })
    }
}
