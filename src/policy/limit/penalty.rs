//! `--penalty`: how a command ends costs its source time.
//!
//! What a source earns adds up from where the last of it expires. Nothing happens until that is `--penalty-min` ahead; then the source
//! is refused until all has expired, which is never further ahead than `--penalty-max`. So sshd(8) does it (PerSourcePenalties,
//! sshd_config(5)).
#![forbid(unsafe_code)]

use super::debtors::Debtors;
use super::debts::Terms;
use super::rule::{Census, Ending, Kind, Limit, No, Penalties, Penalty, Rules, Stage, Until, Who};
use crate::policy::grounds::{Figures, Info};
use crate::policy::source::Source;
use std::time::{Duration, Instant};

pub(super) const KIND: Kind = Kind {
    info: &Info {
        slug: "penalty",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a0b",
        option: Some("penalty"),
        summary: "penalty of the source",
        is_of_source: true,
        words: |grounds, f| match grounds.figures {
            // A part of a second is one more, so that nobody comes back too early.
            Figures::Penalty { left, .. } => {
                write!(f, "penalty ({} s left) of this source", left.as_nanos().div_ceil(1_000_000_000))
            }
            _ => f.write_str("penalty of this source"),
        },
    },
    stage: Stage::Entry,
    spares_exempt: true,
    build,
};

/// Who runs for longer is no scanner, and does not get there often.
const SHORT: Duration = Duration::from_secs(2 * 60);

#[derive(Debug)]
struct Penalized {
    penalties: Vec<Penalty>,
    debtors: Debtors,
}

fn build(rules: &Rules) -> Option<Box<dyn Limit>> {
    let Penalties { of, min, max } = &rules.penalties;
    if of.is_empty() {
        return None;
    }
    let terms = Terms { free: min.saturating_sub(Duration::from_nanos(1)), most: *max, until_paid: true };
    let debtors = Debtors::new(rules.source_prefix, terms, rules.max_sources);
    Some(Box::new(Penalized { penalties: of.clone(), debtors }))
}

impl Limit for Penalized {
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No> {
        let Who::Client(who) = who else { return Ok(()) };
        let Some((network, at)) = self.debtors.limited_until(now, who.source) else { return Ok(()) };
        let figures = Figures::Penalty { network, left: at - now, active: census.active };
        Err(No { figures, until: Until::Then(at) })
    }

    fn ended(&mut self, now: Instant, source: Source, ending: Ending) {
        let Some(penalty) = self.penalties.iter().find(|penalty| penalty.outcome == ending.outcome) else { return };
        if ending.lasted <= SHORT || penalty.always {
            self.debtors.owe(now, source, penalty.span);
        }
    }

    /// What ends cost is as at the start.
    fn keep(&mut self, _: Instant, _: &Rules) -> bool {
        true
    }

    fn debtors(&self) -> Option<&Debtors> {
        Some(&self.debtors)
    }

    fn debtors_mut(&mut self) -> Option<&mut Debtors> {
        Some(&mut self.debtors)
    }

    fn take_untracked(&mut self) -> u32 {
        self.debtors.take_untracked()
    }
}
