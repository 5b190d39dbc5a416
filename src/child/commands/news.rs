//! What becomes of commands, for the daemon to do something about.
#![forbid(unsafe_code)]

use crate::child::victim::NotSet;
use crate::policy::back_off::Over;
use crate::policy::gate::Slot;
use crate::policy::limit::rule::Outcome;
use crate::policy::source::Source;
use crate::sys::client_fd::ClientFd;
use crate::sys::process::{Exit, Usage};
use std::time::{Duration, Instant};

/// Something has become of a command.
#[derive(Debug)]
pub enum News {
    /// Its exec has failed. Its end is yet to come.
    ExecFailed(ExecFailed),
    /// Its exec has succeeded after others had failed.
    StartsAgain(Over),
    /// Its time is over, and it was sent SIGTERM.
    Overdue {
        /// Number of its connection; 0 is not known.
        id: u64,
        /// Its process.
        pid: i32,
    },
    /// It does not have the `oom_score_adj` that was asked for: the first of an episode.
    ScoreNotSet(NotSet),
    /// Somebody has asked for its end, and it was sent SIGTERM or SIGKILL.
    Stopping(Stopping),
    /// It is over.
    Ended(Ended),
}

/// A command that is ended since somebody has asked for it.
#[derive(Debug)]
pub struct Stopping {
    /// Number of its connection.
    pub id: u64,
    /// Its process.
    pub pid: i32,
    /// Whether it was sent SIGKILL at once.
    pub is_forced: bool,
    /// Who has asked.
    pub asked_by: String,
}

/// An exec that has failed.
#[derive(Debug)]
pub struct ExecFailed {
    /// Why.
    pub why: String,
    /// Whether it is the first of a run of failures.
    pub is_first: bool,
    /// The connection, so that the client can be told.
    pub connection: Option<ClientFd>,
    /// Milliseconds that its client had waited, its listener and its source; `None` if the command is not known any more.
    pub client: Option<(Option<u32>, Option<usize>, Source)>,
}

/// A command that is over.
#[derive(Debug)]
pub struct Ended {
    /// Its process.
    pub pid: i32,
    /// Number of its connection; 0 is not known.
    pub id: u64,
    /// What it was counted for.
    pub slot: Slot,
    /// When it was started.
    pub since: Instant,
    /// How long its client had waited then, if known.
    pub waited: Option<Duration>,
    /// How it ended; `None` of one that is not our child.
    pub how: Option<Exit>,
    /// What it used, if that is known.
    pub usage: Option<Usage>,
    /// errno, if its exec failed.
    pub exec_errno: Option<i32>,
    /// The same as limits care for it.
    pub outcome: Outcome,
}
