//! Every event that is logged: what happened, how serious it is, and its `MESSAGE_ID`. The words are in `words`.
#![forbid(unsafe_code)]

use super::peer::ShownPeer;
use super::tally::Counters;
use crate::policy::gate::WhenFull;
use crate::policy::limit::rule::Outcome;
use crate::policy::reason::{Reason, Refusal};
use crate::policy::resource::Resource;
use crate::policy::throttle::{Sources, Summary};
use crate::sys::process::{Exit, Usage};
use std::sync::Arc;
use std::time::Duration;

/// syslog(3)'s severities, as far as we use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 3: something is broken and stays so.
    Error,
    /// 4: somebody was turned away, or may be.
    Warning,
    /// 5: start, stop, recovery.
    Notice,
    /// 6: each connection, with `--verbose`.
    Info,
}

impl Severity {
    /// The number of syslog(3), sd-daemon(3).
    pub fn number(self) -> u8 {
        3 + self as u8
    }

    /// That of this number.
    pub fn of_number(number: u8) -> Option<Severity> {
        let all = [Severity::Error, Severity::Warning, Severity::Notice, Severity::Info];
        all.into_iter().find(|severity| severity.number() == number)
    }
}

/// One connection that was turned away, told singly.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Why, with the figures.
    pub refusal: Refusal,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The client.
    pub peer: ShownPeer,
    /// The network that the limit is for, as far as it is shown.
    pub source: Option<String>,
    /// Connections behind it in the kernel's queue, if known.
    pub queued: Option<u32>,
    /// Its own wait in that queue, microseconds, if known.
    pub waited_usec: Option<u64>,
    /// Refused by limits since the start, this one included.
    pub refused_total: u64,
}

/// How a connection's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It ran, and ended so.
    Exit(Exit),
    /// The kernel killed it, since its memory was used up.
    OutOfMemory,
    /// It was not started, for this errno.
    NotStarted(i32),
    /// It ran, and its status went to PID 1, since an earlier daemon had started it.
    Unknown,
}

/// What somebody has asked for at the control socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// To start no further commands, while so many run.
    Drained {
        /// Commands running.
        active: u32,
        /// How long load balancers have to learn of it before.
        after: Duration,
    },
    /// To start them again.
    Resumed {
        /// How long none was started.
        lasted: Duration,
    },
    /// Other limits, as options have them.
    Limits(String),
    /// To lift penalty and rate of this source.
    Forgotten(String),
    /// To log entries of this severity, and more serious ones.
    LogLevel(Severity),
}

/// Something worth logging.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the words of the sentences below")]
pub enum Event {
    /// Each connection gets a cgroup below this one; with these fallbacks.
    Cgroups { path: String, fallbacks: Vec<String> },
    /// What is done in another way than on newer kernels, and is not told otherwise.
    Fallbacks(Vec<&'static str>),
    /// A listener is ready.
    Listening { local: String, listener: Arc<str> },
    /// Everything is.
    Ready { max: u32, when_full: WhenFull, dry_run: String, command: String },
    /// A refusal, singly.
    Rejected(Box<Rejected>),
    /// The refusals that were not told singly.
    RejectedMore(Summary),
    /// What `--dry-run` would have refused, or held, singly.
    WouldReject { rejected: Box<Rejected>, holds: bool },
    /// And what was not told singly.
    WouldRejectMore(Summary),
    /// Refusals whose client may have lost the reply, since too many others lingered.
    CutShort { count: u64, max: usize },
    /// accept(2) cannot go on for now: the first of an episode.
    AcceptPaused { listener: Arc<str>, error: String, pause: Duration },
    /// It can again.
    AcceptResumed { failures: u64, lasted: Duration },
    /// One address of a name cannot be listened on, while another one can.
    NotOpened { address: String, listener: Arc<str>, error: String },
    /// A listener is of no more use.
    ListenerBroken { listener: Arc<str>, error: String },
    /// A limit's table of sources has no room for another one: the first of an episode.
    SourceTableFull { option: &'static str, max: u32 },
    /// A part of `--isolate` cannot be had.
    NotApart { part: &'static str, why: String },
    /// It can in part: the kernel's Landlock, of this ABI, lets signals pass.
    SignalsPass { abi: u32 },
    /// Fewer clients can be held than `--max-waiting` says.
    FewerHeld { wanted: u32, capacity: u32 },
    /// What is read lets no second and further command start: the beginning of an episode.
    Closed { refusal: Refusal, clients: &'static str },
    /// A pressure cannot be read any more.
    PressureLost { resource: Resource, error: String },
    /// They are started again.
    Open { reason: Reason, lasted: Duration },
    /// The command cannot be started: the first of an episode.
    StartFailed { command: String, error: String, clients: &'static str },
    /// It can again.
    StartRecovered { failures: u64, lasted: Duration },
    /// A command was started for a connection.
    Serving { id: u64, pid: i32, listener: Arc<str>, peer: ShownPeer, waited_usec: Option<u64>, active: u32, max: u32 },
    /// It has ended.
    Ended {
        id: u64,
        pid: i32,
        listener: Option<Arc<str>>,
        peer: (String, Option<String>),
        how: How,
        outcome: Outcome,
        after: Duration,
        waited: Option<Duration>,
        usage: Option<Usage>,
    },
    /// A stop was asked for.
    Draining { signal: &'static str, active: usize, patience: Duration },
    /// The living are told to end.
    Killing { signal: &'static str, active: usize, strays: usize },
    /// They do not end, and are left to themselves.
    CannotEnd { active: usize, strays: usize },
    /// Whether an earlier daemon's commands still run cannot be told.
    NotFound { error: String, is_recorded: bool },
    /// What an earlier daemon has written down is in no format of this version.
    NotRead,
    /// Or what it has stored is nothing that this version knows: so many descriptors, and the name of the first.
    NotKnown { count: u64, first: String },
    /// What an earlier daemon has left.
    TakenOver { running: usize, unknown: usize, held: usize, sources: Sources },
    /// This daemon leaves what runs and who is held to the next one.
    HandedOver { running: usize, held: usize, counters: Counters },
    /// The manager did not take all that was to be left to the next daemon; so many clients among it.
    NotStored { held: usize, error: String },
    /// A command has reached `--time-limit`.
    TimeLimit { id: u64, pid: i32, limit: Duration },
    /// A command does not have the score of --oom-score-adjust: the first of an episode.
    ScoreNotSet { pid: i32, score: i32, error: String },
    /// Somebody has asked for the end of a command.
    Stopping { id: u64, pid: i32, is_forced: bool, asked_by: String },
    /// Nothing ran or waited for `--idle-exit`.
    Idle { lasted: Duration },
    /// Somebody has changed something.
    Changed { change: Change, asked_by: String },
    /// A signal that means nothing to us.
    SignalIgnored { signal: &'static str },
    /// The log could not keep up, or had nobody to talk to.
    Lost { count: u64 },
    /// The lines of commands on stderr cannot be told apart: the first of an episode.
    StderrInherited { error: String },
    /// They can again.
    StderrStreams { failures: u64, lasted: Duration },
    /// A command has written more lines than the journal should get of one.
    StderrSuppressed { count: u64 },
    /// Lines of commands had nobody to go to.
    StderrLost { count: u64 },
    /// The program cannot start, or cannot go on.
    Failed { line: String },
    /// The end.
    Stopped(Counters),
}

impl Event {
    /// How serious it is.
    pub fn severity(&self) -> Severity {
        match self {
            Event::ListenerBroken { .. } | Event::CannotEnd { .. } | Event::Failed { .. } => Severity::Error,
            Event::Rejected(_)
            | Event::RejectedMore(_)
            | Event::CutShort { .. }
            | Event::AcceptPaused { .. }
            | Event::NotOpened { .. }
            | Event::FewerHeld { .. }
            | Event::SourceTableFull { .. }
            | Event::NotFound { .. }
            | Event::NotRead
            | Event::NotKnown { .. }
            | Event::NotStored { .. }
            | Event::StartFailed { .. }
            | Event::ScoreNotSet { .. }
            | Event::Closed { .. }
            | Event::PressureLost { .. }
            | Event::Killing { .. }
            | Event::StderrInherited { .. }
            | Event::StderrSuppressed { .. }
            | Event::StderrLost { .. }
            | Event::Lost { .. } => Severity::Warning,
            Event::Ended { how: How::OutOfMemory, .. } => Severity::Notice,
            Event::Serving { .. } | Event::Ended { .. } | Event::Fallbacks(_) => Severity::Info,
            _ => Severity::Notice,
        }
    }

    /// The journal's `MESSAGE_ID`: one per kind of event, and one per reason of a refusal.
    pub fn message_id(&self) -> &'static str {
        match self {
            Event::Rejected(rejected) => rejected.refusal.reason.message_id(),
            Event::WouldReject { .. } | Event::WouldRejectMore(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b24",
            Event::RejectedMore(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b01",
            Event::Cgroups { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b51",
            Event::Fallbacks(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b32",
            Event::Listening { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b02",
            Event::Ready { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b03",
            Event::AcceptPaused { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b04",
            Event::AcceptResumed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b05",
            Event::ListenerBroken { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b06",
            Event::StartFailed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b07",
            Event::StartRecovered { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b08",
            Event::Serving { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b09",
            Event::Ended { how: How::OutOfMemory, .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b50",
            Event::Ended { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0a",
            Event::Draining { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0b",
            Event::CannotEnd { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b1c",
            Event::Killing { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0c",
            Event::SignalIgnored { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0d",
            Event::Lost { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0e",
            Event::Stopped(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0f",
            Event::CutShort { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b10",
            Event::FewerHeld { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b11",
            Event::NotApart { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b30",
            Event::SignalsPass { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b31",
            Event::TakenOver { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b12",
            Event::HandedOver { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b13",
            Event::NotFound { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b14",
            Event::NotRead => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b1d",
            Event::NotKnown { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b1e",
            Event::NotStored { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b15",
            Event::TimeLimit { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b16",
            Event::Stopping { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b26",
            Event::ScoreNotSet { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b40",
            Event::Idle { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b17",
            Event::Failed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b18",
            Event::Closed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b21",
            Event::PressureLost { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b25",
            Event::Open { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b22",
            Event::Changed { change: Change::Drained { .. }, .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b27",
            Event::Changed { change: Change::Resumed { .. }, .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b28",
            Event::Changed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b29",
            Event::NotOpened { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b20",
            Event::StderrInherited { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b60",
            Event::StderrStreams { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b61",
            Event::StderrLost { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b62",
            Event::StderrSuppressed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b63",
            Event::SourceTableFull { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b23",
        }
    }
}
