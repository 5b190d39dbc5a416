//! `stop`, `set`, `forget`, `drain`, `resume`, `log-level`: what changes a daemon that runs.
#![forbid(unsafe_code)]

use super::args::{Drain, Forget, LogLevel, Set, Stop};
use super::ask::{self, print_json};
use super::client::{Client, Nothing};
use super::failure::Failure;
use super::globals::Globals;
use super::limits;
use super::list::state;
use super::output::{self, visible};
use super::units;
use super::words::distinct;
use crate::observe::snapshot::{Limits, Phase, Runtime, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// syslog(3)'s, as far as sockcap has them.
const LEVELS: [(&str, u8); 4] = [("err", 3), ("warning", 4), ("notice", 5), ("info", 6)];

#[derive(Deserialize)]
struct Stopped {
    pid: i32,
}

#[derive(Serialize, Deserialize)]
struct OfLimits {
    limits: Limits,
}

#[derive(Deserialize)]
struct OfRuntime {
    runtime: Runtime,
}

/// # Errors
/// As of asking; of several connections the others are stopped.
pub fn stop(options: &Stop, globals: &Globals) -> Result<(), Failure> {
    let mut client = Client::connect(&units::named(&options.unit, globals)?)?;
    let signal = if options.force { "SIGKILL" } else { "SIGTERM" };
    units::each(&options.ids, |id| {
        let parameters = json!({"id": id, "force": options.force});
        if globals.json {
            return print_json(client.call("Stop", parameters)?, None);
        }
        let Stopped { pid } = client.call("Stop", parameters)?;
        let whom = if pid == 0 { "all that its command has left behind".to_owned() } else { format!("process {pid}") };
        output::print(&format!("Sent {signal} to connection {id}, {whom}.\n"))
    })
}

/// # Errors
/// As of asking; [`super::failure::Exit::Usage`] for a mistake in a limit.
pub fn set(options: &Set, globals: &Globals) -> Result<(), Failure> {
    let mut client = Client::connect(&units::named(&options.unit, globals)?)?;
    let before: Snapshot = client.call("Describe", Nothing {})?;
    let listeners = distinct(before.runtime.listeners.iter().map(|listener| listener.name.as_str()));
    let listeners: Vec<String> = listeners.into_iter().map(str::to_owned).collect();
    let limits = limits::parse(&options.limits, &listeners).map_err(Failure::usage)?;
    let asked: Vec<_> = limits::told(&limits).into_iter().map(|(name, _)| name).collect();
    let parameters = OfLimits { limits };
    if globals.json {
        return print_json(client.call("Set", parameters)?, None);
    }
    let OfLimits { limits: after } = client.call("Set", parameters)?;
    let (before, after) = (of_names(&before.context.limits, &asked), (of_names(&after, &asked), before.context.unit));
    output::print(&changes(&before, &after.0, &after.1))
}

/// Those of `limits` that `asked` names.
fn of_names(limits: &Limits, asked: &[&str]) -> Vec<(&'static str, String)> {
    let mut all = limits::told(limits);
    all.retain(|(name, _)| asked.contains(name));
    all
}

/// What was changed, and how to keep it.
fn changes(before: &[(&'static str, String)], after: &[(&'static str, String)], unit: &str) -> String {
    let mut out = String::new();
    for (name, value) in after {
        let old = before.iter().find(|(other, _)| other == name).map_or("0", |(_, value)| value);
        out += &match old == value {
            true => format!("{name} is {} already\n", shown(value)),
            false => format!("{name} {} -> {}\n", shown(old), shown(value)),
        };
    }
    if unit.is_empty() {
        let options: Vec<_> = after.iter().map(|(name, value)| format!("--{name}={}", visible(value))).collect();
        return out + &format!("Until it is restarted. To keep it, start sockcap with {}\n", options.join(" "));
    }
    out += &format!("Until the next restart. To keep it: systemctl edit {}, with\n\n[Service]\n", visible(unit));
    for (name, value) in after {
        let assignment = format!("SOCKCAP_{}={}", name.to_ascii_uppercase().replace('-', "_"), visible(value));
        out += &format!("Environment={}\n", quoted(&assignment));
    }
    let options: Vec<_> = after.iter().map(|(name, _)| format!("--{name}")).collect();
    out + &format!("\n{} in ExecStart= would win: change it there instead.\n", options.join(" or "))
}

/// A value for a person: `none`, where an option has 0 or nothing.
fn shown(value: &str) -> String {
    if limits::is_limit(value) { visible(value) } else { "none".to_owned() }
}

/// As systemd.syntax(7) and systemd.unit(5) read it back.
fn quoted(assignment: &str) -> String {
    let text = assignment.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if text.contains([' ', '\'', '"', '\\']) { format!("\"{text}\"") } else { text }
}

/// # Errors
/// As of asking.
pub fn forget(options: &Forget, globals: &Globals) -> Result<(), Failure> {
    let mut client = Client::connect(&units::named(&options.unit, globals)?)?;
    let reply = client.call("ForgetSource", json!({"source": options.source}))?;
    match globals.json {
        true => print_json(reply, None),
        false => output::print(&format!("Penalty and rate of {} are lifted.\n", visible(&options.source))),
    }
}

/// # Errors
/// As of asking; with `wait` if the drain ends before the last command has.
pub fn drain(options: &Drain, globals: &Globals) -> Result<(), Failure> {
    let unit = units::named(&options.unit, globals)?;
    let mut client = Client::connect(&unit)?;
    let reply: Value = client.call("Drain", Nothing {})?;
    if globals.json {
        print_json(reply, None)?;
    }
    if options.wait {
        until_empty(&mut client)?;
    }
    if globals.json {
        return Ok(());
    }
    let Runtime { phase, active, .. } = ask::describe(&unit)?.runtime;
    output::print(&drained(&visible(&unit.name), phase, active))
}

/// How far a drain has come.
fn drained(unit: &str, phase: Phase, active: u32) -> String {
    let runs = match active {
        0 => "no command runs".to_owned(),
        1 => "1 command runs on".to_owned(),
        active => format!("{active} commands run on"),
    };
    let ends = format!("`sockcapctl resume {unit}` ends the drain.");
    match phase {
        Phase::Draining => format!(
            "{unit} will be drained in a few seconds, when load balancers have been told: it serves clients until then. {ends}\n"
        ),
        Phase::Drained => format!("{unit} is drained: {runs}. {ends}\n"),
        // Somebody else was quicker.
        Phase::Running | Phase::Stopping | Phase::Other => format!("{unit} is {} by now: {runs}.\n", state(phase)),
    }
}

fn until_empty(client: &mut Client) -> Result<(), Failure> {
    client.begin("Subscribe", Nothing {})?;
    client.be_patient();
    loop {
        let (state, goes_on) = client.next_reply::<OfRuntime>()?;
        match state.map(|of| of.runtime) {
            Some(Runtime { phase: Phase::Running, .. }) => {
                return Err(Failure::failed(format!("{} was resumed before its last command ended", client.unit())));
            }
            Some(Runtime { phase: Phase::Drained | Phase::Stopping, active: 0, .. }) => return Ok(()),
            _ if !goes_on => return Err(Failure::failed(format!("{} tells no more of its state", client.unit()))),
            _ => {}
        }
    }
}

/// # Errors
/// As of asking.
pub fn resume(unit: &str, globals: &Globals) -> Result<(), Failure> {
    let unit = units::named(unit, globals)?;
    let reply = Client::connect(&unit)?.call("Resume", Nothing {})?;
    match globals.json {
        true => print_json(reply, None),
        false => output::print(&format!("{} takes clients again.\n", visible(&unit.name))),
    }
}

/// # Errors
/// As of asking; [`super::failure::Exit::Usage`] for a level that there is not.
pub fn log_level(options: &LogLevel, globals: &Globals) -> Result<(), Failure> {
    let unit = units::named(&options.unit, globals)?;
    let Some(word) = &options.level else {
        return match globals.json {
            true => ask::describe_as_json(&unit, true),
            false => {
                let level = ask::describe(&unit)?.runtime.log_level;
                let name = LEVELS.iter().find(|(_, number)| *number == level).map(|(name, _)| *name);
                output::print(&name.map_or_else(|| format!("{level}\n"), |name| format!("{name}\n")))
            }
        };
    };
    let is_it = |(name, number): &&(&str, u8)| name == word || number.to_string() == *word;
    let level = LEVELS.iter().find(is_it).map(|(_, number)| *number);
    let level = level.ok_or_else(|| {
        Failure::usage(format!(
            "invalid value '{word}' for LEVEL: expected err, warning, notice, info, or a number from 3 to 6"
        ))
    })?;
    let reply: Value = Client::connect(&unit)?.call_any("io.systemd.service.SetLogLevel", json!({"level": level}))?;
    if globals.json { print_json(reply, None) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_keep_it_is_told() {
        let before = [("max-connections", "10".to_owned()), ("max-per-listener", "a=1".to_owned())];
        let after = [("max-connections", "8".to_owned()), ("max-per-listener", "a=4 b=0".to_owned())];
        let expected = "\
max-connections 10 -> 8
max-per-listener a=1 -> a=4 b=0
Until the next restart. To keep it: systemctl edit rsync-capped.service, with

[Service]
Environment=SOCKCAP_MAX_CONNECTIONS=8
Environment=\"SOCKCAP_MAX_PER_LISTENER=a=4 b=0\"

--max-connections or --max-per-listener in ExecStart= would win: change it there instead.
";
        assert_eq!(changes(&before, &after, "rsync-capped.service"), expected);
        let unmanaged = changes(&after[..1], &after[..1], "");
        assert_eq!(
            unmanaged,
            "max-connections is 8 already\nUntil it is restarted. To keep it, start sockcap with --max-connections=8\n"
        );
    }

    #[test]
    fn a_drain_is_told_as_far_as_it_has_come() {
        assert_eq!(
            drained("a", Phase::Draining, 1),
            "a will be drained in a few seconds, when load balancers have been told: it serves clients until then. \
             `sockcapctl resume a` ends the drain.\n"
        );
        let is = "a is drained: 1 command runs on. `sockcapctl resume a` ends the drain.\n";
        assert_eq!(drained("a", Phase::Drained, 1), is);
        assert_eq!(drained("a", Phase::Stopping, 0), "a is stopping by now: no command runs.\n");
    }

    #[test]
    fn no_limit_is_none() {
        let of = |old: &str, new: &str| {
            let [before, after] = [old, new].map(|value| [("max-rate", value.to_owned())]);
            changes(&before, &after, "").lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(of("0", "10/1s"), "max-rate none -> 10/1s");
        assert_eq!(of("10/1s", "0"), "max-rate 10/1s -> none");
        assert_eq!(of("", ""), "max-rate is none already");
    }

    #[test]
    fn systemd_reads_it_back() {
        for (plain, written) in
            [("A=1", "A=1"), ("A=50%", "A=50%%"), ("A=b c", "\"A=b c\""), ("A=\"\\", "\"A=\\\"\\\\\"")]
        {
            assert_eq!(quoted(plain), written);
        }
    }
}
