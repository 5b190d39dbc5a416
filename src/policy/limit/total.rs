//! `--max-connections`: at most N commands over all listeners.
#![forbid(unsafe_code)]

use super::{Census, Limit, ListenerId, Rules};
use crate::policy::reason::{Reason, Refusal};

#[derive(Debug)]
struct Total {
    max: u32,
}

pub(super) fn limit(rules: &Rules) -> Option<Box<dyn Limit>> {
    (rules.max_connections > 0).then(|| Box::new(Total { max: rules.max_connections }) as Box<dyn Limit>)
}

impl Limit for Total {
    fn ask(&self, census: &Census, _: ListenerId) -> Option<Refusal> {
        (census.active >= self.max).then(|| Refusal::count(Reason::TotalLimit, census.active, self.max))
    }
}
