//! `FOO@.service`, one for each connection, becomes `FOO-capped.service`, one for all.
//!
//! The recipe is that of the shipped units; `units/rsync-capped.service` has the reasons.
#![forbid(unsafe_code)]

use super::command;
use super::limits;
use super::names::Names;
use super::pair::{Lines, Listening, Notes, Pair};
use super::sandbox;
use super::words::of_service;

/// What becomes of a setting.
enum Fate {
    /// It stands in the new unit, too.
    Kept,
    /// The recipe has its own, which does the same.
    Replaced,
    /// It is left out, which matters: why.
    Lost(&'static str),
    /// It is kept, and does something else: what.
    Changed(&'static str),
}

fn fate(key: &str, value: &str) -> Fate {
    use Fate::{Changed, Kept, Lost, Replaced};
    match key {
        "Type" if matches!(value, "notify" | "notify-reload" | "dbus") => {
            Lost("sockcap does not wait until a command is ready")
        }
        "Type" if value == "forking" => {
            Lost("a command must stay in the foreground: when its first process ends, its place is free")
        }
        "Restart" if value != "no" => Lost("the command of a connection is never started again"),
        "KillSignal" if !matches!(value, "SIGTERM" | "TERM" | "15") => Lost("commands are ended by SIGTERM"),
        "SendSIGHUP" if value != "no" => Lost("commands are ended by SIGTERM alone"),
        "BusName" => Lost("sockcap does not wait until a command is ready"),
        "PAMName" => Lost("there is no PAM session for each connection"),
        "UtmpIdentifier" | "UtmpMode" => Lost("there is no utmp entry for each connection"),
        "TTYPath" | "TTYReset" | "TTYVHangup" | "TTYVTDisallocate" | "TTYRows" | "TTYColumns" => {
            Lost("commands do not share a terminal")
        }
        "ExecStartPre" => Changed("is run once, when the service starts, not for each connection"),
        "ExecCondition" | "ExecStartPost" | "ExecReload" | "ExecStop" | "ExecStopPost" => {
            Lost("nothing is run before or after each connection but the command: let a script do it")
        }
        "RuntimeRandomizedExtraSec" => Lost("--time-limit is the same for all"),
        "WatchdogSec" => Lost("sockcap does not watch its commands"),
        "NonBlocking" if value != "no" => Lost("a command's socket is blocking"),
        "StandardInputText" | "StandardInputData" => Lost("a command's standard input is its connection or empty"),
        "IgnoreSIGPIPE" if value != "no" => Lost("a command finds SIGPIPE at its default"),
        "OpenFile" => Lost("a command has its connection alone"),
        "PrivatePIDs" => Lost("sockcap has to be the service's own process"),
        "FileDescriptorStoreMax" if value != "0" => Lost("the store is sockcap's own"),
        "EnvironmentFile" => {
            Changed("is read when the service starts: restart it after a change, which ends no connection")
        }
        "RootDirectory" | "RootImage" => Changed("has to have /usr/bin/sockcap and its libraries in it"),
        "Type"
        | "Restart"
        | "KillSignal"
        | "SendSIGHUP"
        | "NonBlocking"
        | "IgnoreSIGPIPE"
        | "FileDescriptorStoreMax"
        | "RestartSec"
        | "RestartSteps"
        | "RestartMaxDelaySec"
        | "RestartMode"
        | "SuccessExitStatus"
        | "RestartPreventExitStatus"
        | "RestartForceExitStatus"
        | "NotifyAccess"
        | "GuessMainPID"
        | "PIDFile"
        | "RemainAfterExit"
        | "KillMode"
        | "RestartKillSignal"
        | "SendSIGKILL"
        | "FinalKillSignal"
        | "WatchdogSignal"
        | "TimeoutStartSec"
        | "TimeoutSec"
        | "TimeoutStopSec"
        | "TimeoutAbortSec"
        | "TimeoutStartFailureMode"
        | "TimeoutStopFailureMode"
        | "OOMPolicy"
        | "OOMScoreAdjust"
        | "RuntimeMaxSec"
        | "LimitNOFILE"
        | "SyslogIdentifier"
        | "StandardInput"
        | "StandardOutput"
        | "StandardError"
        | "FileDescriptorStorePreserve"
        | "ExecStart"
        | "Sockets"
        | "StartLimitInterval"
        | "StartLimitBurst"
        | "StartLimitAction" => Replaced,
        _ => Kept,
    }
}

/// The sections of the new service.
///
/// # Errors
/// One line, if sockcap cannot run its command.
pub fn convert(pair: &Pair, listening: &Listening, notes: &mut Notes) -> Result<[Lines; 3], String> {
    let command = command::convert(pair, listening, notes)?;
    let mut lines: Lines = vec!["Type=notify".into(), "NotifyAccess=main".into()];
    lines.extend(command.lines);
    lines.extend(limits::convert(pair, listening, notes)?);
    lines.extend(control(pair, notes));
    let identifier = pair.service.get("Service", "SyslogIdentifier").and_then(|value| of_service(value, &pair.names));
    lines.push("# The identifier of what a command writes to stderr; entries of sockcap itself are found by `journalctl -t sockcap`.".into());
    lines.push(format!("SyslogIdentifier={}", identifier.unwrap_or_else(|| called(pair, command.program))));
    let kept = kept(pair, listening, notes);
    if !kept.is_empty() {
        lines.push(String::new());
        lines.extend(kept);
    }
    let names = &pair.names;
    Ok([unit(pair, notes), lines, vec![format!("Also={}", names.reference(&names.new_socket()))]])
}

/// The name by which the journal knows a program; that of a shell says nothing.
fn called(pair: &Pair, program: String) -> String {
    const WRAPPERS: [&str; 8] = ["sh", "bash", "dash", "env", "tcpd", "perl", "python3", "nice"];
    let is_plain = program.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
    if is_plain && !program.is_empty() && !WRAPPERS.contains(&program.as_str()) {
        program
    } else {
        pair.names.prefix.clone()
    }
}

/// For sockcapctl, which looks for it there.
fn control(pair: &Pair, notes: &mut Notes) -> Lines {
    let mut lines: Lines = vec![
        "# For sockcapctl.".into(),
        "Environment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock".into(),
        "RuntimeDirectory=sockcap/%N".into(),
    ];
    let of = |key| pair.service.get("Service", key).filter(|value| of_service(value, &pair.names).is_some());
    if of("RuntimeDirectory").is_some() {
        notes.say(format!(
            "commands of {} find sockcap's directory in $RUNTIME_DIRECTORY, too, before their own",
            pair.names.service()
        ));
        if of("RuntimeDirectoryPreserve").is_none() {
            lines.push("# Commands that go on over a restart keep their directory.".into());
            lines.push("RuntimeDirectoryPreserve=restart".into());
        }
    }
    lines
}

/// What is taken over from the old unit, for sockcap and all commands together.
fn kept(pair: &Pair, listening: &Listening, notes: &mut Notes) -> Lines {
    let (names, service) = (&pair.names, pair.names.service());
    let mut settings = Vec::new();
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (key, value) in pair.service.settings("Service") {
        let reason = match fate(key, value) {
            Fate::Replaced => continue,
            Fate::Lost(why) => {
                notes.say(format!("{key}={value} of {service} is left out: {why}"));
                continue;
            }
            Fate::Changed(how) => Some(how),
            Fate::Kept => None,
        };
        let Some(converted) = of_service(value, names) else {
            notes.say(format!("{key}={value} of {service} is left out: there is no unit with the connection's name"));
            continue;
        };
        if let Some(reason) = reason {
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, keys)) => keys.push(key),
                None => reasons.push((reason, vec![key])),
            }
        }
        settings.push((key.to_owned(), converted));
    }
    for (reason, mut keys) in reasons {
        keys.dedup();
        notes.say(format!("{}= of {service} {reason}", keys.join("=, ")));
    }
    sandbox::adjust(pair, listening, settings, notes)
}

fn unit(pair: &Pair, notes: &mut Notes) -> Lines {
    let (names, service) = (&pair.names, pair.names.service());
    let description = pair.service.get("Unit", "Description").unwrap_or(&names.prefix);
    let mut lines = vec![format!("Description={} with a connection limit", without_instance(description))];
    let socket = names.reference(&names.new_socket());
    lines.extend([format!("Wants={socket}"), format!("After={socket}")]);
    for (key, value) in pair.service.settings("Unit") {
        let Some(value) = of_service(value, names) else {
            if key != "Description" {
                notes.say(format!(
                    "{key}={value} of {service} is left out: there is no unit with the connection's name"
                ));
            }
            continue;
        };
        match key {
            "Description" | "SourcePath" | "CollectMode" => {}
            _ if key.starts_with("Condition") || key.starts_with("Assert") || key.starts_with("StartLimit") => {}
            "StopWhenUnneeded"
            | "SuccessAction"
            | "JobTimeoutSec"
            | "JobRunningTimeoutSec"
            | "JobTimeoutAction"
            | "OnSuccess" => {
                notes.say(format!(
                    "{key}={value} of {service} is left out: the service stays when a connection has ended"
                ));
            }
            "OnFailure" | "FailureAction" => {
                notes.say(format!(
                    "{key}={value} of {service} is for sockcap now: a command that fails does not fail the service"
                ));
                lines.push(format!("{key}={value}"));
            }
            _ if is_dependency(key) => {
                let others = without_itself(names, &value);
                lines.extend((!others.is_empty()).then(|| format!("{key}={others}")));
            }
            _ => lines.push(format!("{key}={value}")),
        }
    }
    lines.push(
        "# With Restart= and RestartSec=: a start that fails is tried again each second, and clients wait.".into(),
    );
    lines.push("StartLimitIntervalSec=0".into());
    lines
}

fn is_dependency(key: &str) -> bool {
    ["After", "Before", "Requires", "Wants", "BindsTo", "PartOf", "Requisite", "Upholds"].contains(&key)
}

/// Without its own socket, which has its place already, and which must not end connections when it is stopped.
fn without_itself(names: &Names, units: &str) -> String {
    let own = [names.reference(&names.new_socket()), names.reference(&names.new_service())];
    let renamed = names.renamed(units);
    renamed.split(' ').filter(|unit| !own.contains(&(*unit).to_owned())).collect::<Vec<_>>().join(" ")
}

/// A description is for people: without the name of a connection it is still one.
fn without_instance(description: &str) -> String {
    let text = description.replace("%i", "").replace("%I", "").replace("()", "");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches([' ', '-', ':', ',', '@']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_without_its_instance() {
        assert_eq!(without_instance("Cockpit session %I"), "Cockpit session");
        assert_eq!(without_instance("Serve (%i) - %i"), "Serve");
    }
}
