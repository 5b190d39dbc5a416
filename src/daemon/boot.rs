//! From settings to a running loop, in the one order that is safe: sockets, program, log, READY.
#![forbid(unsafe_code)]

use super::run::Daemon;
use super::settings::Settings;
use crate::child::template::Template;
use crate::child::{environment, program};
use crate::listen::{Listener, Shown, adopt, open};
use crate::policy::limit::Rules;
use crate::sys::spawn::Image;
use crate::sys::{plain, socket};
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
    let mut listeners = adopt::from_environment().map_err(Failure::Usage)?;
    let (program, template) = command(&settings)?;
    for (text, place) in &settings.listen {
        let opened = open::open(place, text, settings.family);
        listeners.extend(system(opened, &format!("cannot listen on '{text}'"))?);
    }
    if listeners.is_empty() {
        return Err(Failure::Usage("no listening sockets were passed and no --listen was given".into()));
    }
    for listener in &listeners {
        let what = format!("cannot set the backlog of '{}' to {}", listener.name, settings.backlog);
        system(socket::listen(listener.fd.as_fd(), settings.backlog), &what)?;
    }
    let rules = rules(&settings, &listeners)?;
    let entries = environment::Entries::new(listeners.iter().map(|listener| (&listener.local, listener.is_wildcard)));
    let image = Image {
        program,
        entries: entries.all.clone(),
        arguments: template.fixed.clone(),
        environment: environment::cleaned(std::env::vars_os(), settings.pass),
        pass: settings.pass,
        nofile: raise_descriptor_limit(),
    };
    let daemon = system(Daemon::new(settings, rules, listeners, image, (template, entries)), "cannot start")?;
    daemon.run().map_err(Failure::System)
}

/// RLIMIT_NOFILE up to the hard limit for us; what it was, for the commands (select(2) users need 1024).
fn raise_descriptor_limit() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}

fn command(settings: &Settings) -> Result<(std::ffi::CString, Template), Failure> {
    let first = settings
        .command
        .first()
        .ok_or_else(|| Failure::Usage("no command was given: sockcap [OPTIONS] -- COMMAND [ARG...]".into()))?;
    let program = program::find(first).map_err(Failure::Usage)?;
    let template = Template::parse(settings.command.iter().map(|word| word.as_bytes())).map_err(Failure::Usage)?;
    Ok((program, template))
}

fn rules(settings: &Settings, listeners: &[Listener]) -> Result<Rules, Failure> {
    let mut max_per_listener = vec![0; listeners.len()];
    for (_, max) in settings.max_per_listener.iter().filter(|(name, _)| name.is_none()) {
        max_per_listener.fill(*max);
    }
    for (name, max) in &settings.max_per_listener {
        let Some(name) = name else { continue };
        let mut found = false;
        for (at, _) in listeners.iter().enumerate().filter(|(_, listener)| listener.name == *name) {
            max_per_listener[at] = *max;
            found = true;
        }
        if !found {
            let names: Vec<_> = listeners.iter().map(|listener| format!("'{}'", listener.name)).collect();
            let names = names.join(", ");
            return Err(Failure::Usage(format!(
                "--max-per-listener {name}={max}: no such listener; there are {names}"
            )));
        }
    }
    let Settings { max_connections, load_average, .. } = *settings;
    Ok(Rules { max_connections, max_per_listener, load_average })
}

/// `--check`: reads everything, changes nothing that lasts, and says what would hold.
///
/// # Errors
/// As for [`start`], as far as it can be known without opening `--listen` sockets.
pub fn check(settings: &Settings) -> Result<String, Failure> {
    let passed = adopt::from_environment().map_err(Failure::Usage)?;
    let (program, _) = command(settings)?;
    if settings.listen.is_empty() {
        rules(settings, &passed)
            .or_else(|failure| if passed.is_empty() { Ok(Rules::default()) } else { Err(failure) })?;
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{name:<17} {value}"); // writing to a String cannot fail
    };
    for listener in &passed {
        line("passed socket", &format_args!("{} as '{}'", Shown(&listener.local), listener.name));
    }
    for (text, _) in &settings.listen {
        line("listen", text);
    }
    if passed.is_empty() && settings.listen.is_empty() {
        line("listen", &"the sockets that systemd passes (none now)");
    }
    let limit = crate::observe::event::limit;
    line("family", &settings.family);
    line("backlog", &settings.backlog);
    line("max-connections", &limit(settings.max_connections));
    for (name, max) in &settings.max_per_listener {
        let of = name.as_ref().map_or(String::new(), |name| format!("'{name}': "));
        line("max-per-listener", &format_args!("{of}{}", limit(*max)));
    }
    match settings.load_average {
        Some(below) => line("load-average", &below),
        None => line("load-average", &"off"),
    }
    line("when-full", &settings.when_full);
    line("busy-reply", &settings.busy_reply);
    line("busy-message", &settings.busy_message);
    line("pass", &settings.pass);
    line("drain-timeout", &humantime::format_duration(settings.drain_timeout));
    line("kill-grace", &humantime::format_duration(settings.kill_grace));
    line("log", &settings.most);
    line("log-target", &settings.log_target);
    let rest = settings.command.iter().skip(1).map(|word| word.to_string_lossy());
    let command = std::iter::once(program.to_string_lossy()).chain(rest).collect::<Vec<_>>().join(" ");
    line("command", &command);
    Ok(out)
}
