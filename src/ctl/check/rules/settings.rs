//! The settings of sockcap: what it refuses, what never matters, and where a variable comes from.
#![forbid(unsafe_code)]

use crate::ctl::check::daemon::{Settings, variable};
use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::show::words;
use crate::policy::network::Network;

pub(super) const RULES: &[Rule] = &[
    rule("settings", Error, "sockcap does not start: {}", |s| {
        let Some(mistake) = s.mistake.as_ref().filter(|mistake| !mistake.starts_with("cannot run ")) else {
            return Vec::new();
        };
        let name = mistake
            .split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .find(|word| word.starts_with("SOCKCAP_"));
        let what = match name.filter(|name| s.variables.contains_key(*name)) {
            Some(name) => format!(
                "mend {name} where it is set: {} cat {}, or a file of EnvironmentFile=",
                s.systemctl(),
                s.service.name
            ),
            None => format!("mend it: {} edit {}", s.systemctl(), s.service.name),
        };
        let name = name.filter(|name| s.variables.contains_key(*name));
        let value = name.and_then(|name| s.variables.get(name)).map_or("", String::as_str);
        vec![Hit::other(&s.service, name.unwrap_or("ExecStart"), value, what).saying(mistake)]
    }),
    rule("command", Error, "no client can be served: {}", |s| {
        let Some(mistake) = s.mistake.as_ref().filter(|mistake| mistake.starts_with("cannot run ")) else {
            return Vec::new();
        };
        let program = s.exec.command().first().map_or("", String::as_str);
        let what = format!("install {program}, or name another program: {} edit {}", s.systemctl(), s.service.name);
        vec![Hit::other(&s.service, "ExecStart", program, what).saying(mistake)]
    }),
    rule("listener-name", Error, "sockcap does not start: no listener has the name {}", |s| {
        let names: Vec<&str> = s.passing().map(|socket| socket.show.get("FileDescriptorName")).collect();
        let Some(settings) = s.settings.as_ref().filter(|_| !names.is_empty() && !s.listens()) else {
            return Vec::new();
        };
        let named = settings.all("max-per-listener").filter_map(|limit| limit.strip_prefix('\'')?.split_once("': "));
        named
            .filter(|(name, _)| !names.contains(name))
            .map(|(name, max)| {
                let what = format!(
                    "write {}, or FileDescriptorName={name} in the socket",
                    names.iter().map(|name| format!("{name}={max}")).collect::<Vec<_>>().join(" or ")
                );
                Hit::other(&s.service, "SOCKCAP_MAX_PER_LISTENER", format!("{name}={max}"), what).saying(name)
            })
            .collect()
    }),
    rule("environment-file", Error, "the service does not start: {}", |s| {
        let all = s.unreadable.iter();
        let line = |path: &str| format!("EnvironmentFile=-{path} for a file that may be missing, or create it");
        all.map(|(path, why)| Hit::service(&s.service, "EnvironmentFile", path, line(path)).saying(why)).collect()
    }),
    rule(
        "environment-words",
        Warning,
        "systemd throws away '{}', which is no assignment: a value with a blank needs quotes around the whole",
        |s| {
            let lines = s.service.text.of("Service", "Environment").into_iter();
            lines
                .flat_map(|line| {
                    let all = words(&line.value);
                    let lost: Vec<&str> = all.iter().map(String::as_str).filter(|word| !word.contains('=')).collect();
                    let quoted = format!("Environment=\"{}\"", line.value);
                    Hit::service(&s.service, "Environment", &line.value, quoted)
                        .saying(lost.join(" "))
                        .when(!lost.is_empty())
                })
                .collect()
        },
    ),
    rule("overridden", Warning, "the command line wins, so this variable has no effect", |s| {
        let is_set = |option: &&str| s.exec.has(option) && s.variables.contains_key(&variable(option));
        let what = |option: &str| format!("take --{option} out of ExecStart=, or the variable out of the environment");
        let lists = ["listen", "proxy-from", "max-per-listener", "max-per-source", "exempt"];
        let all = LIMITS.into_iter().chain(lists).filter(is_set);
        all.map(|option| Hit::other(&s.service, &variable(option), &s.variables[&variable(option)], what(option)))
            .collect()
    }),
    rule("unset", Warning, "UnsetEnvironment= takes it away again", |s| {
        let lost = s.service.show.list("UnsetEnvironment").into_iter().filter(|word| word.starts_with("SOCKCAP_"));
        lost.map(|word| Hit::service(&s.service, "UnsetEnvironment", word, "UnsetEnvironment=")).collect()
    }),
    rule("unlimited", Warning, "no limit on commands at once: a flood of clients is a flood of processes", |s| {
        let is_none = |settings: &Settings| {
            settings.get("max-connections") == "unlimited" && settings.get("max-per-listener").is_empty()
        };
        let value = if s.settings.as_ref().is_some_and(is_none) { "0" } else { "" };
        Hit::service(&s.service, "SOCKCAP_MAX_CONNECTIONS", value, "Environment=SOCKCAP_MAX_CONNECTIONS=100")
            .when(!value.is_empty())
    }),
    rule("never-reached", Note, "--max-connections={} comes first, so this limit is never reached", |s| {
        let Some(settings) = &s.settings else { return Vec::new() };
        let max = settings.number("max-connections");
        let held = if super::limits::holds_clients(s) { super::limits::held(s) } else { 0 };
        let source = settings.all("max-per-source").filter_map(|limit| limit.split(' ').next());
        let source = source.map(|limit| ("max-per-source", limit, held));
        let listener = settings.all("max-per-listener").filter_map(|limit| limit.rsplit(' ').next());
        let listener = listener.map(|limit| ("max-per-listener", limit, 0));
        let all = source.chain(listener).filter(|(_, limit, more)| {
            max > 0 && limit.parse::<u64>().is_ok_and(|limit| limit >= max + more && limit > 0)
        });
        all.map(|(option, limit, _)| {
            Hit::other(&s.service, &variable(option), limit, format!("write a number below {max}, or leave it out"))
                .saying(max)
        })
        .collect()
    }),
    rule("not-used", Note, "it has no effect without {}", |s| {
        let Some(settings) = &s.settings else { return Vec::new() };
        let unused = settings.unused().map(|(option, needs)| (option.to_owned(), needs.to_owned()));
        let sources = ["max-per-source", "max-rate", "max-rate-per-source", "penalty", "reserved"];
        let has_limit = sources.iter().any(|option| !matches!(settings.get(option), "" | "unlimited" | "off"));
        let exempt = (!settings.get("exempt").is_empty() && !has_limit)
            .then(|| ("exempt".to_owned(), "a limit on sources, a rate or --reserved".to_owned()));
        unused
            .chain(exempt)
            .filter(|(option, _)| s.sets(option))
            .map(|(option, needs)| {
                let value = settings.get(&option);
                Hit::other(&s.service, &variable(&option), value, format!("leave it out, or set {needs}"))
                    .saying(&needs)
            })
            .collect()
    }),
    rule("dry-run", Note, "these limits refuse nobody: they only log what they would do", |s| {
        let value = s.settings.as_ref().map_or("", |settings| settings.get("dry-run"));
        let what = "take it out once the limits are right";
        Hit::other(&s.service, "SOCKCAP_DRY_RUN", value, what).when(!value.is_empty() && value != "off")
    }),
    rule(
        "proxy-from",
        Warning,
        "whoever is in {} may claim any address in a PROXY header, and be limited and logged as somebody else",
        |s| {
            let Some(settings) = &s.settings else { return Vec::new() };
            let wide = settings.all("proxy-from").filter(|network| is_wide(network));
            let line = "Environment=SOCKCAP_PROXY_FROM= with the addresses of the proxies alone";
            wide.map(|network| Hit::service(&s.service, "SOCKCAP_PROXY_FROM", network, line).saying(network)).collect()
        },
    ),
    rule(
        "time-limit-unit",
        Warning,
        "SIGTERM ends systemd-run alone: the slot is free, and the client's service goes on",
        |s| {
            let is_set = s.settings.as_ref().is_some_and(|settings| settings.span("time-limit").is_some());
            let what = "leave it out, and give systemd-run -p RuntimeMaxSec=";
            let value = s.settings.as_ref().map_or("", |settings| settings.get("time-limit"));
            Hit::other(&s.service, "SOCKCAP_TIME_LIMIT", value, what).when(is_set && s.command() == "systemd-run")
        },
    ),
    rule("control-folder", Error, "nothing makes the folder of the control socket: sockcap cannot listen there", |s| {
        let Some(path) = s.control() else { return Vec::new() };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let made = s.service.show.list("RuntimeDirectory");
        let is_made = made
            .iter()
            .any(|name| folder == format!("/run/{name}") || (s.is_user && folder.ends_with(&format!("/{name}"))));
        let name = folder.strip_prefix("/run/").map_or_else(|| format!("sockcap/{}", s.stem()), str::to_owned);
        let hit = Hit::service(&s.service, "SOCKCAP_CONTROL", &path, format!("RuntimeDirectory={name}"));
        hit.when(path.starts_with('/') && !is_made && !s.machine.has_control_folder)
    }),
    rule(
        "control-place",
        Note,
        "sockcapctl looks for control sockets in /run/sockcap/*/control.sock, and does not find this one",
        |s| {
            let Some(path) = s.control().filter(|_| !s.is_user) else { return Vec::new() };
            let name = path.strip_prefix("/run/sockcap/").and_then(|rest| rest.strip_suffix("/control.sock"));
            let line = "Environment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock";
            Hit::service(&s.service, "SOCKCAP_CONTROL", &path, line).when(name.is_none_or(|name| name.contains('/')))
        },
    ),
    rule("no-control", Note, "sockcapctl can ask this sockcap nothing while it runs", |s| {
        let line = "Environment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock, and RuntimeDirectory=sockcap/%N";
        let is_passed = s.passing().any(|socket| socket.show.get("FileDescriptorName") == "varlink");
        let is_none = s.control().is_none() && s.exec.is_sockcap() && !is_passed;
        Hit::service(&s.service, "SOCKCAP_CONTROL", "", line).when(is_none)
    }),
];

/// Options of one value, of which the command line's wins.
const LIMITS: [&str; 46] = [
    "backlog",
    "max-connections",
    "source-prefix",
    "max-rate",
    "max-rate-per-source",
    "penalty",
    "penalty-min",
    "penalty-max",
    "max-sources",
    "reserved",
    "load-average",
    "max-pressure",
    "dry-run",
    "when-full",
    "max-wait",
    "max-waiting",
    "half-close",
    "queue-order",
    "busy-reply",
    "busy-message",
    "pass",
    "session",
    "argv0",
    "stderr",
    "nice",
    "oom-score-adjust",
    "umask",
    "chdir",
    "isolate",
    "memory-max",
    "memory-high",
    "tasks-max",
    "cpu-weight",
    "cpu-max",
    "io-weight",
    "slot-until",
    "uid-pool",
    "time-limit",
    "drain-timeout",
    "kill-grace",
    "idle-exit",
    "log-target",
    "log-peer",
    "proxy-protocol",
    "control",
    "verbose",
];

/// Whether a network has more in it than the proxies of one site.
fn is_wide(network: &str) -> bool {
    let Some((address, bits)) = network.split_once('/') else { return false };
    let limit = if address.contains(':') { 16 } else { 8 };
    network.parse::<Network>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits < limit)
}
