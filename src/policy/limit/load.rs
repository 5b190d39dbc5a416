//! `--load-average`: a second and further command only while the 1-minute load is below the limit.
//!
//! One command may always run, so that a machine that others keep busy still serves.
#![forbid(unsafe_code)]

use super::{Census, Limit, ListenerId, Rules};
use crate::policy::reason::{Reason, Refusal};

#[derive(Debug)]
struct Load {
    below: f64,
}

pub(super) fn limit(rules: &Rules) -> Option<Box<dyn Limit>> {
    rules.load_average.map(|below| Box::new(Load { below }) as Box<dyn Limit>)
}

impl Limit for Load {
    fn ask(&self, census: &Census, _: ListenerId) -> Option<Refusal> {
        (census.active > 0 && census.load >= self.below).then(|| Refusal {
            load: census.load,
            max_load: self.below,
            ..Refusal::count(Reason::Load, census.active, 0)
        })
    }
}
