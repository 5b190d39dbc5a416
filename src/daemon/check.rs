//! `--check`: what would hold, without serving anybody.
#![forbid(unsafe_code)]

use super::boot::{self, Failure, command, pressure, rules, system};
use super::isolate;
use super::settings::Settings;
use crate::child::attributes::Wanted;
use crate::child::cgroups::limits::Setting;
use crate::listen::place::{Family, Place};
use crate::listen::waiting::HalfClose;
use crate::listen::{DisplayAddr, adopt, open};
use crate::observe::words::limit;
use crate::policy::gate::WhenFull;
use crate::policy::queue::QueueOrder;
use std::fmt::Write;

/// Reads everything, changes nothing that lasts, and says what would hold.
///
/// # Errors
/// As for [`boot::start`], as far as it can be known without opening `--listen` sockets.
pub fn check(settings: &Settings) -> Result<String, Failure> {
    let passed = adopt::from_environment().map_err(Failure::Usage)?.listeners;
    let (passed, for_queries) = boot::apart(passed);
    let (program, _) = command(settings)?;
    let names = passed.iter().map(|listener| &*listener.name).chain(settings.listen.iter().map(|(text, _)| &**text));
    let names: Vec<&str> = names.collect();
    for (text, place) in &settings.listen {
        system(open::check(place, settings.family), &format!("cannot listen on '{text}'"))?;
    }
    // Without any, the names are those that systemd will pass.
    if !names.is_empty() {
        rules(settings, &names)?;
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{name:<19} {value}"); // writing to a String cannot fail
    };
    for listener in &passed {
        line("passed socket", &format_args!("{} as '{}'", DisplayAddr(&listener.local), listener.name));
    }
    for (_, listener) in &for_queries {
        line("passed socket", &format_args!("{} for '{}'", DisplayAddr(&listener.local), listener.name));
    }
    for (text, _) in &settings.listen {
        line("listen", text);
    }
    if passed.is_empty() && settings.listen.is_empty() {
        line("listen", &"the sockets that systemd passes (none now)");
    }
    let is_restricted = settings.listen.iter().any(|(_, place)| matches!(place, Place::Port(_) | Place::Host(..)));
    let family = if is_restricted || settings.family == Family::Any { "" } else { " (not used: needs --listen)" };
    line("family", &format_args!("{}{family}", settings.family));
    line("backlog", &settings.backlog);
    line("proxy-protocol", &if settings.proxy_protocol { "on" } else { "off" });
    for network in &settings.proxy_from {
        line("proxy-from", network);
    }
    if settings.proxy_protocol && settings.proxy_from.is_empty() {
        line("proxy-from", &"loopback and UNIX sockets");
    }
    line("max-connections", &limit(settings.max_connections));
    for (name, max) in &settings.max_per_listener {
        let of = name.as_ref().map_or(String::new(), |name| format!("'{name}': "));
        line("max-per-listener", &format_args!("{of}{}", limit(*max)));
    }
    for (max, prefixes) in &settings.max_per_source {
        line("max-per-source", &format_args!("{max} per network of prefix {prefixes}"));
    }
    if settings.max_per_source.is_empty() {
        line("max-per-source", &"unlimited");
    }
    line("source-prefix", &settings.source_prefix);
    for (name, rate) in [("max-rate", settings.max_rate), ("max-rate-per-source", settings.max_rate_per_source)] {
        match rate {
            Some(rate) => line(name, &rate),
            None => line(name, &"unlimited"),
        }
    }
    let penalties = &settings.penalties;
    let unused = if penalties.of.is_empty() { " (not used: needs --penalty)" } else { "" };
    match penalties.of.is_empty() {
        true => line("penalty", &"off"),
        false => line("penalty", penalties),
    }
    line("penalty-min", &format_args!("{}{unused}", humantime::format_duration(penalties.min)));
    match penalties.max {
        std::time::Duration::MAX => line("penalty-max", &format_args!("unlimited{unused}")),
        max => line("penalty-max", &format_args!("{}{unused}", humantime::format_duration(max))),
    }
    let remembers = settings.max_rate_per_source.is_some() || !penalties.of.is_empty();
    let unused = if remembers { "" } else { " (not used: needs --max-rate-per-source or --penalty)" };
    line("max-sources", &format_args!("{}{unused}", settings.max_sources));
    for network in &settings.exempt {
        line("exempt", network);
    }
    if settings.reserved > 0 {
        line("reserved", &settings.reserved);
    }
    match settings.load_average {
        Some(below) => line("load-average", &below),
        None => line("load-average", &"off"),
    }
    pressure(settings)?;
    let limits: Vec<_> = settings.max_pressure.iter().map(|(of, max)| format!("{}={max}", of.name())).collect();
    line("max-pressure", &if limits.is_empty() { "off".to_owned() } else { limits.join(",") });
    if !settings.dry_run.is_empty() {
        line("dry-run", &settings.dry_run.join(","));
    }
    line("when-full", &settings.when_full);
    let used = if settings.when_full == WhenFull::Refuse { " (not used: needs --when-full wait)" } else { "" };
    match settings.max_wait {
        Some(max) => line("max-wait", &format_args!("{}{used}", humantime::format_duration(max))),
        None => line("max-wait", &"unlimited"),
    }
    line(
        "max-waiting",
        &format_args!("{}{}", limit(settings.max_waiting), if settings.max_waiting > 0 { used } else { "" }),
    );
    let is_default = settings.half_close == HalfClose::Serve;
    line("half-close", &format_args!("{}{}", settings.half_close, if is_default { "" } else { used }));
    let is_fifo = settings.queue_order == QueueOrder::Fifo;
    line("queue-order", &format_args!("{}{}", settings.queue_order, if is_fifo { "" } else { used }));
    line("busy-reply", &settings.busy_reply);
    line("busy-message", &settings.busy_message);
    line("pass", &settings.pass);
    line("session", &settings.session);
    if let Some(name) = &settings.argv0 {
        line("argv0", name);
    }
    let Wanted { stderr, nice, oom_score_adj, limits, umask, directory } = &settings.attributes;
    line("stderr", stderr);
    if let Some(nice) = nice {
        line("nice", nice);
    }
    if let Some(score) = oom_score_adj {
        line("oom-score-adjust", score);
    }
    for limit in limits {
        line("limit", limit);
    }
    if let Some(mask) = umask {
        line("umask", &format_args!("{mask:04o}"));
    }
    if let Some(directory) = directory {
        line("chdir", &directory.display());
    }
    line("isolate", &isolate::told(settings).map_err(Failure::System)?);
    // The other file of --memory-max follows from it.
    let limits = settings.connection_limits.settings();
    for Setting { option, files, value, .. } in limits.iter().filter(|limit| limit.files != ["memory.oom.group"]) {
        line(option.trim_start_matches('-'), &format_args!("{value} ({})", files.first().unwrap_or(&"")));
    }
    line("slot-until", &settings.slot_until);
    if let Some((first, last)) = settings.uid_pool {
        line("uid-pool", &format_args!("{first}-{last}"));
    }
    for (name, span) in [("time-limit", settings.time_limit), ("idle-exit", settings.idle_exit)] {
        match span {
            Some(span) => line(name, &humantime::format_duration(span)),
            None => line(name, &"off"),
        }
    }
    line("drain-timeout", &humantime::format_duration(settings.drain_timeout));
    line("kill-grace", &humantime::format_duration(settings.kill_grace));
    match &settings.control {
        Some(path) => line("control", &path.display()),
        None => line("control", &"off"),
    }
    line("agent-share", &settings.agent_share);
    line("log", &settings.max_severity);
    line("log-target", &settings.log_target);
    line("log-peer", &settings.log_peer);
    let rest = settings.command.iter().skip(1).map(|word| word.to_string_lossy());
    let command = std::iter::once(program.to_string_lossy()).chain(rest).collect::<Vec<_>>().join(" ");
    line("command", &command);
    Ok(out)
}
