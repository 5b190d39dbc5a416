//! The limits: one file each, asked in the order of [`from_rules`]; the first "no" gives the reason.
//!
//! A limit keeps no count of its own: it compares the one [`Census`], so that asking never changes
//! anything and a connection is charged to all limits at once or to none.
#![forbid(unsafe_code)]

mod listener;
mod load;
mod total;

use super::reason::Refusal;
use super::source::Sources;

/// Position of a listener in the daemon's table.
pub type ListenerId = usize;

/// What is running: the only state that limits look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Commands running, over all listeners.
    pub active: u32,
    /// Commands running, by listener.
    pub per_listener: Vec<u32>,
    /// Commands running, by source.
    pub per_source: Sources,
    /// The last 1-minute load average that was told (proc_loadavg(5)).
    pub load: f64,
}

/// One rule that can say no.
pub trait Limit: std::fmt::Debug {
    /// Whether one more command for `listener` may start now; the refusal if not.
    fn ask(&self, census: &Census, listener: ListenerId) -> Option<Refusal>;
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

/// The limits that these rules switch on, in the order in which they are asked.
pub fn from_rules(rules: &Rules) -> Vec<Box<dyn Limit>> {
    [total::limit(rules), listener::limit(rules), load::limit(rules)].into_iter().flatten().collect()
}
