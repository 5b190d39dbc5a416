//! What a rule is, and what it finds.
#![forbid(unsafe_code)]

use super::subject::{Subject, Unit};
use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It does not work, or not as a whole.
    Error,
    /// It works, until something happens.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// As it stands in front of a finding.
    pub(super) fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// A trap.
pub(super) struct Rule {
    /// Its name, by which the documentation calls it.
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// What comes of it; `{}` is what the rule has seen.
    pub(super) why: &'static str,
    pub(super) find: fn(&Subject) -> Vec<Hit>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// This line in this section of the unit.
    Write(&'static str, String),
    /// A command.
    Run(String),
    /// Words.
    Do(String),
}

/// Where a rule has found what it looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) unit: String,
    /// `KillMode`, or empty if no setting is meant.
    pub(super) setting: String,
    pub(super) value: String,
    /// For the `{}` of [`Rule::why`].
    pub(super) seen: String,
    pub(super) remedy: Remedy,
}

impl Hit {
    pub(super) fn new(unit: &Unit, setting: &str, value: impl ToString, remedy: Remedy) -> Hit {
        let (unit, setting) = (unit.name.clone(), setting.to_owned());
        Hit { unit, setting, value: value.to_string(), seen: String::new(), remedy }
    }

    /// Mended by a line below `[Service]`.
    pub(super) fn service(of: &Unit, setting: &str, value: impl ToString, line: impl ToString) -> Hit {
        Hit::new(of, setting, value, Remedy::Write("Service", line.to_string()))
    }

    /// Mended by a line below `[Socket]`.
    pub(super) fn socket(of: &Unit, setting: &str, value: impl ToString, line: impl ToString) -> Hit {
        Hit::new(of, setting, value, Remedy::Write("Socket", line.to_string()))
    }

    /// Mended by a line below `[Unit]`.
    pub(super) fn unit(of: &Unit, setting: &str, value: impl ToString, line: impl ToString) -> Hit {
        Hit::new(of, setting, value, Remedy::Write("Unit", line.to_string()))
    }

    /// Mended by a command.
    pub(super) fn run(of: &Unit, setting: &str, value: impl ToString, command: impl ToString) -> Hit {
        Hit::new(of, setting, value, Remedy::Run(command.to_string()))
    }

    /// Mended as it is told.
    pub(super) fn other(of: &Unit, setting: &str, value: impl ToString, what: impl ToString) -> Hit {
        Hit::new(of, setting, value, Remedy::Do(what.to_string()))
    }

    pub(super) fn saying(self, seen: impl ToString) -> Hit {
        Hit { seen: seen.to_string(), ..self }
    }

    /// This, if it is so.
    pub(super) fn when(self, is_so: bool) -> Vec<Hit> {
        if is_so { vec![self] } else { Vec::new() }
    }
}

pub(super) const fn rule(
    id: &'static str,
    severity: Severity,
    why: &'static str,
    find: fn(&Subject) -> Vec<Hit>,
) -> Rule {
    Rule { id, severity, why, find }
}
