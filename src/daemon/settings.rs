//! All settings, validated; `cli` makes them from the command line and the environment.
#![forbid(unsafe_code)]

use crate::child::attributes::Wanted;
use crate::child::cgroups::limits::Limits;
use crate::child::commands::SlotUntil;
use crate::listen::place::{Family, Place};
use crate::listen::waiting::HalfClose;
use crate::observe::event::Severity;
use crate::observe::log::Target;
use crate::observe::peer::LogPeer;
use crate::policy::gate::WhenFull;
use crate::policy::limit::gcra::Rate;
use crate::policy::limit::rule::Penalties;
use crate::policy::network::{Network, Prefixes};
use crate::policy::queue::QueueOrder;
use crate::policy::resource::Resource;
use crate::reply::{Choice, Message};
use crate::sys::launch::{Pass, Session};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// `--isolate`: what keeps commands apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Isolate {
    /// A Landlock domain for each.
    pub signals: Wish,
    /// A cgroup for each.
    pub cgroup: Wish,
}

/// How much a part of `--isolate` is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Not at all.
    #[default]
    Off,
    /// Where it can be had; else it is said, and commands run without.
    IfAvailable,
    /// Without it there is no start.
    Required,
}

/// Every setting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--listen`, with the text as typed.
    pub listen: Vec<(String, Place)>,
    /// `--ipv4`, `--ipv6`.
    pub family: Family,
    /// `--backlog`.
    pub backlog: i32,
    /// `--proxy-protocol`.
    pub proxy_protocol: bool,
    /// `--proxy-from`; nothing: loopback and UNIX peers.
    pub proxy_from: Vec<Network>,
    /// `--max-connections`; 0 is no limit.
    pub max_connections: u32,
    /// `--max-per-listener`: the names have to be listeners' names; without a name it is for all others.
    pub max_per_listener: Vec<(Option<String>, u32)>,
    /// What stands before its values where they were given: `--max-per-listener `, or the variable's name and `=`.
    pub max_per_listener_origin: String,
    /// `--max-per-source`, each with what one source is.
    pub max_per_source: Vec<(u32, Prefixes)>,
    /// `--source-prefix`.
    pub source_prefix: Prefixes,
    /// `--max-rate`; `None` is no limit.
    pub max_rate: Option<Rate>,
    /// `--max-rate-per-source`; `None` is no limit.
    pub max_rate_per_source: Option<Rate>,
    /// `--penalty`, `--penalty-min` and `--penalty-max`.
    pub penalties: Penalties,
    /// `--max-sources`.
    pub max_sources: u32,
    /// `--exempt`.
    pub exempt: Vec<Network>,
    /// `--reserved`; below `max_connections`.
    pub reserved: u32,
    /// `--load-average`.
    pub load_average: Option<f64>,
    /// `--max-pressure`, in percent.
    pub max_pressure: Vec<(Resource, f64)>,
    /// `--when-full`.
    pub when_full: WhenFull,
    /// `--max-wait`; `None` is no limit. Means nothing with [`WhenFull::Refuse`], as `max_waiting`.
    pub max_wait: Option<Duration>,
    /// `--max-waiting`; 0 is no limit.
    pub max_waiting: u32,
    /// `--dry-run`: the limits that judge, and let in, by the names of their options.
    pub dry_run: Vec<&'static str>,
    /// `--half-close`.
    pub half_close: HalfClose,
    /// `--queue-order`. Means nothing with [`WhenFull::Refuse`].
    pub queue_order: QueueOrder,
    /// `--busy-reply`.
    pub busy_reply: Choice,
    /// `--busy-message`.
    pub busy_message: Message,
    /// `--pass`.
    pub pass: Pass,
    /// `--session`.
    pub session: Session,
    /// `--argv0`; `None` is COMMAND itself.
    pub argv0: Option<String>,
    /// `--stderr`, `--nice`, `--oom-score-adjust`, `--limit`, `--umask`, `--chdir`.
    pub attributes: Wanted,
    /// `--isolate`.
    pub isolate: Isolate,
    /// `--memory-max` and the like, of each connection; none without [`Isolate::cgroup`].
    pub connection_limits: Limits,
    /// `--slot-until`.
    pub slot_until: SlotUntil,
    /// `--uid-pool`: the first and the last; as many as `max_connections`, or more.
    pub uid_pool: Option<(u32, u32)>,
    /// `--time-limit`; `None` is off.
    pub time_limit: Option<Duration>,
    /// `--idle-exit`; `None` is off.
    pub idle_exit: Option<Duration>,
    /// `--drain-timeout`.
    pub drain_timeout: Duration,
    /// `--kill-grace`.
    pub kill_grace: Duration,
    /// `--control`; `None` is off.
    pub control: Option<PathBuf>,
    /// `--verbose`, `--quiet`.
    pub max_severity: Severity,
    /// `--log-target`.
    pub log_target: Target,
    /// `--log-peer`.
    pub log_peer: LogPeer,
    /// `--agent-share`.
    pub agent_share: NonZeroU32,
    /// COMMAND and its arguments.
    pub command: Vec<OsString>,
}

impl Settings {
    /// `--max-per-listener` of a listener of this name, else that for all others; 0 is no limit. What is given last wins.
    pub fn max_of_listener(&self, name: &str) -> u32 {
        let last = |wanted: Option<&str>| self.max_per_listener.iter().rfind(|(of, _)| of.as_deref() == wanted);
        last(Some(name)).or_else(|| last(None)).map_or(0, |(_, max)| *max)
    }

    /// Whether a limit says yes to one client and no to another of the same listener, so that none can be left in the kernel's queue; or
    /// clients are accepted before it is known whether there is room for them.
    pub fn looks_at_clients(&self) -> bool {
        let has_rate_for_some = self.max_rate.is_some() && !self.exempt.is_empty();
        let is_of_source = self.max_rate_per_source.is_some() || !self.penalties.of.is_empty();
        let is_of_source = is_of_source || !self.max_per_source.is_empty();
        is_of_source || self.reserved > 0 || has_rate_for_some || self.proxy_protocol
    }
}
