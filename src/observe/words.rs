//! How each event reads: one sentence per event, for a person who sees it once. `event` says what happened.
#![forbid(unsafe_code)]

use super::event::{Change, Event, How, Rejected, Severity};
use super::tally::Counters;
use crate::policy::throttle::Sources;
use crate::sys::errno_words;
use crate::sys::process::{Exit, Usage};
use std::fmt;
use std::time::Duration;

/// 0 is no limit.
pub fn limit(max: u32) -> String {
    if max == 0 { "unlimited".into() } else { max.to_string() }
}

/// `1 command`, `2 commands`. The noun is one that takes an `s`.
pub fn many(count: impl Into<u64>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

fn seconds(span: &Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "errors",
            Severity::Warning => "refusals and problems",
            Severity::Notice => "start, stop, refusals and problems",
            Severity::Info => "every connection",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            How::Exit(Exit::Code(code)) => write!(f, "exited with status {code}"),
            How::Exit(Exit::Signal(signal)) => write!(f, "was killed by signal {signal}"),
            How::OutOfMemory => f.write_str("ran out of memory and was killed"),
            How::NotStarted(errno) => write!(f, "did not start ({})", errno_words(*errno)),
            How::Unknown => f.write_str("ended with unknown status (reaped by PID 1)"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Event::Listening { local, listener } => write!(f, "listening on {local} as '{listener}'"),
            Event::Ready { max, when_full, dry_run, command } => {
                let most = match max {
                    0 => "unlimited connections".into(),
                    max => format!("at most {} at once", many(*max, "connection")),
                };
                let dry_run = if dry_run.is_empty() { String::new() } else { format!("; dry run: {dry_run}") };
                write!(f, "ready: {most} ({when_full} when full{dry_run}), command {command}")
            }
            Event::Rejected(rejected) => {
                let Rejected { refusal, peer, listener, .. } = &**rejected;
                write!(f, "rejected connection: {refusal}: {peer} on '{listener}'")
            }
            Event::WouldReject { rejected, holds } => {
                let Rejected { refusal, peer, listener, .. } = &**rejected;
                let what = if *holds { "hold" } else { "reject" };
                write!(f, "dry run: would {what} connection: {refusal}: {peer} on '{listener}'")
            }
            Event::WouldRejectMore(summary) => {
                let (lasted, why) = (seconds(&summary.lasted), summary.reason.summary());
                write!(
                    f,
                    "dry run: would reject {} in the last {lasted}: {why}",
                    many(summary.count, "more connection")
                )?;
                write_most(&summary.sources, f)
            }
            Event::RejectedMore(summary) => {
                let (lasted, why) = (seconds(&summary.lasted), summary.reason.summary());
                write!(f, "refused {} in the last {lasted}: {why}", many(summary.count, "more connection"))?;
                write_most(&summary.sources, f)
            }
            Event::CutShort { count, max } => {
                write!(
                    f,
                    "closed {} early: more than {max} were still open, so some may not have received the reply",
                    many(*count, "refused connection")
                )
            }
            Event::Changed { change, asked_by } => {
                match change {
                    Change::Drained { active, after } => {
                        let commands = if *active == 1 { "command goes" } else { "commands go" };
                        f.write_str("drained: no further commands are started")?;
                        if !after.is_zero() {
                            write!(f, " after {}, when load balancers know", seconds(after))?;
                        }
                        write!(f, ", {active} {commands} on")?;
                    }
                    Change::Resumed { lasted } => write!(f, "resumed after {}", seconds(lasted))?,
                    Change::Limits(limits) => write!(f, "limits set until the next restart: {limits}")?,
                    Change::Forgotten(source) => write!(f, "penalty and rate lifted of {source}")?,
                    Change::LogLevel(severity) => write!(f, "log level set until the next restart: {severity}")?,
                }
                write!(f, ", as asked by {asked_by}")
            }
            Event::SourceTableFull { option, max } => write!(
                f,
                "the source table of --{option} is full: it limits all of its {}, and no other until one is free again; --max-sources makes it larger",
                many(*max, "source")
            ),
            Event::NotApart { part, why } => {
                write!(f, "commands run without --isolate={part}, which cannot be had here: {why}")
            }
            Event::SignalsPass { abi } => write!(
                f,
                "commands cannot trace each other or read each other's memory, but signals still pass between them: that needs Linux 6.12 (Landlock ABI 6, here it is {abi})"
            ),
            Event::FewerHeld { wanted, capacity } => write!(
                f,
                "LimitNOFILE= or FileDescriptorStoreMax= allows only {capacity} of --max-waiting {wanted} clients to be held; the rest wait in the kernel's queue"
            ),
            Event::AcceptPaused { listener, error, pause } => {
                let ms = pause.as_millis();
                write!(f, "cannot accept on '{listener}': {error}; clients wait, trying again in {ms} ms")
            }
            Event::AcceptResumed { failures, lasted } => {
                write!(f, "accepting again after {} in {}", many(*failures, "failure"), seconds(lasted))
            }
            Event::NotOpened { address, listener, error } => {
                write!(f, "cannot listen on {address}: {error}; serving the other addresses of '{listener}'")
            }
            Event::ListenerBroken { listener, error } => {
                write!(f, "cannot accept on '{listener}': {error}; giving up on this listener")
            }
            Event::Closed { refusal, clients } => {
                write!(f, "{refusal}: not starting further commands; their clients {clients}")
            }
            Event::PressureLost { resource, error } => {
                write!(
                    f,
                    "cannot read the {resource} pressure any more: {error}; its limit is off until the next start"
                )
            }
            Event::Open { reason, lasted } => {
                write!(f, "starting further commands again: {} for {}", reason.summary(), seconds(lasted))
            }
            Event::StartFailed { command, error, clients } => {
                write!(f, "cannot start {command}: {error}; its clients {clients}")
            }
            Event::StartRecovered { failures, lasted } => {
                write!(f, "commands start again after {} in {}", many(*failures, "failure"), seconds(lasted))
            }
            Event::Cgroups { path, fallbacks } => {
                write!(f, "each connection gets a cgroup of its own: {path}/conn-N")?;
                fallbacks.iter().try_for_each(|fallback| write!(f, "; {fallback}"))
            }
            Event::Fallbacks(all) => write!(f, "fallbacks for this kernel: {}", all.join("; ")),
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
            Event::Ended { id, pid, how, after, waited, usage, .. } => {
                write!(f, "connection {id} ended: pid {pid} {how} after {}", seconds(after))?;
                if let Some(waited) = waited {
                    write!(f, " (waited {})", seconds(waited))?;
                }
                match usage {
                    Some(Usage { cpu_usec, peak_memory, peak_tasks, io_bytes }) => {
                        let (cpu, peak) = (Duration::from_micros(*cpu_usec).as_secs_f64(), peak_memory >> 10);
                        write!(f, ", {cpu:.3} s CPU")?;
                        if peak > 0 {
                            write!(f, ", {peak} KiB peak memory")?; // else it is not known
                        }
                        if let Some(tasks) = peak_tasks {
                            write!(f, ", at most {}", many(*tasks, "task"))?;
                        }
                        match io_bytes {
                            Some((read, written)) => {
                                write!(f, ", {} KiB read and {} KiB written", read >> 10, written >> 10)
                            }
                            None => Ok(()),
                        }
                    }
                    None => Ok(()),
                }
            }
            Event::Draining { signal, active: 0, .. } => {
                write!(f, "{signal}: accepting no more connections; no commands are running")
            }
            Event::Draining { signal, active, patience } => {
                let (over, commands) = (seconds(patience), many(*active as u64, "command"));
                write!(f, "{signal}: accepting no more connections, waiting up to {over} for {commands}")
            }
            Event::Killing { signal, active, strays } => {
                write!(f, "sending {signal} to {}", commands_and_strays(*active, *strays))
            }
            Event::CannotEnd { active, strays } => {
                let who = commands_and_strays(*active, *strays);
                write!(f, "exiting although SIGKILL has not ended {who}")
            }
            Event::NotFound { error, is_recorded } => {
                let counted = match is_recorded {
                    false => "commands of an earlier daemon that still run are not counted",
                    true => "commands of an earlier daemon are counted as it recorded them",
                };
                write!(
                    f,
                    "cannot search for processes of this service: {error}; {counted}, and a stop does not end what commands leave behind"
                )
            }
            Event::NotRead => f.write_str(
                "cannot read what the previous daemon has recorded: it is of another version, or damaged; commands that still run are looked for, and counts begin anew",
            ),
            Event::NotKnown { count, first } => {
                let closed = many(*count, "descriptor");
                write!(f, "closed {closed} of the previous daemon that this version does not know: {first}")?;
                if *count > 1 { f.write_str(", ...") } else { Ok(()) }
            }
            Event::TakenOver { running, unknown, held, sources } => {
                write!(f, "took over from the previous daemon: {}", running_and_held(*running, *held))?;
                if *unknown > 0 {
                    write!(
                        f,
                        "; the listener of {unknown} of them is unknown: counted towards a listener only if there is just one"
                    )?;
                }
                write_most(sources, f)
            }
            Event::HandedOver { running, held, counters } => {
                write!(f, "handed over to the next daemon: {}; totals: ", running_and_held(*running, *held))?;
                write_counters(counters, f)
            }
            Event::NotStored { held, error } => {
                let clients = many(*held as u64, "held client");
                write!(f, "could not hand everything over to the next daemon: {error}; closed {clients}")
            }
            Event::TimeLimit { id, pid: 0, limit } => write!(
                f,
                "connection {id} reached the time limit of {}: sending SIGTERM to all that its command has left behind",
                seconds(limit)
            ),
            Event::TimeLimit { id, pid, limit } => {
                write!(f, "connection {id} reached the time limit of {}: sending SIGTERM to pid {pid}", seconds(limit))
            }
            Event::ScoreNotSet { pid, score, error } => write!(
                f,
                "cannot set the oom_score_adj of a command (pid {pid}) to {score} (--oom-score-adjust): {error}; it keeps the one that it has"
            ),
            Event::Stopping { id, pid, is_forced, asked_by } => {
                let what = if *is_forced { "killing" } else { "stopping" };
                let left = if *pid == 0 { "what is left of " } else { "" };
                write!(f, "{what} {left}the command of connection {id} (pid {pid}), as asked by {asked_by}")
            }
            Event::Idle { lasted } => write!(f, "idle for {}, exiting", seconds(lasted)),
            Event::SignalIgnored { signal } => write!(f, "{signal} ignored: restart to change settings"),
            Event::Lost { count } => write!(
                f,
                "lost {}: the log did not accept them in time",
                match count {
                    1 => "1 log entry".into(),
                    count => format!("{count} log entries"),
                }
            ),
            Event::StderrInherited { error } => write!(
                f,
                "cannot pass on what commands write to stderr with the number of their connection: {error}; it goes where sockcap's own stderr goes"
            ),
            Event::StderrStreams { failures, lasted } => write!(
                f,
                "what commands write to stderr has the number of their connection again, after {} in {}",
                many(*failures, "failure"),
                seconds(lasted)
            ),
            Event::StderrSuppressed { count } => write!(
                f,
                "suppressed {} that this connection's command wrote to stderr: more than 2500 in 30 s",
                many(*count, "line")
            ),
            Event::StderrLost { count } => {
                write!(f, "lost {} of commands on stderr: the log did not take them", many(*count, "line"))
            }
            Event::Failed { line } => f.write_str(line),
            Event::Stopped(counters) => {
                f.write_str("stopped: ")?;
                write_counters(counters, f)
            }
        }
    }
}

/// What a stop ends: commands, and processes that are none.
fn commands_and_strays(active: usize, strays: usize) -> String {
    let commands = || many(active as u64, "command");
    match (active, strays) {
        (0, 1) => "1 process left behind by commands".into(),
        (0, _) => format!("{strays} processes left behind by commands"),
        (_, 0) => format!("{} still running", commands()),
        (_, 1) => format!("{} still running and 1 other process of the service", commands()),
        _ => format!("{} still running and {strays} other processes of the service", commands()),
    }
}

fn running_and_held(running: usize, held: usize) -> String {
    format!("{} running, {} held", many(running as u64, "command"), many(held as u64, "client"))
}

/// Whom most of it came from, if that is known.
fn write_most(sources: &Sources, f: &mut fmt::Formatter) -> fmt::Result {
    for (nth, (network, count)) in sources.iter().enumerate() {
        let before = if nth == 0 { "; most from" } else { "," };
        write!(f, "{before} {} ({count})", network.short())?;
    }
    Ok(())
}

fn write_counters(all: &Counters, f: &mut fmt::Formatter) -> fmt::Result {
    let (accepted, served, refused) = (all.total.accepted, all.total.served, all.total.refused_by_limits());
    let (gone, failed, longest) = (all.total.gone, all.total.failed(), Duration::from_micros(all.longest_wait_usec));
    write!(
        f,
        "{accepted} accepted, {served} served, {refused} refused, {gone} gone, {failed} failed to start; longest wait {}",
        seconds(&longest)
    )?;
    match all.would_refuse.iter().sum::<u64>() {
        0 => Ok(()),
        dry => write!(f, "; dry run: {} over a limit", many(dry, "client")),
    }
}

#[cfg(test)]
mod tests;
