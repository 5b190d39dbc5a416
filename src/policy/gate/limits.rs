//! All limits that the rules switch on, asked and charged as one.
#![forbid(unsafe_code)]

use crate::policy::arrival::Arrival;
use crate::policy::limit::LIMITS;
use crate::policy::limit::debtors::Debtors;
use crate::policy::limit::drained::Drained;
use crate::policy::limit::rule::{Census, Ending, Gauge, Kind, Limit, No, Reading, Rules, Stage, Who};
use crate::policy::network::Network;
use crate::policy::reason::{Reason, Refusal};
use crate::policy::source::Source;
use std::time::{Duration, Instant};

/// How long a reading stays good: the kernel itself renews its load average every 5 s, and a client that waits
/// for it to fall should not wait much longer than that.
pub const READING_INTERVAL: Duration = Duration::from_secs(1);

/// A limit, and what the rules say of it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) reason: Reason,
    pub(super) stage: Stage,
    pub(super) spares_exempt: bool,
    /// Whether it judges, and lets in.
    pub(super) is_dry: bool,
    pub(super) limit: Box<dyn Limit>,
}

impl Rule {
    /// That of this kind, if these rules switch it on.
    fn new(reason: Reason, kind: &Kind, rules: &Rules) -> Option<Rule> {
        let is_dry = kind.info.option.is_some_and(|option| rules.dry_run.contains(&option));
        let Kind { stage, spares_exempt, .. } = *kind;
        Some(Rule { reason, stage, spares_exempt, is_dry, limit: kind.build(rules)? })
    }

    fn applies(&self, stage: Stage, is_exempt: bool) -> bool {
        self.stage == stage && !(is_exempt && self.spares_exempt)
    }
}

/// All of them, in their order.
#[derive(Debug)]
pub struct Limits {
    rules: Vec<Rule>,
    /// Whom some of them spare.
    exempt: Vec<Network>,
    /// What they depend on, and when it was read last.
    gauges: Vec<(Gauge, Option<Instant>)>,
}

impl Limits {
    /// Those that these rules switch on.
    pub(super) fn new(rules: &Rules) -> Limits {
        let all =
            Reason::ALL.into_iter().zip(&LIMITS).filter_map(|(reason, kind)| Rule::new(reason, kind, rules)).collect();
        Limits { exempt: rules.exempt.clone(), ..Limits::of(all) }
    }

    /// Goes on under these rules: what a limit remembers it keeps, as long as they leave it on. Whether all that is to be read has been
    /// read before.
    pub(super) fn set(&mut self, now: Instant, rules: &Rules) -> bool {
        let mut before = std::mem::take(&mut self.rules);
        let mut take = |reason| Some(before.swap_remove(before.iter().position(|rule: &Rule| rule.reason == reason)?));
        let drained = take(Reason::DRAINED);
        let goes_on = |(reason, kind): (Reason, &Kind)| {
            let new = Rule::new(reason, kind, rules)?;
            let mut old = take(reason);
            let is_kept = old.as_mut().is_some_and(|old| old.limit.keep(now, rules));
            Some(match old.filter(|_| is_kept) {
                Some(old) => Rule { limit: old.limit, ..new },
                None => new,
            })
        };
        let all: Vec<Rule> = Reason::ALL.into_iter().zip(&LIMITS).filter_map(goes_on).collect();
        let before = std::mem::replace(self, Limits { exempt: rules.exempt.clone(), ..Limits::of(all) });
        self.rules.splice(..0, drained);
        let read = |gauge| before.gauges.iter().find(|(other, _)| *other == gauge).and_then(|(_, at)| *at);
        self.gauges.iter_mut().for_each(|(gauge, at)| *at = read(*gauge));
        self.gauges.iter().all(|(_, at)| at.is_some())
    }

    /// The sources that the limit of this option remembers, if it is on and not only tried.
    pub(super) fn debtors(&self, option: &str) -> Option<&Debtors> {
        let rule = self.rules.iter().find(|rule| rule.reason.info().option == Some(option) && !rule.is_dry)?;
        rule.limit.debtors()
    }

    /// The sources that each limit remembers.
    pub(super) fn all_debtors(&self) -> impl Iterator<Item = &Debtors> {
        self.rules.iter().filter_map(|rule| rule.limit.debtors())
    }

    /// The same, to be changed.
    pub(super) fn all_debtors_mut(&mut self) -> impl Iterator<Item = &mut Debtors> {
        self.rules.iter_mut().filter_map(|rule| rule.limit.debtors_mut())
    }

    /// These, which spare nobody.
    pub(super) fn of(rules: Vec<Rule>) -> Limits {
        let mut gauges = Vec::new();
        for gauge in rules.iter().filter_map(|rule| rule.limit.gauge()) {
            if !gauges.contains(&(gauge, None)) {
                gauges.push((gauge, None));
            }
        }
        Limits { rules, exempt: Vec::new(), gauges }
    }

    /// Begins, or ends, to let no command start for anybody.
    pub(super) fn set_drained(&mut self, is_drained: bool) {
        self.rules.retain(|rule| rule.reason != Reason::DRAINED);
        if is_drained {
            let (reason, stage, limit) = (Reason::DRAINED, Stage::Start, Box::new(Drained));
            self.rules.insert(0, Rule { reason, stage, spares_exempt: false, is_dry: false, limit });
        }
    }

    /// Whether no command starts for anybody.
    pub(super) fn is_drained(&self) -> bool {
        self.rules.first().is_some_and(|rule| rule.reason == Reason::DRAINED)
    }

    /// Whether some spare clients of this source.
    pub fn is_exempt(&self, source: Source) -> bool {
        self.exempt.iter().any(|network| network.contains(source))
    }

    /// Those of one stage that hold, or those that only judge, in order; the first "no" and its reason.
    pub(super) fn ask(
        &self,
        now: Instant,
        census: &Census,
        stage: Stage,
        who: Who,
        is_dry: bool,
    ) -> Result<(), (Reason, No)> {
        let may_be_exempt = match who {
            Who::Client(who) => who.is_exempt,
            Who::Anybody(_) => !self.exempt.is_empty(),
        };
        let asked = |rule: &&Rule| rule.is_dry == is_dry && rule.applies(stage, may_be_exempt);
        self.rules
            .iter()
            .filter(asked)
            .try_for_each(|rule| rule.limit.ask(now, census, who).map_err(|no| (rule.reason, no)))
    }

    /// Charges those of one stage. One that only judges is not charged for whom it would have refused.
    pub(super) fn charge(&mut self, now: Instant, census: &Census, stage: Stage, who: &Arrival) {
        for rule in self.rules.iter_mut().filter(|rule| rule.applies(stage, who.is_exempt)) {
            if !rule.is_dry || rule.limit.ask(now, census, Who::Client(who)).is_ok() {
                rule.limit.charge(now, who);
            }
        }
    }

    /// Gives back what was charged at this stage.
    pub(super) fn refund(&mut self, now: Instant, stage: Stage, source: Source, is_exempt: bool) {
        let charged = self.rules.iter_mut().filter(|rule| rule.applies(stage, is_exempt));
        charged.for_each(|rule| rule.limit.refund(now, source));
    }

    /// A command of a source that is none of the exempt has ended.
    pub(super) fn ended(&mut self, now: Instant, source: Source, ending: Ending) {
        self.rules.iter_mut().for_each(|rule| rule.limit.ended(now, source, ending));
    }

    /// Who could not be remembered since this was asked last: how many, by limit.
    pub(super) fn take_untracked(&mut self) -> impl Iterator<Item = (Reason, u32)> {
        let untracked = self.rules.iter_mut().map(|rule| (rule.reason, rule.limit.take_untracked()));
        untracked.filter(|(_, clients)| *clients > 0)
    }

    /// A gauge was read.
    pub(super) fn read(&mut self, now: Instant, reading: Reading) {
        self.rules.iter_mut().for_each(|rule| rule.limit.read(now, reading));
        self.gauges.iter_mut().filter(|(gauge, _)| Some(*gauge) == reading.gauge()).for_each(|(_, at)| *at = Some(now));
    }

    /// Those that only judge, by the names of their options.
    pub fn dry_run(&self) -> Vec<&'static str> {
        let dry = self.rules.iter().filter(|rule| rule.is_dry);
        dry.filter_map(|rule| rule.reason.info().option).collect()
    }

    /// Whether any depends on what is read.
    pub fn has_gauges(&self) -> bool {
        !self.gauges.is_empty()
    }

    /// What lets no second and further command start, of what is read; `active` run now.
    pub fn closed(&self, now: Instant, active: u32) -> Option<Refusal> {
        self.all_closed(now, active).next()
    }

    /// All that does so, in the order in which it is asked.
    pub fn all_closed(&self, now: Instant, active: u32) -> impl Iterator<Item = Refusal> {
        let held = self.rules.iter().filter(|rule| !rule.is_dry);
        held.filter_map(move |rule| Some(Refusal::of(rule.reason, rule.limit.closed(now, active)?.figures)))
    }

    /// What is to be read before the next arrival is accepted, and told to the gate: a limit depends on it, and the last reading is
    /// old. Also with nothing running: what is admitted then decides about the next by it.
    pub fn due_gauge(&self, now: Instant) -> Option<Gauge> {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at + READING_INTERVAL <= now);
        self.gauges.iter().find(|(_, at)| is_due(*at)).map(|(gauge, _)| *gauge)
    }

    /// When a reading is old.
    pub fn next_reading(&self) -> Option<Instant> {
        self.gauges.iter().filter_map(|(_, at)| *at).min().map(|at| at + READING_INTERVAL)
    }
}
