//! How sockcapctl ends: one of five exit codes, and one line on stderr for each but the first.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The exit codes, as `--help` and sockcapctl(8) list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Done = 0,
    /// It failed; or, of `ready` and `check`: no.
    Failed = 1,
    /// A mistake in options or arguments.
    Usage = 2,
    /// There is no such unit, or it does not run.
    NotRunning = 3,
    /// Of several things some are done, and some failed.
    Partly = 4,
}

impl Exit {
    /// Every one, with what it means.
    pub const ALL: [(Exit, &'static str); 5] = [
        (Exit::Done, "done"),
        (Exit::Failed, "failed; of ready and check: no"),
        (Exit::Usage, "mistake in options or arguments"),
        (Exit::NotRunning, "no such unit, or it is not running"),
        (Exit::Partly, "some of several failed"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the program ends with.
    pub exit: Exit,
    /// For stderr: what was tried, why it failed, what to do. Empty if it has been said, or if nobody reads any more.
    pub line: String,
}

impl Failure {
    /// [`Exit::Failed`].
    pub fn failed(line: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, line: line.into() }
    }

    /// [`Exit::Usage`].
    pub fn usage(line: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, line: line.into() }
    }

    /// [`Exit::NotRunning`].
    pub fn not_running(line: impl Into<String>) -> Self {
        Self { exit: Exit::NotRunning, line: line.into() }
    }

    /// [`Exit::Partly`].
    pub fn partly(line: impl Into<String>) -> Self {
        Self { exit: Exit::Partly, line: line.into() }
    }

    /// Whoever read stdout has closed it, and wants no more.
    pub fn unread() -> Self {
        Self { exit: Exit::Done, line: String::new() }
    }
}
