//! From settings to a running loop, in the one order that is safe: sockets, program, log, READY.
#![forbid(unsafe_code)]

use super::gauges::Gauges;
use super::run::Daemon;
use super::settings::Settings;
use super::state::HandedOver;
use crate::child::commands::{self, Commands};
use crate::child::pressure::{self, Pressure};
use crate::child::template::Template;
use crate::child::{environment, program};
use crate::listen::linger;
use crate::listen::listeners::Listeners;
use crate::listen::open::{self, Opened};
use crate::listen::place::{Family, Place};
use crate::listen::waiting::HalfClose;
use crate::listen::{DisplayAddr, Listener, adopt, preamble};
use crate::observe::event::Event;
use crate::observe::words::limit;
use crate::policy::gate::{Gate, Hold, WhenFull};
use crate::policy::limit::rule::{Outcome, Rules};
use crate::policy::queue::QueueOrder;
use crate::poll::Poll;
use crate::sys::launch::CommandSpec;
use crate::sys::plain;
use crate::sys::socket::{self, Address};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// Why there is nothing to run, in one line.
#[derive(Debug)]
pub enum Failure {
    /// The user's mistake: exit code 2.
    Usage(String),
    /// The system failed us: exit code 1.
    System(String),
}

fn system<T>(result: Result<T, io::Error>, what: &str) -> Result<T, Failure> {
    result.map_err(|error| Failure::System(format!("{what}: {}", plain(&error))))
}

/// Takes the sockets and serves until told to stop. Call it once, before any thread exists and with all
/// signals blocked and at their default actions.
///
/// # Errors
/// Before the first connection is accepted; afterwards nothing is fatal but the loss of all listeners.
pub fn start(settings: Settings) -> Result<(), Failure> {
    let nofile = raise_descriptor_limit();
    enough_descriptors(settings.listen.len() as u64).map_err(Failure::System)?;
    let adopt::Passed { mut listeners, held, state } = adopt::from_environment().map_err(Failure::Usage)?;
    let (program, template) = command(&settings)?;
    let mut events = Vec::new();
    for (text, place) in &settings.listen {
        let opened = open::open(place, text, settings.family);
        let Opened { listeners: opened, missing, is_interrupted } =
            system(opened, &format!("cannot listen on '{text}'"))?;
        if is_interrupted {
            return Ok(()); // as if the signal had come a moment later, to an idle daemon
        }
        listeners.extend(opened);
        events.extend(missing.into_iter().map(|(at, error)| Event::NotOpened {
            address: DisplayAddr(&Address::Ip(at)).to_string(),
            listener: text.as_str().into(),
            error: plain(&error),
        }));
    }
    if listeners.is_empty() {
        return Err(Failure::Usage(adopt::why_none()));
    }
    for listener in &listeners {
        let what = format!("cannot set the backlog of '{}' to {}", listener.name, settings.backlog);
        system(socket::listen(listener.fd.as_fd(), settings.backlog), &what)?;
    }
    let names: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
    let rules = rules(&settings, &names)?;
    // The address that a client connected to is the listener's, or one that its connection or its PROXY header tells.
    let is_told = |listener: &Listener| listener.is_wildcard || settings.proxy_protocol;
    let locals = listeners.iter().map(|listener| (&listener.local, is_told(listener)));
    let fixed_vars = environment::FixedVars::new(locals, settings.pass);
    let spec = CommandSpec {
        program,
        entries: fixed_vars.all.clone(),
        arguments: template.fixed.clone(),
        environment: environment::cleaned(std::env::vars_os(), settings.pass),
        pass: settings.pass,
        session: settings.session,
        nofile,
    };
    let hold = hold(&settings, listeners.len(), spec.nofile);
    events.extend(
        (hold.capacity < hold.max_waiting)
            .then_some(Event::FewerHeld { wanted: hold.max_waiting, capacity: hold.capacity }),
    );
    let gate = Gate::new(&rules, settings.when_full, hold, listeners.len());
    let pressure = pressure(&settings)?;
    let daemon =
        system(daemon(settings, (gate, Gauges::new(pressure)), listeners, spec, template, fixed_vars), "cannot start")?;
    daemon.run(HandedOver { held, state }, events).map_err(Failure::System)
}

/// What tells of the pressure; opened only if it is asked for.
fn pressure(settings: &Settings) -> Result<Pressure, Failure> {
    let limits = &settings.max_pressure;
    let folders = if limits.is_empty() { Vec::new() } else { pressure::folders() };
    Pressure::open(limits, folders).map_err(Failure::System)
}

fn daemon(
    settings: Settings,
    gate: (Gate, Gauges),
    listeners: Vec<Listener>,
    spec: CommandSpec,
    template: Template,
    fixed_vars: environment::FixedVars,
) -> io::Result<Daemon> {
    let Settings { time_limit, kill_grace, max_connections, .. } = settings;
    let room = max_connections.min(MAX_ROOM) as usize;
    let asks_for_oom = settings.penalties.of.iter().any(|penalty| penalty.outcome == Outcome::Oom);
    let terms = commands::Terms { room, time_limit, kill_grace, asks_for_oom };
    let poll = Poll::new()?;
    let commands = Commands::new(spec, template, fixed_vars, terms, &poll)?;
    let listeners = Listeners::new(listeners, &poll)?;
    Daemon::new(settings, poll, gate, listeners, commands)
}

/// RLIMIT_NOFILE up to the hard limit for us; what it was, for the commands (select(2) users need 1024).
fn raise_descriptor_limit() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}

/// Descriptors of our own and one client's, besides those that are open at the start and the listeners.
const OWN_DESCRIPTORS: u64 = 7;
/// The one that children report with is the 11th at the lowest, above those that they are passed.
const LEAST_DESCRIPTORS: u64 = 11;

/// # Errors
/// One line, if RLIMIT_NOFILE is too low to serve anybody. `listeners` are those that are still to be opened.
fn enough_descriptors(listeners: u64) -> Result<(), String> {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    // One of them is the directory. Where it cannot be read, what is open is not known.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1)) as u64;
    let need = LEAST_DESCRIPTORS.max(open + listeners + OWN_DESCRIPTORS);
    match limit < need {
        true => Err(format!("LimitNOFILE={limit} is too low: at least {need} descriptors are needed")),
        false => Ok(()),
    }
}

/// Upper bound of the command table that is allocated at the start.
const MAX_ROOM: u32 = 1 << 14;

/// Default number of held clients. More gain nothing, since the kernel keeps the order of those behind them, and 1,000
/// descriptors add 0.1 ms to each clone.
const HELD_BY_DEFAULT: u32 = 1000;
/// Descriptors for all that is neither a held client nor a lingering refusal.
const SPARE: u64 = 64;

/// Who is held. A place is a descriptor, so RLIMIT_NOFILE bounds them; `nofile` is what [`raise_descriptor_limit`] found.
fn hold(settings: &Settings, listeners: usize, nofile: Option<(u64, u64)>) -> Hold {
    let Settings { max_wait, max_waiting, when_full, queue_order: order, .. } = *settings;
    // Who is asked about alone cannot be left in the kernel's queue, and that queue knows one order.
    let has_places = max_wait.is_some() || max_waiting > 0 || order != QueueOrder::Fifo || settings.looks_at_clients();
    if when_full == WhenFull::Refuse || !has_places {
        return Hold::default();
    }
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let awaited = if settings.proxy_protocol { preamble::MAX_AWAITED as u64 } else { 0 };
    let room = descriptors.saturating_sub(linger::MAX_LINGERING as u64 + awaited + SPARE + listeners as u64);
    // At a hand-over systemd has to pass them all within the soft limit, or it starts no daemon any more.
    let passed = match (settings.listen.is_empty(), nofile) {
        (true, Some((soft, _))) => soft.saturating_sub(SPARE + awaited + listeners as u64),
        _ => u64::MAX,
    };
    // `FileDescriptorStoreMax=`, told since systemd 254; one is for the state.
    let store = std::env::var("FDSTORE").ok().and_then(|max| max.parse::<u64>().ok());
    let stored = store.map_or(u64::MAX, |max| max.saturating_sub(1));
    let room = room.min(passed).min(stored).max(1);
    let wanted = if max_waiting > 0 { max_waiting } else { HELD_BY_DEFAULT };
    Hold { max_wait, max_waiting, capacity: room.min(wanted.into()) as u32, order }
}

fn command(settings: &Settings) -> Result<(std::ffi::CString, Template), Failure> {
    let first = settings
        .command
        .first()
        .ok_or_else(|| Failure::Usage("no command was given: sockcap [OPTIONS] -- COMMAND [ARG...]".into()))?;
    let program = program::find(first).map_err(Failure::Usage)?;
    let own_name = settings.argv0.as_ref().map_or(first.as_bytes(), |name| name.as_bytes());
    let arguments = settings.command.iter().skip(1).map(|word| word.as_bytes());
    let template = Template::parse(std::iter::once(own_name).chain(arguments)).map_err(Failure::Usage)?;
    Ok((program, template))
}

/// For listeners of these names, in this order.
fn rules(settings: &Settings, names: &[&str]) -> Result<Rules, Failure> {
    let mut max_per_listener = vec![0; names.len()];
    for (_, max) in settings.max_per_listener.iter().filter(|(name, _)| name.is_none()) {
        max_per_listener.fill(*max);
    }
    let origin = &settings.max_per_listener_origin;
    for (name, max) in &settings.max_per_listener {
        let Some(name) = name else { continue };
        let mut found = false;
        for (at, _) in names.iter().enumerate().filter(|(_, other)| **other == name) {
            max_per_listener[at] = *max;
            found = true;
        }
        if !found {
            let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
            return Err(Failure::Usage(format!(
                "{origin}{name}={max}: no listener has this name (FileDescriptorName=, or the text of --listen); known names: {}",
                names.join(", ")
            )));
        }
    }
    let Settings { max_connections, source_prefix, reserved, load_average, .. } = *settings;
    let Settings { max_rate, max_rate_per_source, max_sources, .. } = *settings;
    Ok(Rules {
        max_connections,
        max_per_listener,
        max_per_source: settings.max_per_source.clone(),
        source_prefix,
        max_rate,
        max_rate_per_source,
        penalties: settings.penalties.clone(),
        max_sources,
        exempt: settings.exempt.clone(),
        reserved,
        load_average,
        max_pressure: settings.max_pressure.clone(),
        dry_run: settings.dry_run.clone(),
    })
}

/// `--check`: reads everything, changes nothing that lasts, and says what would hold.
///
/// # Errors
/// As for [`start`], as far as it can be known without opening `--listen` sockets.
pub fn check(settings: &Settings) -> Result<String, Failure> {
    let passed = adopt::from_environment().map_err(Failure::Usage)?.listeners;
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
    for (name, span) in [("time-limit", settings.time_limit), ("idle-exit", settings.idle_exit)] {
        match span {
            Some(span) => line(name, &humantime::format_duration(span)),
            None => line(name, &"off"),
        }
    }
    line("drain-timeout", &humantime::format_duration(settings.drain_timeout));
    line("kill-grace", &humantime::format_duration(settings.kill_grace));
    line("log", &settings.max_severity);
    line("log-target", &settings.log_target);
    line("log-peer", &settings.log_peer);
    line("agent-share", &settings.agent_share);
    let rest = settings.command.iter().skip(1).map(|word| word.to_string_lossy());
    let command = std::iter::once(program.to_string_lossy()).chain(rest).collect::<Vec<_>>().join(" ");
    line("command", &command);
    Ok(out)
}
