//! What a limit is asked, by whom, and what it may answer.
//!
//! Asking changes nothing. All are asked, then all are charged, or none, so that a client whom one limit refuses costs
//! it nothing with another. Who is running is counted once, in the [`Census`]; what else a limit has to remember is its own.
#![forbid(unsafe_code)]

use crate::policy::arrival::{Arrival, ListenerId};
use crate::policy::grounds::{Figures, Info};
use crate::policy::source::Sources;
use std::time::Instant;

/// What is running: counts, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Commands running, over all listeners.
    pub active: u32,
    /// Commands running, by listener.
    pub per_listener: Vec<u32>,
    /// Commands running, by source.
    pub per_source: Sources,
}

/// For whom one more command would be started.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// Whoever comes next at this listener. A "no" may pause it, so a limit that depends on the client says yes.
    Anybody(ListenerId),
    /// This client. A "no" means that it is held or refused.
    Client(&'a Arrival),
}

impl Who<'_> {
    /// The listener in question.
    pub fn listener(self) -> ListenerId {
        match self {
            Who::Anybody(listener) => listener,
            Who::Client(who) => who.listener,
        }
    }
}

/// What may turn a "no" into a "yes". The gate asks again then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The end of a command.
    AnEnd,
    /// A new [`Reading`].
    AReading,
    /// This time, which has not come yet.
    Then(Instant),
}

/// A limit's "no".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct No {
    /// The figures that led to it.
    pub figures: Figures,
    /// What may change it.
    pub until: Until,
}

/// Something outside that limits depend on, and that has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// The 1-minute load average (proc_loadavg(5)).
    Load,
}

/// What a [`Gauge`] showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Of [`Gauge::Load`].
    Load(f64),
}

impl Reading {
    /// What was read.
    pub fn gauge(self) -> Gauge {
        match self {
            Reading::Load(_) => Gauge::Load,
        }
    }
}

/// One rule that can say no.
pub trait Limit: std::fmt::Debug {
    /// Whether one more command for `who` may start now.
    ///
    /// # Errors
    /// Why not, and until when not.
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No>;

    /// All limits have said yes, and this client's command is being started: for limits that remember more than is
    /// running. It is not taken back if the start fails.
    fn charge(&mut self, _now: Instant, _who: &Arrival) {}

    /// What has to be read for it.
    fn gauge(&self) -> Option<Gauge> {
        None
    }

    /// A gauge was read, this limit's or another's.
    fn read(&mut self, _now: Instant, _reading: Reading) {}
}

/// What the administrator set. 0 means unlimited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// `--max-connections`: commands over all listeners.
    pub max_connections: u32,
    /// `--max-per-listener`, resolved to one number per listener.
    pub max_per_listener: Vec<u32>,
    /// `--load-average`; `None` is off.
    pub load_average: Option<f64>,
}

/// One kind of limit.
#[derive(Debug)]
pub struct Kind {
    /// What is said of it.
    pub info: Info,
    /// Makes it, if these rules switch it on.
    pub(super) build: fn(&Rules) -> Option<Box<dyn Limit>>,
}

impl Kind {
    /// The limit, if these rules switch it on.
    pub fn build(&self, rules: &Rules) -> Option<Box<dyn Limit>> {
        (self.build)(rules)
    }
}
