//! `check`: what a unit lacks, as systemd sees it.
//!
//! Every trap is a rule in one table (`rules`), which is judged by what `systemctl` and `sockcap --check` say (`gather`). Nothing is changed.
#![forbid(unsafe_code)]

mod daemon;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gather;
mod rule;
mod rules;
mod show;
mod subject;
#[cfg(test)]
mod tests;
mod text;

use super::failure::Failure;
use super::globals::Globals;
use super::output::{self, Colour, Paint, visible};
use rule::Severity;
use rules::Finding;
use subject::Subject;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The service, or its socket
    #[arg(value_name = "UNIT")]
    pub unit: String,
}

/// Looks at the unit, and prints a line for each thing that is missing or wrong.
///
/// # Errors
/// No line, if there is an error or a warning among the findings; one, if the unit cannot be looked at.
pub fn run(options: &Options, globals: &Globals) -> Result<(), Failure> {
    let subject = gather::subject(&options.unit, globals.user)?;
    let findings = rules::judge(&subject);
    let text = if globals.json {
        let array = serde_json::to_value(&findings);
        output::json(&array.map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?)
    } else {
        report(&subject, &findings, Paint::new())
    };
    output::print(&text)?;
    match findings.iter().any(|finding| finding.severity < Severity::Note) {
        true => Err(Failure::failed("")),
        false => Ok(()),
    }
}

/// A line for each finding, and one that sums up.
fn report(subject: &Subject, findings: &[Finding], paint: Paint) -> String {
    let mut lines: Vec<String> = findings.iter().map(|finding| line(subject, finding, paint)).collect();
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| match count(severity) {
        1 => format!("1 {}", severity.name()),
        count => format!("{count} {}s", severity.name()),
    });
    let name = &subject.service.name;
    let edits = findings.iter().any(|finding| finding.severity < Severity::Note && finding.section.is_some());
    let then =
        if edits { format!("; after an edit run {} restart {name}", subject.systemctl()) } else { String::new() };
    lines.push(visible(&format!("{name}: {} of {} rules{then}", counts.join(", "), rules::all().count())));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(subject: &Subject, finding: &Finding, paint: Paint) -> String {
    let Finding { severity, unit, setting, value, why, rule, .. } = finding;
    let value = if value.is_empty() { " (not set)" } else { value };
    let of = if *unit == subject.service.name { String::new() } else { format!(" of {unit}") };
    let run = finding.run.as_deref().unwrap_or_default();
    let remedy = match (finding.section, &finding.write, &finding.what) {
        (Some(section), Some(write), _) => format!("write {write} in [{section}]: {run}"),
        (_, _, Some(what)) => what.clone(),
        _ => format!("run {run}"),
    };
    let severity = match severity {
        Severity::Error => paint.paint(Colour::Red, "error"),
        Severity::Warning => paint.paint(Colour::Yellow, "warning"),
        Severity::Note => severity.name().to_owned(),
    };
    format!("{severity}: {}", visible(&format!("{setting}={value}{of}: {why}; {remedy} [{rule}]")))
}
