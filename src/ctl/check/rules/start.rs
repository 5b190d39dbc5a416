//! The service's start, and its next one: the kind of service, restarts, conditions, and lines in the wrong place.
#![forbid(unsafe_code)]

use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::show::span;
use crate::ctl::check::subject::{Subject, Unit};
use crate::ctl::words::distinct;
use std::time::Duration;

pub(super) const RULES: &[Rule] = &[
    rule("program", Error, "the service cannot start: {}", |s| {
        let is_none = s.service.is_loaded() && s.exec.path.is_empty();
        let why = s.unstartable.as_deref().unwrap_or("it has no program");
        let line = "ExecStart=/usr/bin/sockcap -- COMMAND";
        Hit::service(&s.service, "ExecStart", &s.exec.path, line).saying(why).when(is_none || s.unstartable.is_some())
    }),
    rule(
        "wrapper",
        Note,
        "another program starts sockcap, so its settings cannot be read; it has to end with `exec sockcap`, since the sockets are for its own process",
        |s| {
            let what = format!("look at {} yourself", s.exec.path);
            let is_other = !s.exec.is_sockcap() && !s.exec.path.is_empty();
            Hit::other(&s.service, "ExecStart", &s.exec.path, what).when(is_other)
        },
    ),
    rule(
        "ignored-failure",
        Warning,
        "a failed start counts as a success, after which Restart={} does not start it again",
        |s| {
            let restart = s.service.show.get("Restart");
            let line = "ExecStart=, then the same line without the -";
            Hit::service(&s.service, "ExecStart", format!("-{}", s.exec.path), line)
                .saying(restart)
                .when(s.exec.ignores_failure && restart != "always")
        },
    ),
    rule("type-wrong", Error, "{}", |s| {
        let kind = s.service.show.get("Type");
        let why = match kind {
            "forking" | "dbus" => {
                "systemd waits for something that sockcap never does, and ends it at TimeoutStartSec="
            }
            "oneshot" => "the start is over when sockcap ends, so the service is never active",
            "notify-reload" => "`systemctl reload` waits in vain: sockcap has no reload, and ignores SIGHUP",
            _ => return Vec::new(),
        };
        vec![Hit::service(&s.service, "Type", kind, "Type=notify").saying(why)]
    }),
    rule(
        "type",
        Warning,
        "the service counts as started before sockcap has its sockets, and a mistake in a setting shows too late",
        |s| {
            let kind = s.service.show.get("Type");
            Hit::service(&s.service, "Type", kind, "Type=notify").when(matches!(kind, "simple" | "exec" | "idle"))
        },
    ),
    rule("exit-type", Error, "after a crash systemd does not start sockcap again until every command has ended", |s| {
        let value = s.service.show.get("ExitType");
        Hit::service(&s.service, "ExitType", value, "ExitType=main").when(value == "cgroup")
    }),
    rule("notify-access", Error, "{}", |s| {
        let value = s.service.show.get("NotifyAccess");
        let why = match value {
            "none" if watchdog(&s.service).is_some() => {
                "systemd does not hear sockcap, and ends it each time that WatchdogSec= is over"
            }
            "none" => "systemd does not hear sockcap: no status, and waiting clients are cut at a restart",
            "all" => {
                "a command may speak for the service: end its start, feed its watchdog, or have systemd keep descriptors"
            }
            _ => return Vec::new(),
        };
        vec![Hit::service(&s.service, "NotifyAccess", value, "NotifyAccess=main").saying(why)]
    }),
    rule(
        "restart",
        Warning,
        "after {} nothing starts sockcap again but the next client, and a few such starts in a row fail the socket: an outage",
        |s| {
            let value = s.service.show.get("Restart");
            let after = match value {
                "no" | "" => "a failed start or a crash",
                "on-success" | "on-abnormal" | "on-abort" | "on-watchdog" => "a failed start",
                _ => return Vec::new(),
            };
            let line = if idle_exit(s) { "Restart=on-failure" } else { "Restart=always" };
            vec![Hit::service(&s.service, "Restart", value, line).saying(after)]
        },
    ),
    rule("idle-exit", Warning, "sockcap exits when it is idle, and systemd starts it again at once", |s| {
        let is_always = matches!(s.service.show.get("Restart"), "always" | "on-success");
        Hit::service(&s.service, "Restart", s.service.show.get("Restart"), "Restart=on-failure")
            .when(is_always && idle_exit(s))
    }),
    rule("restart-sec", Warning, "{}", |s| {
        let Some(pause) = s.service.show.span("RestartUSec") else { return Vec::new() };
        let why = match pause {
            Duration::ZERO => "a sockcap that cannot start is started over and over, without a pause",
            pause if pause > Duration::from_secs(30) => "after a crash clients wait so long for the next sockcap",
            _ => return Vec::new(),
        };
        vec![Hit::service(&s.service, "RestartSec", s.service.show.get("RestartUSec"), "RestartSec=1").saying(why)]
    }),
    rule(
        "start-limit",
        Warning,
        "after {} failed starts in this time the socket fails, too: an outage until somebody starts it",
        |s| {
            let value = s.service.show.get("StartLimitIntervalUSec");
            let is_limited = s.service.show.span("StartLimitIntervalUSec").is_some_and(|span| !span.is_zero());
            let burst = s.service.show.get("StartLimitBurst");
            let hit = Hit::unit(&s.service, "StartLimitIntervalSec", value, "StartLimitIntervalSec=0");
            hit.saying(burst).when(is_limited && !matches!(burst, "0"))
        },
    ),
    rule(
        "condition",
        Warning,
        "a service that is skipped for each client trips the socket's trigger limit: an outage",
        |s| {
            let is_condition = |key: &str| key.starts_with("Condition") || key.starts_with("Assert");
            let keys = s.service.text.0.iter().map(|line| line.key.as_str()).filter(|key| is_condition(key));
            let keys = distinct(keys);
            let lines = keys.into_iter().flat_map(|key| s.service.text.of("Unit", key));
            let exec = s.service.text.of("Service", "ExecCondition");
            lines
                .chain(exec)
                .map(|line| {
                    let what = format!("move it to [Unit] of the socket, and write {}= in the service", line.key);
                    Hit::other(&s.service, &line.key, &line.value, what)
                })
                .collect()
        },
    ),
    rule("section", Warning, "systemd ignores this line below [{}]", |s| {
        let units = std::iter::once(&s.service).chain(&s.sockets);
        let of = |unit: &Unit| -> Vec<Hit> {
            let misplaced = unit.text.0.iter().filter_map(|line| {
                let home = home(&line.key)?;
                // A service has a few of these, by older names.
                let fits = line.section == home
                    || (home == "Service or Socket" && matches!(&*line.section, "Service" | "Socket"));
                (!fits && !line.section.starts_with("X-")).then_some((line, home))
            });
            let what = |file: &str, home| format!("move it below [{home}] in {file}");
            misplaced
                .map(|(line, home)| {
                    Hit::other(unit, &line.key, &line.value, what(&line.file, home)).saying(&line.section)
                })
                .collect()
        };
        units.flat_map(of).collect()
    }),
    rule(
        "remain-after-exit",
        Error,
        "once sockcap has ended the service still counts as active, and no client starts it again",
        |s| {
            Hit::service(&s.service, "RemainAfterExit", "yes", "RemainAfterExit=no")
                .when(s.service.show.is_on("RemainAfterExit"))
        },
    ),
    rule(
        "unneeded",
        Error,
        "a socket does not count as a need: systemd stops the service as soon as it has started",
        |s| {
            Hit::unit(&s.service, "StopWhenUnneeded", "yes", "StopWhenUnneeded=no")
                .when(s.service.show.is_on("StopWhenUnneeded"))
        },
    ),
    rule("runtime-max", Warning, "after this time systemd ends the service, and with it every command", |s| {
        let value = s.service.show.get("RuntimeMaxUSec");
        let line = "RuntimeMaxSec=infinity, and Environment=SOCKCAP_TIME_LIMIT= for the time of a command";
        Hit::service(&s.service, "RuntimeMaxSec", value, line).when(s.service.show.span("RuntimeMaxUSec").is_some())
    }),
    rule(
        "watchdog",
        Warning,
        "a machine that is busy for a moment looks like a sockcap that hangs, which systemd then kills",
        |s| {
            let short = watchdog(&s.service).filter(|span| *span < Duration::from_secs(5));
            let value = short.map_or(String::new(), |span| humantime::format_duration(span).to_string());
            Hit::service(&s.service, "WatchdogSec", value, "WatchdogSec=30s").when(short.is_some())
        },
    ),
    rule("no-watchdog", Note, "if sockcap should ever hang, nothing starts it again", |s| {
        Hit::service(&s.service, "WatchdogSec", "", "WatchdogSec=30s").when(watchdog(&s.service).is_none())
    }),
    rule(
        "stdin",
        Error,
        "systemd passes the listening socket there, where sockcap does not look for it, and keeps back the sockets that it would take",
        |s| {
            let streams = ["StandardInput", "StandardOutput", "StandardError"];
            let of = |name: &str| {
                let value = s.service.show.get(name);
                let good = if name == "StandardInput" { "null" } else { "journal" };
                Hit::service(&s.service, name, value, format!("{name}={good}")).when(value == "socket")
            };
            streams.into_iter().flat_map(of).collect()
        },
    ),
    rule("stderr", Warning, "what commands write to stderr is lost, and so is every entry of sockcap's log", |s| {
        let is_null = match s.service.show.get("StandardError") {
            "inherit" => s.service.show.get("StandardOutput") == "null",
            value => value == "null",
        };
        Hit::service(&s.service, "StandardError", s.service.show.get("StandardError"), "StandardError=journal")
            .when(is_null)
    }),
    rule("log-level", Warning, "the journal drops warnings of this service: no refusal is logged", |s| {
        let level = s.service.show.get("LogLevelMax");
        Hit::service(&s.service, "LogLevelMax", level, "LogLevelMax=info").when(matches!(level, "0" | "1" | "2" | "3"))
    }),
    rule("identifier", Note, "what commands write to stderr is logged as sockcap's", |s| {
        Hit::service(&s.service, "SyslogIdentifier", "", format!("SyslogIdentifier={}", s.stem()))
            .when(s.service.show.get("SyslogIdentifier").is_empty() && !s.has("stderr", &["socket", "null", "stream"]))
    }),
    rule(
        "exec-reload",
        Note,
        "sockcap has no reload: its settings change with a restart, which cuts no connection",
        |s| {
            let is_set = !s.service.show.all("ExecReload").is_empty();
            Hit::service(
                &s.service,
                "ExecReload",
                s.service.text.last("Service", "ExecReload").unwrap_or_default(),
                "ExecReload=",
            )
            .when(is_set)
        },
    ),
];

fn idle_exit(s: &Subject) -> bool {
    s.settings.as_ref().is_some_and(|settings| settings.span("idle-exit").is_some())
}

/// From the file: systemd shows none before the first start, and after a stop that of the last one.
fn watchdog(service: &Unit) -> Option<Duration> {
    let seconds = |text: &str| text.parse().map(Duration::from_secs).ok().or_else(|| span(text));
    let span = match service.text.0.is_empty() {
        true => service.show.span("WatchdogUSec"),
        false => service.text.last("Service", "WatchdogSec").and_then(seconds),
    };
    span.filter(|span| !span.is_zero())
}

/// The section of a setting that is known to be put elsewhere.
fn home(key: &str) -> Option<&'static str> {
    let both = [
        "KillMode",
        "KillSignal",
        "Environment",
        "EnvironmentFile",
        "User",
        "StandardInput",
        "TasksMax",
        "LimitNOFILE",
        "RuntimeDirectory",
    ];
    let service = [
        "Type",
        "ExecStart",
        "Restart",
        "RestartSec",
        "NotifyAccess",
        "WatchdogSec",
        "OOMPolicy",
        "FileDescriptorStoreMax",
        "SuccessExitStatus",
    ];
    let socket = [
        "Accept",
        "ListenStream",
        "ListenSequentialPacket",
        "MaxConnections",
        "MaxConnectionsPerSource",
        "Backlog",
        "FileDescriptorName",
        "KeepAlive",
        "TriggerLimitIntervalSec",
        "TriggerLimitBurst",
        "SocketMode",
    ];
    let unit =
        ["StartLimitIntervalSec", "Wants", "Requires", "After", "Before", "BindsTo", "PartOf", "StopWhenUnneeded"];
    match key {
        _ if both.contains(&key) => Some("Service or Socket"),
        _ if service.contains(&key) => Some("Service"),
        _ if socket.contains(&key) => Some("Socket"),
        _ if unit.contains(&key) || key.starts_with("Condition") => Some("Unit"),
        "WantedBy" | "Also" => Some("Install"),
        _ => None,
    }
}
