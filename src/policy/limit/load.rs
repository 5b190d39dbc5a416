//! `--load-average`: a second and further command only while the 1-minute load is below the limit.
//!
//! One command may always run, so that a machine that others keep busy still serves.
#![forbid(unsafe_code)]

use super::{Census, Gauge, Limit, No, Reading, Rules, Until, Who};
use crate::policy::reason::Figures;
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
struct Load {
    /// As it was read last.
    is: f64,
    below: f64,
}

pub(super) fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    rules.load_average.map(|below| Box::new(Load { is: 0.0, below }) as Box<dyn Limit>)
}

impl Limit for Load {
    fn ask(&self, _: Instant, census: &Census, _: Who) -> Result<(), No> {
        let (active, Load { is, below }) = (census.active, *self);
        if active == 0 || is < below {
            return Ok(());
        }
        Err(No { figures: Figures::Level { is, below, active }, until: Until::AReading })
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(Gauge::Load)
    }

    fn read(&mut self, _: Instant, reading: Reading) {
        let Reading::Load(load) = reading;
        self.is = load;
    }
}
