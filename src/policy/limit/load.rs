//! `--load-average`: further commands, after the first, only while the 1-minute load is below the limit.
//!
//! One command may always run, so that a machine that others keep busy still serves.
#![forbid(unsafe_code)]

use super::rule::{Census, Gauge, Kind, Limit, No, Reading, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use std::time::Instant;

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "load",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a03",
        option: Some("load-average"),
        summary: "load too high",
        is_of_source: false,
        words: |grounds, f| match grounds.figures {
            Figures::Level { is, below, .. } => write!(f, "load average {is:.2} is not below {below:.2}"),
            _ => f.write_str("load too high"),
        },
    },
    stage: Stage::Start,
    spares_exempt: false,
    build,
};

#[derive(Clone, Copy, Debug)]
struct Load {
    /// As it was read last.
    is: f64,
    below: f64,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    rules.load_average.map(|below| Box::new(Load { is: 0.0, below }) as Box<dyn Limit>)
}

impl Limit for Load {
    fn ask(&self, now: Instant, census: &Census, _: Who) -> Result<(), No> {
        match self.closed(now, census.active) {
            Some(no) if census.active > 0 => Err(no),
            _ => Ok(()),
        }
    }

    fn closed(&self, _: Instant, active: u32) -> Option<No> {
        let Load { is, below } = *self;
        (is >= below).then_some(No { figures: Figures::Level { is, below, active }, until: Until::AReading })
    }

    fn gauge(&self) -> Option<Gauge> {
        Some(Gauge::Load)
    }

    fn keep(&mut self, _: Instant, rules: &Rules) -> bool {
        self.below = rules.load_average.unwrap_or(self.below);
        true
    }

    fn read(&mut self, _: Instant, reading: Reading) {
        if let Reading::Load(load) = reading {
            self.is = load;
        }
    }
}
