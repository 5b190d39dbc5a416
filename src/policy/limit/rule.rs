//! What a limit is asked, by whom, and what it may answer.
//!
//! Asking changes nothing. All are asked, then all are charged, or none, so that a client whom one limit refuses costs
//! it nothing with another. Who is here is counted once, in the [`Census`]; what else a limit has to remember is its own.
//!
//! A limit is of one of two [`Stage`]s: at the entry it judges a client once, and a "no" is told at once; before a start it is asked
//! again and again, and a "no" makes who may wait.
#![forbid(unsafe_code)]

pub use super::outcome::Outcome;

use super::debtors::Debtors;
use super::gcra::Rate;
use crate::policy::arrival::{Arrival, ListenerId};
use crate::policy::grounds::{Figures, Info};
use crate::policy::network::{Network, Prefixes};
use crate::policy::resource::Resource;
use crate::policy::source::{Source, Sources};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What is running and who is held: counts, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Commands running, over all listeners.
    pub active: u32,
    /// Commands running, by listener.
    pub per_listener: Vec<u32>,
    /// Commands running, by source.
    pub per_source: Sources,
    /// Commands running and clients held, by network: one count for each level of `--max-per-source`.
    pub present: Vec<Present>,
}

impl Census {
    /// One more command runs, for a client that is here.
    pub fn begin(&mut self, listener: Option<ListenerId>, source: Source) {
        self.active += 1;
        listener.into_iter().for_each(|listener| self.per_listener[listener] += 1);
        self.per_source.enter(source);
    }

    /// One less does.
    pub fn end(&mut self, listener: Option<ListenerId>, source: Source) {
        self.active -= 1;
        listener.into_iter().for_each(|listener| self.per_listener[listener] -= 1);
        self.per_source.leave(source);
    }

    /// Counts who is here again where other networks are counted from now on; `held` are those that wait.
    pub(in crate::policy) fn recount(&mut self, levels: &[(u32, Prefixes)], held: impl Iterator<Item = Source>) {
        let levels = levels.iter().map(|(_, prefixes)| *prefixes);
        if levels.clone().eq(self.present.iter().map(|level| level.prefixes)) {
            return;
        }
        self.present = levels.map(Present::new).collect();
        held.for_each(|source| self.enter(source));
        for (source, running) in self.per_source.iter() {
            self.present.iter_mut().for_each(|level| level.add(source, running));
        }
    }

    /// One more is here, running or held.
    pub fn enter(&mut self, source: Source) {
        self.present.iter_mut().for_each(|level| level.enter(source));
    }

    /// One less is.
    pub fn leave(&mut self, source: Source) {
        self.present.iter_mut().for_each(|level| level.leave(source));
    }
}

/// Commands running and clients held, by network.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    prefixes: Prefixes,
    count: HashMap<Network, u32>,
}

impl Present {
    /// Nobody, by networks of these prefixes.
    pub fn new(prefixes: Prefixes) -> Present {
        Present { prefixes, count: HashMap::new() }
    }

    /// The network of this source, and how many of it are here; `None` for a source that this count leaves out.
    pub fn count(&self, source: Source) -> Option<(Network, u32)> {
        let network = Network::of(source, self.prefixes)?;
        Some((network, self.count.get(&network).copied().unwrap_or(0)))
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.count.is_empty()
    }

    fn enter(&mut self, source: Source) {
        self.add(source, 1);
    }

    fn add(&mut self, source: Source, clients: u32) {
        let Some(network) = Network::of(source, self.prefixes) else { return };
        *self.count.entry(network).or_insert(0) += clients;
    }

    fn leave(&mut self, source: Source) {
        let Some(network) = Network::of(source, self.prefixes) else { return };
        let Some(count) = self.count.get_mut(&network) else { return };
        *count -= 1;
        if *count == 0 {
            self.count.remove(&network);
        }
    }
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
    /// An administrator's word.
    Resumed,
}

/// A limit's "no".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct No {
    /// The figures that led to it.
    pub figures: Figures,
    /// What may change it.
    pub until: Until,
}

impl No {
    /// How long until it may be a "yes", if that is a matter of time.
    pub fn retry(&self, now: Instant) -> Option<Duration> {
        match self.until {
            Until::Then(at) => Some(at.saturating_duration_since(now)),
            _ => None,
        }
    }
}

/// Something outside that limits depend on, and that has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// The 1-minute load average (proc_loadavg(5)).
    Load,
    /// The pressure of all resources that a limit asks for.
    Pressure,
}

/// What a [`Gauge`] showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Of [`Gauge::Load`].
    Load(f64),
    /// Of [`Gauge::Pressure`]: percent of the last 10 seconds in which some tasks were stalled, by [`Resource`].
    Pressure([Option<f64>; 3]),
    /// Of no gauge: the kernel tells that the limit was reached.
    PressureEvent(Resource),
}

impl Reading {
    /// What was read, if anything was.
    pub fn gauge(self) -> Option<Gauge> {
        match self {
            Reading::Load(_) => Some(Gauge::Load),
            Reading::Pressure(_) => Some(Gauge::Pressure),
            Reading::PressureEvent(_) => None,
        }
    }
}

/// When a limit is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Once, when a client arrives. A "no" is told at once, also where clients wait for others, so that one source cannot fill the
    /// queue. Asked about clients alone, and not about those of `--exempt`.
    Entry,
    /// Until it says yes, about clients and about whoever comes next.
    Start,
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it had run.
    pub lasted: Duration,
}

/// One rule that can say no.
#[allow(private_interfaces, reason = "the tables of sources are for the gate alone")]
pub trait Limit {
    /// Whether one more command for `who` may start now.
    ///
    /// # Errors
    /// Why not, and until when not.
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No>;

    /// Its "no" to a second command, of a limit that depends on a gauge; `active` run now.
    fn closed(&self, _now: Instant, _active: u32) -> Option<No> {
        None
    }

    /// All limits have said yes, and this client enters or, for a limit on starts, its command is being started: for limits that
    /// remember more than is here.
    fn charge(&mut self, _now: Instant, _who: &Arrival) {}

    /// What a client of this source was charged is given back: it had entered and is refused for another reason or, for a limit on starts, no
    /// process was spent on it.
    fn refund(&mut self, _now: Instant, _source: Source) {}

    /// A command of this source, which is none of `--exempt`, has ended.
    fn ended(&mut self, _now: Instant, _source: Source, _ending: Ending) {}

    /// How many clients, since this was asked last, it could not remember: its table of sources is full of those that it limits.
    fn take_untracked(&mut self) -> u32 {
        0
    }

    /// What has to be read for it.
    fn gauge(&self) -> Option<Gauge> {
        None
    }

    /// A gauge was read, this limit's or another's.
    fn read(&mut self, _now: Instant, _reading: Reading) {}

    /// Goes on under other rules that switch it on, too, and remembers what it knows. `false`: it knows nothing, and is to be made anew.
    fn keep(&mut self, _now: Instant, _rules: &Rules) -> bool {
        false
    }

    /// The sources that it remembers.
    fn debtors(&self) -> Option<&Debtors> {
        None
    }

    /// The same, to be changed.
    fn debtors_mut(&mut self) -> Option<&mut Debtors> {
        None
    }
}

/// Which one it is, the rule knows. Derived for each, it would be in the program, which never prints it.
impl fmt::Debug for dyn Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Limit")
    }
}

/// What one kind of end costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    /// The end.
    pub outcome: Outcome,
    /// The price; 0 is none.
    pub span: Duration,
    /// Whether that of a command which has run for more than two minutes counts, too.
    pub always: bool,
}

/// `--penalty`, `--penalty-min` and `--penalty-max`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Penalties {
    /// At most one for each kind of end. Without any, there are no penalties.
    pub of: Vec<Penalty>,
    /// What it has to add up to.
    pub min: Duration,
    /// What it never exceeds; not less than `min`.
    pub max: Duration,
}

impl fmt::Display for Penalty {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let span = humantime::format_duration(self.span).to_string().replace(' ', "");
        write!(f, "{}={span}{}", self.outcome, if self.always { ":always" } else { "" })
    }
}

/// As they are given.
impl fmt::Display for Penalties {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let all: Vec<_> = self.of.iter().map(Penalty::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// What the administrator set. 0 means unlimited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// `--max-connections`: commands over all listeners.
    pub max_connections: u32,
    /// `--max-per-listener`, resolved to one number per listener.
    pub max_per_listener: Vec<u32>,
    /// `--max-per-source`: commands running and clients held of one network; one level for each prefix.
    pub max_per_source: Vec<(u32, Prefixes)>,
    /// `--max-rate`; `None` is off.
    pub max_rate: Option<Rate>,
    /// `--max-rate-per-source`; `None` is off.
    pub max_rate_per_source: Option<Rate>,
    /// `--penalty` and its bounds.
    pub penalties: Penalties,
    /// `--max-sources`: entries of each table of sources that a limit keeps.
    pub max_sources: u32,
    /// `--source-prefix`: what one source is, for all other limits on sources.
    pub source_prefix: Prefixes,
    /// `--exempt`: who is outside of limits on sources and rates.
    pub exempt: Vec<Network>,
    /// `--reserved`: slots below `max_connections` that only they may take.
    pub reserved: u32,
    /// `--load-average`; `None` is off.
    pub load_average: Option<f64>,
    /// `--max-pressure`, in percent.
    pub max_pressure: Vec<(Resource, f64)>,
    /// `--dry-run`: limits that judge, and let in, by the names of their options.
    pub dry_run: Vec<&'static str>,
}

/// One kind of limit.
#[derive(Debug)]
pub struct Kind {
    /// What is said of it.
    pub info: &'static Info,
    /// When it is asked.
    pub stage: Stage,
    /// Whether it says yes to clients of `--exempt`; the gate does not ask it then.
    pub spares_exempt: bool,
    /// Makes it, if these rules switch it on.
    pub(super) build: fn(&Rules) -> Option<Box<dyn Limit>>,
}

impl Kind {
    /// The limit, if these rules switch it on.
    pub fn build(&self, rules: &Rules) -> Option<Box<dyn Limit>> {
        (self.build)(rules)
    }
}
