//! How each event reads: one sentence per event, for a person who sees it once. `event` says what happened.
#![forbid(unsafe_code)]

use super::event::{Counters, Event, How, Rejected, Severity};
use crate::policy::reason::{Reason, Refusal};
use crate::sys::process::{Exit, Usage};
use std::fmt;
use std::time::Duration;

/// 0 is no limit.
pub fn limit(max: u32) -> String {
    if max == 0 { "unlimited".into() } else { max.to_string() }
}

fn seconds(span: &Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "errors",
            Severity::Warning => "refusals and trouble",
            Severity::Notice => "start, stop, refusals and trouble",
            Severity::Info => "each connection",
        })
    }
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
