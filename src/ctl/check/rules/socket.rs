//! The listening sockets: who accepts, what is passed, and what ends it.
#![forbid(unsafe_code)]

use crate::ctl::check::daemon::variable;
use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Remedy, Rule, rule};
use crate::ctl::check::subject::{Subject, Unit};
use std::time::Duration;

pub(super) const RULES: &[Rule] = &[
    rule(
        "accept",
        Error,
        "systemd accepts the clients itself and starts a service for each, so sockcap gets no listening socket",
        |s| {
            let all = s.sockets.iter().filter(|socket| socket.show.is_on("Accept"));
            all.map(|socket| Hit::socket(socket, "Accept", "yes", "Accept=no")).collect()
        },
    ),
    rule(
        "no-socket",
        Error,
        "no socket unit passes a listening socket to this service, and there is no --listen",
        |s| {
            let name = format!("{}.socket", s.stem());
            let is_other = s.sockets.iter().any(|socket| socket.exists());
            let what = format!("write {name} with ListenStream= and Accept=no, or give --listen");
            Hit::other(&s.service, "Sockets", "", what).when(!s.listens() && !is_other && s.service.exists())
        },
    ),
    rule("socket-service", Error, "this socket starts another service, {}", |s| {
        let is_other = |socket: &&Unit| !starts(s, socket) && !socket.show.is_on("Accept") && socket.is_loaded();
        let all = s.sockets.iter().filter(is_other);
        all.map(|socket| {
            let other = socket.show.get("Triggers");
            Hit::socket(socket, "Service", other, format!("Service={}", s.service.name)).saying(other)
        })
        .collect()
    }),
    rule("load", Error, "systemd cannot load this unit: {}", |s| {
        let all = std::iter::once(&s.service).chain(&s.sockets);
        let is_needed = |unit: &&Unit| unit.exists() || unit.name == s.service.name || starts(s, unit);
        let bad = all.filter(|unit| !unit.is_loaded() && is_needed(unit));
        bad.map(|unit| {
            let what = match unit.show.get("LoadState") {
                "masked" => format!("run {} unmask {}", s.systemctl(), unit.name),
                "not-found" | "" => "write it, or name another with Service= in the socket".to_owned(),
                _ => format!("mend its file: systemd-analyze verify {}", unit.name),
            };
            let error = unit.show.get("LoadError").split_once(' ').map_or("", |(_, words)| words.trim_matches('"'));
            let why = if error.is_empty() { format!("it is {}", unit.show.get("LoadState")) } else { error.to_owned() };
            Hit::other(unit, "LoadState", unit.show.get("LoadState"), what).saying(why)
        })
        .collect()
    }),
    rule(
        "socket-failed",
        Error,
        "clients are turned away by the kernel until somebody starts this socket again (result: {})",
        |s| {
            let all = s.sockets.iter().filter(|socket| socket.show.get("ActiveState") == "failed");
            all.map(|socket| {
                let command = format!("journalctl -u {name}; {} restart {name}", s.systemctl(), name = socket.name);
                Hit::run(socket, "ActiveState", "failed", command).saying(socket.show.get("Result"))
            })
            .collect()
        },
    ),
    rule("socket-condition", Warning, "the socket was not started, since a condition of it is not met: {}", |s| {
        let is_skipped = |socket: &&Unit| {
            let show = &socket.show;
            let was_judged = !matches!(show.get("ConditionTimestampMonotonic"), "" | "0");
            was_judged && show.get("ConditionResult") == "no" && show.get("ActiveState") != "active"
        };
        s.sockets
            .iter()
            .filter(is_skipped)
            .map(|socket| {
                let lines = socket.text.0.iter().filter(|line| line.key.starts_with("Condition"));
                let lines: Vec<_> = lines.map(|line| format!("{}={}", line.key, line.value)).collect();
                let what = format!("meet the condition, then run {} start {}", s.systemctl(), socket.name);
                Hit::other(socket, "ConditionResult", "no", what).saying(lines.join(", "))
            })
            .collect()
    }),
    rule("socket-stopped", Warning, "this socket does not listen, although it is {}", |s| {
        let runs = s.service.show.get("ActiveState") == "active";
        let all = s.passing().filter(|socket| socket.show.get("ActiveState") == "inactive");
        let is_meant = |socket: &&Unit| runs || socket.show.get("UnitFileState") == "enabled";
        all.filter(is_meant)
            .map(|socket| {
                let why = if runs { "the socket of a running service" } else { "enabled" };
                let command =
                    format!("{} restart {}", s.systemctl(), if runs { &s.service.name } else { &socket.name });
                Hit::run(socket, "ActiveState", "inactive", command).saying(why)
            })
            .collect()
    }),
    rule("socket-off", Note, "this socket neither listens nor will at the next boot", |s| {
        let is_off = |socket: &&Unit| {
            let (active, file) = (socket.show.get("ActiveState"), socket.show.get("UnitFileState"));
            active == "inactive" && file != "enabled" && s.service.show.get("ActiveState") != "active"
        };
        let enable = |socket: &Unit| format!("{} enable --now {}", s.systemctl(), socket.name);
        s.passing().filter(is_off).map(|socket| Hit::run(socket, "ActiveState", "inactive", enable(socket))).collect()
    }),
    rule(
        "install",
        Warning,
        "nothing starts this socket at the next boot, and systemctl enable has nothing to do",
        |s| {
            let is_static = |socket: &&Unit| {
                let is_wanted =
                    socket.show.get("WantedBy").split(' ').any(|unit| !unit.ends_with(".service") && !unit.is_empty());
                socket.show.get("UnitFileState") == "static" && !is_wanted
            };
            let line = "WantedBy=sockets.target";
            let all = s.passing().filter(is_static);
            all.map(|socket| Hit::new(socket, "WantedBy", "", Remedy::Write("Install", line.to_owned()))).collect()
        },
    ),
    rule("not-enabled", Note, "this socket listens now, but not after the next boot", |s| {
        let is_so = |socket: &&Unit| {
            socket.show.get("UnitFileState") == "disabled" && socket.show.get("ActiveState") == "active"
        };
        let enable = |socket: &Unit| format!("{} enable {}", s.systemctl(), socket.name);
        s.passing().filter(is_so).map(|socket| Hit::run(socket, "UnitFileState", "disabled", enable(socket))).collect()
    }),
    rule("listen-kind", Error, "sockcap accepts connections; {} brings none", |s| {
        let is_bad = |listen: &&String| !listen.ends_with("(Stream)") && !listen.ends_with("(SequentialPacket)");
        let of = |socket: &Unit| -> Vec<Hit> {
            let bad = socket.show.all("Listen").iter().filter(is_bad);
            bad.map(|listen| Hit::socket(socket, "Listen", listen, "ListenStream=").saying(listen)).collect()
        };
        s.passing().flat_map(of).collect()
    }),
    rule(
        "socket-requires",
        Warning,
        "a stop of the socket, or its restart, stops the service and with it every command",
        |s| {
            let tied = |property: &str| -> Vec<Hit> {
                let units = s.service.show.list(property);
                let tied = s.sockets.iter().filter(|socket| units.contains(&socket.name.as_str()));
                let line = |socket: &Unit| {
                    format!("Wants={}, instead of {property}= (which no drop-in can take back)", socket.name)
                };
                tied.map(|socket| Hit::unit(&s.service, property, &socket.name, line(socket))).collect()
            };
            ["Requires", "BindsTo", "PartOf", "Requisite"].into_iter().flat_map(tied).collect()
        },
    ),
    rule(
        "socket-wants",
        Warning,
        "a restart of the service does not bring back a socket that was stopped, and sockcap then starts without one",
        |s| {
            let wanted = ["Wants", "Requires", "BindsTo"].map(|property| s.service.show.list(property)).concat();
            let all = s.passing().filter(|socket| starts(s, socket) && !wanted.contains(&socket.name.as_str()));
            all.map(|socket| Hit::unit(&s.service, "Wants", "", format!("Wants={}", socket.name))).collect()
        },
    ),
    rule(
        "socket-max",
        Warning,
        "with Accept=no systemd limits nothing: this setting has no effect, and the limit is {}",
        |s| {
            let of = |(key, option): (&str, &str)| -> Vec<Hit> {
                let value = |socket: &Unit| socket.text.last("Socket", key).map(str::to_owned);
                let all =
                    s.passing().filter_map(|socket| Some((socket, value(socket)?)).filter(|(_, value)| value != "0"));
                all.map(|(socket, value)| {
                    let line = format!("Environment={}={value}", variable(option));
                    let what = format!("write {line} in [Service] of {} instead", s.service.name);
                    Hit::other(socket, key, value, what).saying(format!("--{option}"))
                })
                .collect()
            };
            let pairs = [("MaxConnections", "max-connections"), ("MaxConnectionsPerSource", "max-per-source")];
            pairs.into_iter().flat_map(of).collect()
        },
    ),
    rule("backlog", Note, "sockcap sets the length of the queue when it starts, and this holds only until then", |s| {
        let line = |value: &str| {
            format!("write Environment=SOCKCAP_BACKLOG={value} in [Service] of {}, or leave it out", s.service.name)
        };
        let all = s.passing().filter_map(|socket| Some((socket, socket.text.last("Socket", "Backlog")?)));
        all.map(|(socket, value)| Hit::other(socket, "Backlog", value, line(value))).collect()
    }),
    rule("trigger-limit", Warning, "{}", |s| {
        let of = |socket: &Unit| {
            let (span, burst) = (socket.show.span("TriggerLimitIntervalUSec"), socket.show.number("TriggerLimitBurst"));
            let is_off = span == Some(Duration::ZERO) || burst == Some(0);
            if is_off {
                let why = "a service that does not start is started over and over, without a pause";
                return Hit::socket(socket, "TriggerLimitIntervalSec", 0, "TriggerLimitIntervalSec=2s")
                    .saying(why)
                    .when(true);
            }
            let burst = burst.unwrap_or(u64::MAX);
            let why = "so few starts in a short time already fail the socket, which is an outage";
            Hit::socket(socket, "TriggerLimitBurst", burst, "TriggerLimitBurst=20").saying(why).when(burst < 5)
        };
        s.passing().flat_map(of).collect()
    }),
    rule(
        "keep-alive",
        Warning,
        "a client whose network is gone keeps its slot for ever, as there is no --time-limit either",
        |s| {
            let has_end = s.settings.as_ref().is_none_or(|settings| settings.span("time-limit").is_some());
            let is_tcp = |listen: &String| {
                !listen.starts_with(['/', '@', '-']) && !listen.starts_with("vsock") && listen.contains(':')
            };
            let is_bare =
                |socket: &&Unit| !socket.show.is_on("KeepAlive") && socket.show.all("Listen").iter().any(is_tcp);
            let all = s.passing().filter(|socket| !has_end && socket.has_clients() && is_bare(socket));
            all.map(|socket| Hit::socket(socket, "KeepAlive", "no", "KeepAlive=yes")).collect()
        },
    ),
    rule(
        "flush-pending",
        Warning,
        "whenever the service ends, systemd closes the connections of clients that wait in the queue",
        |s| {
            let all = s.passing().filter(|socket| socket.show.is_on("FlushPending"));
            all.map(|socket| Hit::socket(socket, "FlushPending", "yes", "FlushPending=no")).collect()
        },
    ),
];

/// Whether the socket starts the service.
fn starts(s: &Subject, socket: &Unit) -> bool {
    let name = s.service.name.as_str();
    socket.show.list("Triggers").contains(&name) || s.service.show.list("TriggeredBy").contains(&socket.name.as_str())
}
