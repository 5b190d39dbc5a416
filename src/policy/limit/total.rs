//! `--max-connections`: at most N commands over all listeners.
#![forbid(unsafe_code)]

use super::{Census, Limit, No, Rules, Until, Who};
use crate::policy::reason::Figures;
use std::time::Instant;

#[derive(Debug)]
struct Total {
    max: u32,
}

pub(super) fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    (rules.max_connections > 0).then(|| Box::new(Total { max: rules.max_connections }) as Box<dyn Limit>)
}

impl Limit for Total {
    fn ask(&self, _: Instant, census: &Census, _: Who) -> Result<(), No> {
        let (active, max) = (census.active, self.max);
        if active < max { Ok(()) } else { Err(No { figures: Figures::Count { active, max }, until: Until::AnEnd }) }
    }
}
