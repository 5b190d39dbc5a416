//! From settings to a running loop, in the one order that is safe: sockets, program, log, READY.
#![forbid(unsafe_code)]

use super::fallbacks;
use super::gauges::Gauges;
use super::isolate::{self, Signals};
use super::run::Daemon;
use super::settings::{Settings, Wish};
use super::state::HandedOver;
use crate::child::commands::{self, Apart, Commands};
use crate::child::pressure::{self, Pressure};
use crate::child::template::Template;
use crate::child::{cgroup, cgroups, environment, program};
use crate::listen::linger;
use crate::listen::listeners::Listeners;
use crate::listen::open::{self, Opened};
use crate::listen::queries::{self, Insiders, Queries};
use crate::listen::{DisplayAddr, Listener, adopt, preamble};
use crate::observe::event::{Event, Severity};
use crate::policy::gate::{Gate, Hold, WhenFull};
use crate::policy::limit::rule::{Outcome, Rules};
use crate::policy::queue::QueueOrder;
use crate::poll::Poll;
use crate::sys::attributes::Attributes;
use crate::sys::launch::{CommandSpec, StandardError};
use crate::sys::plain;
use crate::sys::rlimit::{self, Resource};
use crate::sys::socket::{self, Address};
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

pub(super) fn system<T>(result: Result<T, io::Error>, what: &str) -> Result<T, Failure> {
    result.map_err(|error| Failure::System(format!("{what}: {}", plain(&error))))
}

/// Takes the sockets and serves until told to stop. Call it once, before any thread exists and with all
/// signals blocked and at their default actions.
///
/// # Errors
/// Before the first connection is accepted; afterwards nothing is fatal but the loss of all listeners.
pub fn start(settings: Settings) -> Result<(), Failure> {
    let nofile = raise_descriptor_limit();
    enough_descriptors(settings.listen.len() as u64 + for_commands(&settings)).map_err(Failure::System)?;
    let adopt::Passed { listeners, held, state, unknown } = adopt::from_environment().map_err(Failure::Usage)?;
    let (mut listeners, mut for_queries) = apart(listeners);
    let (program, template) = command(&settings)?;
    let attributes = settings.attributes.prepare().map_err(Failure::System)?;
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
        return Err(Failure::Usage(match for_queries.first() {
            Some((_, listener)) => format!(
                "no listening socket for clients was passed: '{}' is for questions about the daemon (FileDescriptorName=); pass another one, or give --listen",
                listener.name
            ),
            None => adopt::why_none(),
        }));
    }
    for listener in &listeners {
        let what = format!("cannot set the backlog of '{}' to {}", listener.name, settings.backlog);
        system(socket::listen(listener.fd.as_fd(), settings.backlog), &what)?;
    }
    for_queries.extend(control(&settings, &for_queries)?);
    let names: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
    let rules = rules(&settings, &names)?;
    // The address that a client connected to is the listener's, or one that its connection or its PROXY header tells.
    let is_told = |listener: &Listener| listener.is_wildcard || settings.proxy_protocol;
    let locals = listeners.iter().map(|listener| (&listener.local, is_told(listener)));
    let fixed_vars = environment::FixedVars::new(locals, settings.pass);
    let signals = Signals::of(&settings).map_err(Failure::System)?;
    events.extend(signals.event());
    let spec = CommandSpec {
        program,
        entries: fixed_vars.all.clone(),
        arguments: template.fixed.clone(),
        environment: environment::cleaned(std::env::vars_os(), settings.pass),
        pass: settings.pass,
        session: settings.session,
        nofile: nofile.filter(|_| !settings.attributes.limits_any("nofile")),
        attributes: Box::new(Attributes { domain: signals.domain(), ..attributes }),
    };
    let (apart, event) = isolate::cgroups(&settings).map_err(Failure::System)?;
    events.extend(event);
    if settings.max_severity == Severity::Info {
        events.extend(fallbacks::event(apart.as_ref()));
    }
    let hold = hold(&settings, listeners.len(), nofile);
    events.extend(fewer_held(&hold));
    let gate = Gate::new(&rules, settings.when_full, hold, listeners.len());
    let gate = (gate, Gauges::new(pressure(&settings)?));
    let commands = (spec, nofile, template, fixed_vars, apart);
    let daemon = system(daemon(settings, gate, (listeners, for_queries), commands), "cannot start")?;
    daemon.run(HandedOver { held, state, unknown }, events).map_err(Failure::System)
}

/// The sockets that clients come in by, and those that are for questions about the daemon, by their names.
pub(super) fn apart(listeners: Vec<Listener>) -> (Vec<Listener>, Vec<(queries::Kind, Listener)>) {
    let (mut for_clients, mut for_queries) = (Vec::new(), Vec::new());
    for listener in listeners {
        match queries::Kind::of_name(&listener.name) {
            Some(kind) => for_queries.push((kind, listener)),
            None => for_clients.push(listener),
        }
    }
    (for_clients, for_queries)
}

/// The socket of `--control`, unless one was passed.
fn control(
    settings: &Settings,
    passed: &[(queries::Kind, Listener)],
) -> Result<Option<(queries::Kind, Listener)>, Failure> {
    let is_passed = passed.iter().any(|(kind, _)| *kind == queries::Kind::Control);
    let Some(path) = settings.control.as_ref().filter(|_| !is_passed) else { return Ok(None) };
    let socket = open::open_private(path, queries::VARLINK).map_err(|error| {
        let (path, folder) = (path.display(), path.parent().unwrap_or(path).display());
        let remedy = match error.raw_os_error() {
            Some(libc::ENOENT) => format!(" (the folder {folder} is missing: RuntimeDirectory= of the unit makes it)"),
            Some(libc::EADDRINUSE) => {
                " (another process listens there, or it is no socket: each service needs a path of its own)".into()
            }
            Some(libc::EACCES) => {
                format!(" (the service's user may not write to {folder}: RuntimeDirectory= makes one)")
            }
            _ => String::new(),
        };
        Failure::System(format!("cannot open the control socket '{path}': {}{remedy}", plain(&error)))
    })?;
    Ok(Some((queries::Kind::Control, socket)))
}

/// What tells of the pressure; opened only if it is asked for.
pub(super) fn pressure(settings: &Settings) -> Result<Pressure, Failure> {
    let limits = &settings.max_pressure;
    let folders = if limits.is_empty() { Vec::new() } else { pressure::folders() };
    Pressure::open(limits, folders).map_err(Failure::System)
}

/// What is needed to start commands: RLIMIT_NOFILE as it was before we raised it is among it.
type Launching = (CommandSpec, Option<(u64, u64)>, Template, environment::FixedVars, Option<Apart>);

fn daemon(
    settings: Settings,
    gate: (Gate, Gauges),
    (listeners, for_queries): (Vec<Listener>, Vec<(queries::Kind, Listener)>),
    (spec, nofile, template, fixed_vars, apart): Launching,
) -> io::Result<Daemon> {
    let Settings { time_limit, kill_grace, max_connections, .. } = settings;
    let oom_score_adj = settings.attributes.oom_score_adj;
    let room = max_connections.min(MAX_ROOM) as usize;
    let asks_for_oom = settings.penalties.of.iter().any(|penalty| penalty.outcome == Outcome::Oom);
    let terms = commands::Terms { room, time_limit, kill_grace, asks_for_oom, oom_score_adj };
    let poll = Poll::new()?;
    let mut commands = Commands::new(spec, template, fixed_vars, terms, &poll)?;
    // Also without a manager a cgroup of our own tells who was started by us.
    let own = apart.as_ref().map(|apart| Insiders::Below(format!("0::{}", apart.path())));
    let insiders = if for_queries.is_empty() { Insiders::default() } else { own.unwrap_or_else(insiders) };
    apart.into_iter().for_each(|apart| commands.keep_apart(apart, &poll));
    commands.read_usage(settings.max_severity == Severity::Info);
    let listeners = (Listeners::new(listeners, &poll)?, Queries::new(for_queries, insiders, &poll)?);
    Daemon::new(settings, poll, gate, listeners, (commands, nofile))
}

/// What our commands are known by, before this process or a command is put anywhere else.
fn insiders() -> Insiders {
    match cgroup::own_line() {
        Ok(line) => line.map_or(Insiders::Unknown, Insiders::Below),
        Err(_) => Insiders::Hidden,
    }
}

/// RLIMIT_NOFILE up to the hard limit for us; what it was, for the commands (select(2) users need 1024).
fn raise_descriptor_limit() -> Option<(u64, u64)> {
    let (soft, hard) = rlimit::get(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && rlimit::set(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}

/// Descriptors of our own and one client's, besides those that are open at the start and the listeners.
const OWN_DESCRIPTORS: u64 = 7;
/// The one that children report with is the 11th at the lowest, above those that they are passed.
const LEAST_DESCRIPTORS: u64 = 11;

/// Descriptors that are kept for commands.
fn for_commands(settings: &Settings) -> u64 {
    // Those that are made ahead, and what tells when others are empty.
    let cgroups = if settings.isolate.cgroup == Wish::Off { 0 } else { cgroups::AHEAD as u64 + 1 };
    let null = u64::from(settings.attributes.stderr == StandardError::Null);
    null + u64::from(settings.isolate.signals != Wish::Off) + cgroups
}

/// # Errors
/// One line, if RLIMIT_NOFILE is too low to serve anybody. So `many` are still to be opened, besides those that are always needed.
fn enough_descriptors(many: u64) -> Result<(), String> {
    let Ok((limit, _)) = rlimit::get(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    // One of them is the directory. Where it cannot be read, what is open is not known.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1)) as u64;
    let need = LEAST_DESCRIPTORS.max(open + many + OWN_DESCRIPTORS);
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
pub(super) fn hold(settings: &Settings, listeners: usize, nofile: Option<(u64, u64)>) -> Hold {
    let Settings { max_wait, max_waiting, when_full, queue_order: order, .. } = *settings;
    // Who is asked about alone cannot be left in the kernel's queue, and that queue knows one order.
    let has_places = max_wait.is_some() || max_waiting > 0 || order != QueueOrder::Fifo || settings.looks_at_clients();
    if when_full == WhenFull::Refuse || !has_places {
        return Hold::default();
    }
    let descriptors = rlimit::get(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
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

/// What is to be told if fewer clients can be held than `--max-waiting` says.
pub(super) fn fewer_held(hold: &Hold) -> Option<Event> {
    let Hold { max_waiting: wanted, capacity, .. } = *hold;
    (capacity < wanted).then_some(Event::FewerHeld { wanted, capacity })
}

pub(super) fn command(settings: &Settings) -> Result<(std::ffi::CString, Template), Failure> {
    let first = settings
        .command
        .first()
        .ok_or_else(|| Failure::Usage("no command was given: sockcap [OPTIONS] -- COMMAND [ARG...]".into()))?;
    let program = program::find(first).map_err(Failure::Usage)?;
    settings.attributes.look_for_directory().map_err(Failure::Usage)?;
    let own_name = settings.argv0.as_ref().map_or(first.as_bytes(), |name| name.as_bytes());
    let arguments = settings.command.iter().skip(1).map(|word| word.as_bytes());
    let template = Template::parse(std::iter::once(own_name).chain(arguments)).map_err(Failure::Usage)?;
    Ok((program, template))
}

/// For listeners of these names, in this order.
pub(super) fn rules(settings: &Settings, names: &[&str]) -> Result<Rules, Failure> {
    let origin = &settings.max_per_listener_origin;
    for (name, max) in &settings.max_per_listener {
        let Some(name) = name else { continue };
        if !names.contains(&name.as_str()) {
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
        max_per_listener: names.iter().map(|name| settings.max_of_listener(name)).collect(),
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
