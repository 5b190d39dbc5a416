//! What the kernel and systemd allow the service, against the limits that sockcap is to hold.
#![forbid(unsafe_code)]

use crate::ctl::check::rule::Severity::{Error, Note, Warning};
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::subject::Subject;

/// What sockcap keeps for itself and for refused clients that have not yet closed (docs/tuning.md).
const OWN: u64 = 320;
/// Of the soft limit, for what is passed to the next daemon besides held clients.
const PASSED: u64 = 64;
/// PROXY headers that are awaited at once.
const AWAITED: u64 = 256;
/// Held clients, unless `--max-waiting` says a number.
const HELD_BY_DEFAULT: u64 = 1000;
/// Threads of sockcap itself.
const THREADS: u64 = 2;

pub(super) const RULES: &[Rule] = &[
    rule(
        "limit-nofile",
        Warning,
        "sockcap may need {} descriptors: one for each client that is held, and after a restart one for each command",
        |s| {
            let (Some(hard), Some(settings)) = (s.service.show.number("LimitNOFILE"), &s.settings) else {
                return Vec::new();
            };
            let held = if holds_clients(s) { settings.number("max-waiting") } else { 0 };
            let need = OWN + s.listeners() + awaited(s) + settings.number("max-connections") + held;
            let (soft, line) =
                (s.service.show.number("LimitNOFILESoft").unwrap_or(1024).min(1024), need.next_power_of_two());
            Hit::service(&s.service, "LimitNOFILE", hard, format!("LimitNOFILE={soft}:{line}"))
                .saying(need)
                .when(hard < need && hard >= LEAST)
        },
    ),
    rule("limit-nofile-least", Error, "sockcap needs at least {} descriptors to serve anybody", |s| {
        let least = LEAST + s.listeners();
        let low = s.service.show.number("LimitNOFILE").filter(|hard| *hard < least);
        Hit::service(&s.service, "LimitNOFILE", low.unwrap_or(0), "LimitNOFILE=1024:16384")
            .saying(least)
            .when(low.is_some())
    }),
    rule(
        "limit-nofile-soft",
        Warning,
        "of --max-waiting clients sockcap holds {}, as many as systemd can pass to the next sockcap; the others wait in the kernel's queue",
        |s| {
            let (Some(soft), Some(settings)) = (s.service.show.number("LimitNOFILESoft"), &s.settings) else {
                return Vec::new();
            };
            let taken = PASSED + s.listeners() + awaited(s);
            let (wanted, room) = (settings.number("max-waiting"), soft.saturating_sub(taken));
            let hard = s.service.show.number("LimitNOFILE").unwrap_or(wanted + taken).max(wanted + taken);
            let hit = Hit::service(&s.service, "LimitNOFILE", soft, format!("LimitNOFILE={}:{hard}", wanted + taken));
            hit.saying(room).when(holds_clients(s) && wanted > room && !s.listens())
        },
    ),
    rule(
        "fd-store-size",
        Warning,
        "sockcap may hold {} clients, and systemd keeps one descriptor less than this over a restart: the others are cut",
        |s| {
            let Some(store) = s.service.show.number("FileDescriptorStoreMax").filter(|max| *max > 0) else {
                return Vec::new();
            };
            let held = held(s);
            let line = format!("FileDescriptorStoreMax={}", store_for(s));
            let hit = Hit::service(&s.service, "FileDescriptorStoreMax", store, line);
            hit.saying(held).when(holds_clients(s) && !s.listens() && store.saturating_sub(1) < held)
        },
    ),
    rule(
        "tasks-max",
        Warning,
        "sockcap and {} commands need more: before --max-connections is reached none can be started (EAGAIN)",
        |s| {
            let max = s.settings.as_ref().map_or(0, |settings| settings.number("max-connections"));
            let allowed =
                ["TasksMax", "EffectiveTasksMax"].into_iter().filter_map(|name| s.service.show.number(name)).min();
            let Some(allowed) = allowed.filter(|allowed| *allowed < THREADS + max) else { return Vec::new() };
            let line = format!("TasksMax={} (more if a command has several processes or threads)", THREADS + max);
            vec![Hit::service(&s.service, "TasksMax", allowed, line).saying(max)]
        },
    ),
    rule(
        "limit-nproc",
        Warning,
        "it counts all processes of the user, and {} commands need more: before --max-connections is reached none can be started (EAGAIN)",
        |s| {
            let max = s.settings.as_ref().map_or(0, |settings| settings.number("max-connections"));
            let low = s.service.show.number("LimitNPROC").filter(|allowed| *allowed < THREADS + max && !s.is_root());
            Hit::service(&s.service, "LimitNPROC", low.unwrap_or(0), "LimitNPROC=infinity")
                .saying(max)
                .when(low.is_some())
        },
    ),
    rule("limit-cpu", Warning, "it counts sockcap's own time, too: the kernel kills sockcap when it is used up", |s| {
        let seconds = s.service.show.get("LimitCPU");
        let is_set = !matches!(seconds, "infinity" | "" | "18446744073709551615");
        Hit::service(
            &s.service,
            "LimitCPU",
            seconds,
            "LimitCPU=infinity, and Environment=SOCKCAP_TIME_LIMIT= for a command",
        )
        .when(is_set)
    }),
    rule("somaxconn", Note, "the kernel's queue is no longer than net.core.somaxconn, which is {}", |s| {
        let (Some(max), Some(settings)) = (s.machine.somaxconn, &s.settings) else { return Vec::new() };
        let asked = settings.number("backlog");
        let is_explicit = s.sets("backlog") && asked > max;
        let is_short = settings.waits() && max < 1024;
        let command = format!(
            "sysctl -w net.core.somaxconn={}; {} restart {}",
            asked.clamp(4096, 65536),
            s.systemctl(),
            s.service.name
        );
        Hit::run(&s.service, "SOCKCAP_BACKLOG", asked, command).saying(max).when(is_explicit || is_short)
    }),
];

/// Fewer, and sockcap does not start.
const LEAST: u64 = 20;

fn awaited(s: &Subject) -> u64 {
    let reads = s.settings.as_ref().is_some_and(|settings| settings.get("proxy-protocol") == "on");
    if reads { AWAITED } else { 0 }
}

/// Whether sockcap accepts clients that have to wait.
pub(super) fn holds_clients(s: &Subject) -> bool {
    let Some(settings) = s.settings.as_ref().filter(|settings| settings.waits()) else { return false };
    let is_limit = |option: &str| !matches!(settings.get(option), "" | "unlimited" | "off" | "0");
    let looks_at_sources = ["max-per-source", "max-rate-per-source", "penalty", "reserved", "proxy-protocol"];
    let spares_some = is_limit("max-rate") && !settings.get("exempt").is_empty();
    ["max-wait", "max-waiting"].into_iter().chain(looks_at_sources).any(is_limit)
        || settings.get("queue-order") == "fair"
        || spares_some
}

/// How many clients sockcap would hold if systemd kept as many.
pub(super) fn held(s: &Subject) -> u64 {
    let wanted = match s.settings.as_ref().map_or(0, |settings| settings.number("max-waiting")) {
        0 => HELD_BY_DEFAULT,
        wanted => wanted,
    };
    let room = |limit: &str, own: u64| {
        let limit = s.service.show.number(limit).unwrap_or(u64::MAX);
        limit.saturating_sub(own + s.listeners() + awaited(s))
    };
    wanted.min(room("LimitNOFILE", OWN)).min(room("LimitNOFILESoft", PASSED)).max(1)
}

/// A `FileDescriptorStoreMax=` that is enough.
pub(super) fn store_for(s: &Subject) -> u64 {
    if holds_clients(s) { (held(s) + 1).next_power_of_two() } else { 64 }
}
