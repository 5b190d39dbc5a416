//! What keeps commands apart (`--isolate`): made once at the start, or said to be missing.
#![forbid(unsafe_code)]

use super::settings::{Settings, Wish};
use crate::child::cgroups::{Cgroups, Users};
use crate::child::commands::{Apart, SlotUntil};
use crate::observe::event::Event;
use crate::sys::landlock::{Missing, RuleSet};
use std::fmt;
use std::os::fd::OwnedFd;

/// `--isolate=signals`.
#[derive(Debug)]
pub(super) enum Signals {
    /// Not asked for.
    Off,
    /// Each command is in a domain of its own.
    Apart(RuleSet),
    /// It was asked for where it can be had, which is not here.
    Missing(Missing),
}

impl Signals {
    /// As the settings say.
    ///
    /// # Errors
    /// One line, if what must be there is not.
    pub(super) fn of(settings: &Settings) -> Result<Signals, String> {
        let wish = settings.isolate.signals;
        if wish == Wish::Off {
            return Ok(Signals::Off);
        }
        match RuleSet::new() {
            Ok(rules) => Ok(Signals::Apart(rules)),
            Err(why) if wish == Wish::Required => Err(format!("cannot keep commands apart (--isolate=signals): {why}")),
            Err(why) => Ok(Signals::Missing(why)),
        }
    }

    /// What is to be said of it.
    pub(super) fn event(&self) -> Option<Event> {
        match self {
            Signals::Missing(why) => Some(Event::NotApart { part: "signals", why: why.to_string() }),
            Signals::Apart(rules) if !rules.has_scopes() => Some(Event::SignalsPass { abi: rules.abi }),
            _ => None,
        }
    }

    /// For commands.
    pub(super) fn domain(self) -> Option<OwnedFd> {
        match self {
            Signals::Apart(rules) => Some(rules.fd),
            _ => None,
        }
    }
}

/// `--isolate=cgroup`: takes possession of the service's cgroup, so it is for a start alone. With it what is to be said of it.
///
/// # Errors
/// One line, if what must be there is not.
pub(super) fn cgroups(settings: &Settings) -> Result<(Option<Apart>, Option<Event>), String> {
    let Settings { isolate, connection_limits: limits, slot_until, uid_pool, .. } = settings;
    if isolate.cgroup == Wish::Off {
        return Ok((None, None));
    }
    // A limit that does not hold is worse than none.
    let needed_by = match (limits.settings().first(), slot_until) {
        (Some(setting), _) => Some(setting.option),
        (None, SlotUntil::Cgroup) => Some("--slot-until cgroup"),
        (None, SlotUntil::Command) => None,
    };
    if uid_pool.is_some() && !may_change_user() {
        return Err("cannot give each connection a user (--uid-pool): that needs CAP_SETUID and CAP_SETGID, which root has (the unit may set no User=, and CapabilityBoundingSet= has to have them)".into());
    }
    match Cgroups::begin(limits) {
        Ok((cgroups, fallbacks)) => {
            let event = Event::Cgroups { path: cgroups.path().to_owned(), fallbacks };
            let users = uid_pool.map(|(first, last)| Users::new(first, last));
            Ok((Some(Apart::new(cgroups, users, *slot_until)), Some(event)))
        }
        Err(why) if isolate.cgroup == Wish::Required => {
            Err(format!("cannot give each connection a cgroup (--isolate=cgroup): {why}"))
        }
        Err(why) if needed_by.is_some() => {
            Err(format!("cannot give each connection a cgroup, as {} needs it: {why}", needed_by.unwrap_or_default()))
        }
        Err(why) => Ok((None, Some(Event::NotApart { part: "cgroup", why }))),
    }
}

/// Whether this process may become any user (capabilities(7)).
fn may_change_user() -> bool {
    const SETGID: u64 = 1 << 6;
    const SETUID: u64 = 1 << 7;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    // Where it cannot be seen, each command tells.
    effective
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_none_or(|mask| mask & (SETGID | SETUID) == SETGID | SETUID)
}

/// What would hold, for `--check`: nothing is made, and this process stays where it is.
///
/// # Errors
/// As for [`Signals::of`].
pub(super) fn told(settings: &Settings) -> Result<String, String> {
    let signals = Signals::of(settings)?;
    let cgroup = match settings.isolate.cgroup {
        Wish::Off => return Ok(signals.to_string()),
        Wish::IfAvailable => "a cgroup for each connection, if the service has Delegate=",
        Wish::Required => "a cgroup for each connection (needs Delegate=)",
    };
    Ok(if settings.isolate.signals == Wish::Off { cgroup.to_owned() } else { format!("{signals}; {cgroup}") })
}

impl fmt::Display for Signals {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Signals::Off => f.write_str("off"),
            Signals::Apart(RuleSet { abi, .. }) if self.event().is_none() => write!(f, "signals (Landlock ABI {abi})"),
            Signals::Apart(RuleSet { abi, .. }) => {
                write!(f, "signals (Landlock ABI {abi}: traces and memory; signals still pass)")
            }
            Signals::Missing(why) => write!(f, "signals (cannot be had: {why})"),
        }
    }
}
