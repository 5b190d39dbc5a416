//! Every event that is told: its severity, its words, its `MESSAGE_ID`.
#![forbid(unsafe_code)]

use super::peer::ToldPeer;
use crate::policy::gate::WhenFull;
use crate::policy::reason::{Reason, Refusal};
use crate::policy::throttle::Summary;
use crate::sys::process::{Exit, Usage};
use std::fmt;
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

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Severity::Error => "errors",
            Severity::Warning => "refusals and trouble",
            Severity::Notice => "start, stop, refusals and trouble",
            Severity::Info => "each connection",
        })
    }
}

impl Severity {
    /// The number of syslog(3), sd-daemon(3).
    pub fn number(self) -> u8 {
        3 + self as u8
    }
}

/// What became of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken from the kernel's queue.
    pub accepted: u64,
    /// Given a command, which has ended since.
    pub served: u64,
    /// Told to come back later, by reason.
    pub refused: [u64; Reason::ALL.len()],
    /// Found gone.
    pub gone: u64,
    /// Microseconds that the longest waiting of those served or refused had waited, as far as it was read.
    pub longest_wait_usec: u64,
}

impl Counters {
    /// Refused by a limit: all reasons but a command that failed to start.
    pub fn refused_by_limits(&self) -> u64 {
        self.refused.iter().sum::<u64>() - self.failed()
    }

    /// Connections whose command could not be started.
    pub fn failed(&self) -> u64 {
        self.refused[Reason::StartFailed.index()]
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
    pub peer: ToldPeer,
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
    /// It was not started, for this errno.
    NotStarted(i32),
    /// It ran, and its status went to PID 1, since an earlier daemon had started it.
    Unknown,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            How::Exit(Exit::Code(code)) => write!(f, "exited with status {code}"),
            How::Exit(Exit::Signal(signal)) => write!(f, "was killed by signal {signal}"),
            How::NotStarted(errno) => write!(f, "did not start ({})", nix::Error::from_raw(*errno).desc()),
            How::Unknown => f.write_str("ended, its status went to PID 1"),
        }
    }
}

/// Something worth telling.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are the words of the sentences below")]
pub enum Event {
    /// A listener is ready.
    Listening { local: String, listener: Arc<str> },
    /// Everything is.
    Ready { max: u32, when_full: WhenFull, command: String },
    /// A refusal, singly.
    Rejected(Box<Rejected>),
    /// The refusals that were not told singly.
    RejectedMore(Summary),
    /// Refusals whose client may have lost the reply, since too many others lingered.
    CutShort { count: u64, most: usize },
    /// accept(2) cannot go on for now: the first of an episode.
    AcceptPaused { listener: Arc<str>, error: String, pause: Duration },
    /// It can again.
    AcceptResumed { failures: u64, over: Duration },
    /// A listener is of no more use.
    ListenerBroken { listener: Arc<str>, error: String },
    /// Fewer clients can be held than `--max-waiting` says.
    FewPlaces { wanted: u32, places: u32 },
    /// The command cannot be started: the first of an episode.
    StartFailed { command: String, error: String, clients: &'static str },
    /// It can again.
    StartRecovered { failures: u64, over: Duration },
    /// A command was started for a connection.
    Serving { id: u64, pid: i32, listener: Arc<str>, peer: ToldPeer, waited_usec: Option<u64>, active: u32, max: u32 },
    /// It has ended.
    Ended { id: u64, pid: i32, how: How, after: Duration, waited: Option<Duration>, usage: Option<Usage> },
    /// A stop was asked for.
    Draining { signal: &'static str, active: usize, patience: Duration },
    /// The living are told to end.
    Killing { signal: &'static str, active: usize },
    /// Whether an earlier daemon's commands still run cannot be told.
    NotFound { error: String },
    /// What an earlier daemon has left.
    TakenOver { running: usize, unknown: usize, waiting: usize },
    /// This daemon leaves what runs and what waits to the next one.
    HandedOver { running: usize, waiting: usize, counters: Counters },
    /// The manager did not take all that was to be left to the next daemon; so many clients among it.
    NotStored { waiting: usize, error: String },
    /// A command has reached `--time-limit`.
    TimeLimit { id: u64, pid: i32, limit: Duration },
    /// Nothing ran or waited for `--idle-exit`.
    Idle { over: Duration },
    /// A signal that means nothing to us.
    SignalIgnored { signal: &'static str },
    /// The log could not keep up, or had nobody to talk to.
    Lost { count: u64 },
    /// The end.
    Stopped(Counters),
}

impl Event {
    /// How serious it is.
    pub fn severity(&self) -> Severity {
        match self {
            Event::ListenerBroken { .. } => Severity::Error,
            Event::Rejected(_)
            | Event::RejectedMore(_)
            | Event::CutShort { .. }
            | Event::AcceptPaused { .. }
            | Event::FewPlaces { .. }
            | Event::NotFound { .. }
            | Event::NotStored { .. }
            | Event::StartFailed { .. }
            | Event::Killing { .. }
            | Event::Lost { .. } => Severity::Warning,
            Event::Serving { .. } | Event::Ended { .. } => Severity::Info,
            _ => Severity::Notice,
        }
    }

    /// The journal's `MESSAGE_ID`: one per kind of event, and one per reason of a refusal.
    pub fn message_id(&self) -> &'static str {
        match self {
            Event::Rejected(rejected) => rejected.refusal.reason.message_id(),
            Event::RejectedMore(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b01",
            Event::Listening { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b02",
            Event::Ready { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b03",
            Event::AcceptPaused { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b04",
            Event::AcceptResumed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b05",
            Event::ListenerBroken { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b06",
            Event::StartFailed { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b07",
            Event::StartRecovered { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b08",
            Event::Serving { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b09",
            Event::Ended { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0a",
            Event::Draining { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0b",
            Event::Killing { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0c",
            Event::SignalIgnored { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0d",
            Event::Lost { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0e",
            Event::Stopped(_) => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b0f",
            Event::CutShort { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b10",
            Event::FewPlaces { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b11",
            Event::TakenOver { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b12",
            Event::HandedOver { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b13",
            Event::NotFound { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b14",
            Event::NotStored { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b15",
            Event::TimeLimit { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b16",
            Event::Idle { .. } => "5c1cbd7bcb154a4b9f7e0b4d4b1d0b17",
        }
    }
}

/// 0 is no limit.
pub fn limit(max: u32) -> String {
    if max == 0 { "unlimited".into() } else { max.to_string() }
}

fn seconds(span: &Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Event::Listening { local, listener } => write!(f, "listening on {local} as '{listener}'"),
            Event::Ready { max, when_full, command } => {
                write!(
                    f,
                    "ready: at most {} connections at once ({when_full} when full), command {command}",
                    limit(*max)
                )
            }
            Event::Rejected(rejected) => write_rejected(rejected, f),
            Event::RejectedMore(summary) => {
                let (count, over, why) = (summary.count, seconds(&summary.over), summary.reason.summary());
                write!(f, "rejected {count} more connections in the last {over}: {why}")
            }
            Event::CutShort { count, most } => {
                write!(
                    f,
                    "closed {count} refused clients early: more than {most} had not yet closed, and some may have lost the reply"
                )
            }
            Event::FewPlaces { wanted, places } => write!(
                f,
                "--max-waiting {wanted} is more than LimitNOFILE= or FileDescriptorStoreMax= allow: {places} clients are held, the rest waits in the kernel's queue"
            ),
            Event::AcceptPaused { listener, error, pause } => {
                let ms = pause.as_millis();
                write!(f, "cannot accept on '{listener}': {error}; clients wait, trying again in {ms} ms")
            }
            Event::AcceptResumed { failures, over } => {
                write!(f, "accepting again after {failures} failures in {}", seconds(over))
            }
            Event::ListenerBroken { listener, error } => {
                write!(f, "cannot accept on '{listener}': {error}; this listener is given up")
            }
            Event::StartFailed { command, error, clients } => {
                write!(f, "cannot start {command}: {error}; its clients {clients}")
            }
            Event::StartRecovered { failures, over } => {
                write!(f, "commands start again after {failures} failures in {}", seconds(over))
            }
            Event::Serving { id, pid, listener, peer, waited_usec, active, max } => {
                write!(
                    f,
                    "serving connection {id} from {peer} on '{listener}' as pid {pid} ({active}/{})",
                    limit(*max)
                )?;
                match waited_usec {
                    Some(usec) => write!(f, " after {} ms in the queue", usec / 1000),
                    None => Ok(()),
                }
            }
            Event::Ended { id, pid, how, after, waited, usage } => {
                write!(f, "connection {id} ended: pid {pid} {how} after {}", seconds(after))?;
                if let Some(waited) = waited {
                    write!(f, " (and {} of waiting)", seconds(waited))?;
                }
                match usage {
                    Some(Usage { cpu_usec, peak_memory }) => {
                        let (cpu, peak) = (Duration::from_micros(*cpu_usec).as_secs_f64(), peak_memory >> 10);
                        write!(f, ", {cpu:.3} s of CPU, at most {peak} KiB of memory")
                    }
                    None => Ok(()),
                }
            }
            Event::Draining { signal, active, patience } => {
                write!(f, "{signal}: no more connections; {active} running may take {}", seconds(patience))
            }
            Event::Killing { signal, active } => write!(f, "sending {signal} to {active} commands that still run"),
            Event::NotFound { error } => {
                write!(f, "cannot look for commands that still run: {error}; if there are any, they are not counted")
            }
            Event::TakenOver { running, unknown, waiting } => {
                write!(f, "taken over from the daemon before: {running} commands still run, {waiting} clients wait")?;
                match unknown {
                    0 => Ok(()),
                    _ => write!(
                        f,
                        "; {unknown} of the commands cannot be recognized, and count towards a listener only if there is just one"
                    ),
                }
            }
            Event::HandedOver { running, waiting, counters } => {
                write!(f, "left to the next daemon: {running} commands run on, {waiting} clients wait; so far ")?;
                write_counters(counters, f)
            }
            Event::NotStored { waiting, error } => {
                write!(f, "cannot leave everything to the next daemon: {error}; {waiting} waiting clients are closed")
            }
            Event::TimeLimit { id, pid, limit } => {
                write!(
                    f,
                    "connection {id} has reached the time limit of {}: sending SIGTERM to pid {pid}",
                    seconds(limit)
                )
            }
            Event::Idle { over } => write!(f, "nothing ran or waited for {}", seconds(over)),
            Event::SignalIgnored { signal } => write!(f, "{signal} ignored: restart to change settings"),
            Event::Lost { count } => write!(f, "{count} log entries were lost: the log did not take them in time"),
            Event::Stopped(counters) => {
                f.write_str("stopped: ")?;
                write_counters(counters, f)
            }
        }
    }
}

fn write_counters(all: &Counters, f: &mut fmt::Formatter) -> fmt::Result {
    let (accepted, served, refused) = (all.accepted, all.served, all.refused_by_limits());
    let (gone, failed, longest) = (all.gone, all.failed(), Duration::from_micros(all.longest_wait_usec));
    write!(
        f,
        "{accepted} accepted, {served} served, {refused} refused, {gone} gone, {failed} failed to start; longest wait {}",
        seconds(&longest)
    )
}

fn write_rejected(rejected: &Rejected, f: &mut fmt::Formatter) -> fmt::Result {
    let Refusal { reason, active, max, load, max_load, waiting } = rejected.refusal;
    // Trouble, and not a number, may be what keeps a client waiting.
    let running = || if max == 0 { format!("{active} running") } else { format!("{active}/{max} running") };
    f.write_str("rejected connection: ")?;
    match reason {
        Reason::TotalLimit => write!(f, "at capacity ({active}/{max})")?,
        Reason::ListenerLimit => write!(f, "at capacity ({active}/{max}) of this listener")?,
        Reason::Load => write!(f, "load average {load:.2} is not below {max_load:.2}")?,
        Reason::StartFailed => f.write_str("the command could not be started")?,
        Reason::WaitedTooLong => {
            let waited = Duration::from_micros(rejected.waited_usec.unwrap_or(0));
            write!(f, "waited too long ({}, {})", seconds(&waited), running())?
        }
        Reason::QueueFull => write!(f, "queue full ({waiting} waiting, {})", running())?,
        Reason::Stopping => f.write_str("the service is stopping")?,
    }
    write!(f, ": {} on '{}'", rejected.peer, rejected.listener)
}
