//! What keeps commands apart (`--isolate`): made once at the start, or said to be missing.
#![forbid(unsafe_code)]

use super::settings::{Settings, Wish};
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
