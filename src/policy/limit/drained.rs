//! While the service is drained for maintenance: a "no" to everybody, which is there only then.
#![forbid(unsafe_code)]

use super::rule::{Census, Limit, No, Until, Who};
use crate::policy::grounds::Figures;
use std::time::Instant;

/// It.
#[derive(Debug)]
pub(in crate::policy) struct Drained;

impl Limit for Drained {
    fn ask(&self, _: Instant, census: &Census, _: Who) -> Result<(), No> {
        Err(No { figures: Figures::Count { active: census.active, max: 0 }, until: Until::Resumed })
    }
}
