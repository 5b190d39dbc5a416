//! `--max-per-listener`: at most N commands for one listening socket.
#![forbid(unsafe_code)]

use super::{Census, Limit, No, Rules, Until, Who};
use crate::policy::reason::Figures;
use std::time::Instant;

#[derive(Debug)]
struct PerListener {
    /// By listener; 0 is unlimited.
    max: Vec<u32>,
}

pub(super) fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
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
