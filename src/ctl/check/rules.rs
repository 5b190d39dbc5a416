//! The table of rules, a row for each trap: its name, how bad it is, where it shows, and why it matters.
//!
//! A rule looks at a [`Subject`] alone, and says what it has found; nothing here reads a file or asks anybody.
#![forbid(unsafe_code)]

mod delegate;
mod limits;
mod running;
mod sandbox;
mod settings;
mod socket;
mod start;
mod stop;

use super::rule::{Hit, Remedy, Rule, Severity};
use super::subject::Subject;
use serde::Serialize;

/// A finding, as it is printed and as `--json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) rule: &'static str,
    pub(super) severity: Severity,
    pub(super) unit: String,
    pub(super) setting: String,
    pub(super) value: String,
    pub(super) why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) section: Option<&'static str>,
    /// The line to write, or else what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) write: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub(super) what: Option<String>,
}

/// Every rule, by what it looks at.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    let families: [&[Rule]; 8] = [
        socket::RULES,
        start::RULES,
        stop::RULES,
        settings::RULES,
        limits::RULES,
        sandbox::RULES,
        delegate::RULES,
        running::RULES,
    ];
    families.into_iter().flatten()
}

/// What all rules find, the worst first.
pub(super) fn judge(subject: &Subject) -> Vec<Finding> {
    let of = |rule: &'static Rule| (rule.find)(subject).into_iter().map(move |hit| finding(subject, rule, hit));
    let all_of = |severity| all().filter(move |rule| rule.severity == severity);
    let all = [Severity::Error, Severity::Warning, Severity::Note].into_iter().flat_map(all_of).flat_map(of);
    // What systemd shows of a service that it has not loaded are defaults that nobody has written.
    let is_known = |finding: &Finding| {
        subject.service.is_loaded() || finding.rule == "load" || finding.unit != subject.service.name
    };
    all.filter(is_known).collect()
}

fn finding(subject: &Subject, rule: &'static Rule, hit: Hit) -> Finding {
    let edit = || Some(format!("{} edit {}", subject.systemctl(), hit.unit));
    let (section, write, run, what) = match hit.remedy {
        Remedy::Write(section, line) => (Some(section), Some(line), edit(), None),
        Remedy::Run(command) => (None, None, Some(command), None),
        Remedy::Do(what) => (None, None, None, Some(what)),
    };
    let why = rule.why.replace("{}", &hit.seen);
    let Hit { unit, setting, value, .. } = hit;
    Finding { rule: rule.id, severity: rule.severity, unit, setting, value, why, section, write, run, what }
}
