//! `--max-per-listener`: at most N commands for one listening socket.
#![forbid(unsafe_code)]

use super::{Census, Limit, ListenerId, Rules};
use crate::policy::reason::{Reason, Refusal};

#[derive(Debug)]
struct PerListener {
    max: Vec<u32>,
}

pub(super) fn limit(rules: &Rules) -> Option<Box<dyn Limit>> {
    rules
        .max_per_listener
        .iter()
        .any(|max| *max > 0)
        .then(|| Box::new(PerListener { max: rules.max_per_listener.clone() }) as Box<dyn Limit>)
}

impl Limit for PerListener {
    fn ask(&self, census: &Census, listener: ListenerId) -> Option<Refusal> {
        let (active, max) = (census.per_listener[listener], self.max[listener]);
        (max > 0 && active >= max).then(|| Refusal::count(Reason::ListenerLimit, active, max))
    }
}
