//! What runs, beside what the unit says: an old program, old settings, a start that fails.
#![forbid(unsafe_code)]

use crate::ctl::check::daemon::{Settings, variable};
use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::subject::Subject;
use crate::observe::snapshot::{Limits, Phase};

pub(super) const RULES: &[Rule] = &[
    rule(
        "reload",
        Warning,
        "the files have changed since systemd read them, and what is checked here are the old ones",
        |s| {
            let old = std::iter::once(&s.service).chain(&s.sockets).filter(|unit| unit.show.is_on("NeedDaemonReload"));
            let command = format!("{} daemon-reload", s.systemctl());
            old.map(|unit| Hit::run(unit, "NeedDaemonReload", "yes", &command)).collect()
        },
    ),
    rule("failing", Error, "the service does not start: {}", |s| {
        let show = &s.service.show;
        let is_failing =
            show.get("SubState").starts_with("auto-restart") && !matches!(show.get("Result"), "success" | "");
        let value = show.get("ActiveState");
        let why = Some(show.get("StatusText")).filter(|text| !text.is_empty()).unwrap_or("the journal has the reason");
        let command = format!("journalctl -e -u {}", s.service.name);
        Hit::run(&s.service, "ActiveState", value, command).saying(why).when(is_failing || value == "failed")
    }),
    rule(
        "old-program",
        Warning,
        "the program was replaced since this sockcap started: an upgrade takes effect with a restart, which cuts no connection",
        |s| {
            let is_old = s.running.as_ref().is_some_and(|running| running.exe.ends_with(" (deleted)"));
            let command = format!("{} restart {}", s.systemctl(), s.service.name);
            Hit::run(&s.service, "ExecStart", &s.exec.path, command).when(is_old)
        },
    ),
    rule(
        "old-settings",
        Warning,
        "sockcap runs with {}: what the unit says takes effect with a restart, which cuts no connection",
        |s| {
            let Some(of) = outdated(s) else { return Vec::new() };
            let command = format!("{} restart {}", s.systemctl(), s.service.name);
            vec![Hit::run(&s.service, &of.name, &of.now, command).saying(of.then)]
        },
    ),
    rule("set", Note, "{} now, by sockcapctl set, until the next restart", |s| {
        let snapshot = s.running.as_ref().and_then(|running| running.snapshot.as_ref());
        let (Some(snapshot), Some(settings), None) = (snapshot, &s.settings, outdated(s)) else { return Vec::new() };
        differences(settings, &snapshot.context.limits)
            .into_iter()
            .map(|(option, unit, now)| {
                let name = variable(option);
                Hit::service(&s.service, &name, unit, format!("Environment={name}={now}"))
                    .saying(format!("it is {now}"))
            })
            .collect()
    }),
    rule("drained", Note, "sockcapctl drain has ended the start of further commands", |s| {
        let snapshot = s.running.as_ref().and_then(|running| running.snapshot.as_ref());
        let is_so = snapshot.is_some_and(|snapshot| matches!(snapshot.runtime.phase, Phase::Draining | Phase::Drained));
        Hit::run(&s.service, "Phase", "drained", format!("sockcapctl resume {}", s.stem())).when(is_so)
    }),
];

/// A setting that a restart would change.
struct Outdated {
    name: String,
    now: String,
    then: String,
}

fn outdated(s: &Subject) -> Option<Outdated> {
    let running = s.running.as_ref()?;
    let shown =
        |name: &str, value: Option<&String>| value.map_or(format!("no {name}"), |value| format!("{name}={value}"));
    if let Some(then) = &running.variables {
        let now = &s.variables;
        let is_ours = |name: &&String| name.starts_with("SOCKCAP_") && *name != "SOCKCAP_CONNECTION";
        let mut names = then.keys().chain(now.keys()).filter(is_ours);
        let name = names.find(|name| then.get(*name) != now.get(*name));
        if let Some(name) = name {
            let value = now.get(name).cloned().unwrap_or_default();
            return Some(Outdated { name: name.clone(), now: value, then: shown(name, then.get(name)) });
        }
    }
    // Words may have been split where they had blanks, so they are compared as they are shown.
    let words = running.words.as_ref()?.join(" ");
    (words != s.exec.words.join(" ")).then(|| Outdated {
        name: "ExecStart".to_owned(),
        now: format!("{} {}", s.exec.path, s.exec.words.join(" ")),
        then: format!("the arguments {words}"),
    })
}

/// Limits whose value is not that of the unit: option, the unit's, and what holds.
fn differences(unit: &Settings, now: &Limits) -> Vec<(&'static str, String, String)> {
    let numbers =
        [("max-connections", now.max_connections), ("reserved", now.reserved), ("max-waiting", now.max_waiting)];
    let numbers = numbers.into_iter().filter_map(|(option, now)| {
        let (unit, now) = (unit.number(option), u64::from(now?));
        (unit != now).then(|| (option, unit.to_string(), now.to_string()))
    });
    let wait = now.max_wait_usec.and_then(|now| {
        let unit = unit.span("max-wait").unwrap_or_default();
        let now = std::time::Duration::from_micros(now);
        let shown = |span| humantime::format_duration(span).to_string().replace(' ', "");
        (unit != now).then(|| ("max-wait", shown(unit), shown(now)))
    });
    let sources = now.max_per_source.as_ref().and_then(|now| {
        let unit: Vec<String> = unit
            .all("max-per-source")
            .filter_map(|limit| limit.split(' ').next())
            .filter(|n| *n != "unlimited")
            .map(str::to_owned)
            .collect();
        let now: Vec<String> = now.iter().filter(|limit| limit.max > 0).map(|limit| limit.max.to_string()).collect();
        (unit != now)
            .then(|| ("max-per-source", unit.join(" "), if now.is_empty() { "0".to_owned() } else { now.join(" ") }))
    });
    numbers.chain(wait).chain(sources).collect()
}
