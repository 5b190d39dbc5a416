//! Stop, restart and crash: which signal reaches whom, for how long, and what is handed over.
#![forbid(unsafe_code)]

use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use std::time::Duration;

pub(super) const RULES: &[Rule] = &[
    rule("kill-mode", Error, "{}", |s| {
        let value = s.service.show.get("KillMode");
        let why = match value {
            "none" => "systemd sends no signal: a stop leaves sockcap and its commands running",
            _ => "a restart, an upgrade or a crash ends every command",
        };
        Hit::service(&s.service, "KillMode", value, "KillMode=process")
            .saying(why)
            .when(value != "process" && s.service.is_loaded())
    }),
    rule(
        "restart-kill-signal",
        Error,
        "a restart is taken for a stop: it waits for the commands, then ends them",
        |s| {
            let value = s.service.show.get("RestartKillSignal");
            Hit::service(&s.service, "RestartKillSignal", signal(value), "RestartKillSignal=SIGUSR1")
                .when(value != "10" && s.service.is_loaded())
        },
    ),
    rule("kill-signal", Error, "{}", |s| {
        let value = s.service.show.get("KillSignal");
        let why = match value {
            "15" | "2" | "" => return Vec::new(),
            "10" => "a stop is taken for a restart: the commands run on",
            "9" => "a stop kills sockcap before it can end anything: the commands run on",
            _ => {
                "sockcap does not take this signal for a stop, and systemd kills it at TimeoutStopSec=, when the commands run on"
            }
        };
        vec![Hit::service(&s.service, "KillSignal", signal(value), "KillSignal=SIGTERM").saying(why)]
    }),
    rule("exit-status", Note, "a restart that comes while sockcap is starting is logged as a failure", |s| {
        let list = s.service.show.list("SuccessExitStatus");
        let is_good = list.iter().any(|status| matches!(*status, "USR1" | "SIGUSR1"));
        let is_handed = s.service.show.get("RestartKillSignal") == "10";
        Hit::service(&s.service, "SuccessExitStatus", list.join(" "), "SuccessExitStatus=SIGUSR1")
            .when(is_handed && !is_good)
    }),
    rule(
        "timeout-stop",
        Warning,
        "a stop may take {} (--drain-timeout and --kill-grace); unless systemd hears sockcap ask for more time, it kills sockcap before that, and the commands run on",
        |s| {
            let (Some(timeout), Some(settings)) = (s.service.show.span("TimeoutStopUSec"), &s.settings) else {
                return Vec::new();
            };
            let of = |option| settings.span(option).unwrap_or_default();
            let need = of("drain-timeout") + of("kill-grace");
            let line = format!("TimeoutStopSec={}s", (need + Duration::from_secs(10)).as_secs());
            let hit = Hit::service(&s.service, "TimeoutStopSec", s.service.show.get("TimeoutStopUSec"), line);
            hit.saying(humantime::format_duration(need)).when(timeout <= need && !timeout.is_zero())
        },
    ),
    rule("send-sighup", Warning, "a stop sends SIGHUP, too, which sockcap only logs", |s| {
        Hit::service(&s.service, "SendSIGHUP", "yes", "SendSIGHUP=no").when(s.service.show.is_on("SendSIGHUP"))
    }),
    rule("send-sigkill", Warning, "a sockcap that hangs can be neither stopped nor restarted", |s| {
        Hit::service(&s.service, "SendSIGKILL", "no", "SendSIGKILL=yes").when(s.service.show.get("SendSIGKILL") == "no")
    }),
    rule("exec-stop", Warning, "it runs at a restart, too: what ends commands there cuts clients", |s| {
        let is_set = !s.service.show.all("ExecStop").is_empty();
        let value = s.service.text.last("Service", "ExecStop").unwrap_or_default();
        Hit::service(&s.service, "ExecStop", value, "ExecStop=").when(is_set)
    }),
    rule("fd-store", Warning, "a restart has nowhere to leave {}", |s| {
        let is_none = s.service.show.number("FileDescriptorStoreMax") == Some(0);
        let line = format!("FileDescriptorStoreMax={}", super::limits::store_for(s));
        let what = match super::limits::holds_clients(s) {
            true => "clients that wait, which are cut, nor the record of what runs",
            false => {
                "the record of what runs: a command that has left the service's cgroup, such as a login, is not counted"
            }
        };
        Hit::service(&s.service, "FileDescriptorStoreMax", 0, line).saying(what).when(is_none)
    }),
    rule(
        "fd-store-preserve",
        Warning,
        "systemd throws away what sockcap leaves to the next one: clients that wait are cut at a restart",
        |s| {
            let value = s.service.show.get("FileDescriptorStorePreserve");
            Hit::service(&s.service, "FileDescriptorStorePreserve", value, "FileDescriptorStorePreserve=restart")
                .when(value == "no")
        },
    ),
    rule("oom-policy", Warning, "one command that runs out of memory {}", |s| {
        let value = s.service.show.get("OOMPolicy");
        let why = match value {
            "kill" => "has the kernel kill sockcap and all others",
            _ => "has systemd stop the service and all others",
        };
        Hit::service(&s.service, "OOMPolicy", value, "OOMPolicy=continue")
            .saying(why)
            .when(matches!(value, "stop" | "kill"))
    }),
    rule(
        "oomd",
        Warning,
        "systemd-oomd kills everything in the service at once, and not the one command that takes the memory",
        |s| {
            let of = |name: &str| {
                let value = s.service.show.get(name);
                Hit::service(&s.service, name, value, format!("{name}=auto")).when(value == "kill")
            };
            ["ManagedOOMMemoryPressure", "ManagedOOMSwap"].into_iter().flat_map(of).collect()
        },
    ),
    rule(
        "oom-score",
        Note,
        "commands get an oom_score_adj of 500 above this, so that the kernel kills them before anything else",
        |s| {
            let value = s.service.show.get("OOMScoreAdjust");
            let is_high = value.parse::<i32>().is_ok_and(|score| score > -500);
            Hit::service(&s.service, "OOMScoreAdjust", value, "OOMScoreAdjust=-500")
                .when(is_high && !s.is_user && !s.sets("oom-score-adjust"))
        },
    ),
];

/// Its name, for those that are likely.
fn signal(number: &str) -> String {
    let name = match number {
        "1" => "SIGHUP",
        "2" => "SIGINT",
        "3" => "SIGQUIT",
        "9" => "SIGKILL",
        "10" => "SIGUSR1",
        "12" => "SIGUSR2",
        "15" => "SIGTERM",
        _ => number,
    };
    name.to_owned()
}
