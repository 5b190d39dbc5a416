//! The gate: events in, actions out; the same events always give the same actions.
//!
//! * never more running than any limit allows;
//! * with `refuse`, each arrival gets exactly one of [`Action::Admit`] and [`Action::Refuse`];
//! * with `wait`, a listener whose next arrival could not be admitted is paused, so that the kernel's
//!   queue is the queue; only the edge from full to not full resumes it.
#![forbid(unsafe_code)]

use super::limit::{self, Census, Limit, ListenerId, Rules};
use super::reason::Refusal;
use std::time::{Duration, Instant};

/// How long a load average stays good: the kernel itself renews it every 5 s, and a client that waits
/// for the load to fall should not wait much longer than that.
pub const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What happens to a connection that a limit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Accept, tell, close.
    Refuse,
    /// Leave it in the kernel's queue, in order.
    Wait,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A connection was accepted from this listener and its client is still there.
    Arrive(ListenerId),
    /// A command of this listener has ended, or could not be started: its slot comes back.
    Ended(ListenerId),
    /// The 1-minute load average was read.
    Load(f64),
    /// The daemon is stopping: nothing more is admitted.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Start the command for the connection that has just arrived; its slot is charged already.
    Admit,
    /// Tell the client that has just arrived, and close.
    Refuse(Refusal),
    /// Take this listener out of the poll set.
    Pause(ListenerId),
    /// Put this listener back.
    Resume(ListenerId),
}

/// Decides, and keeps the only count that decisions are made from.
#[derive(Debug)]
pub struct Gate {
    limits: Vec<Box<dyn Limit>>,
    wants_load: bool,
    when_full: WhenFull,
    census: Census,
    load_read: Option<Instant>,
    paused: Vec<bool>,
    draining: bool,
}

impl Gate {
    /// A gate over `listeners` listeners, all open. `rules.max_per_listener` has one entry per listener.
    pub fn new(rules: &Rules, when_full: WhenFull, listeners: usize) -> Self {
        debug_assert_eq!(rules.max_per_listener.len(), listeners);
        Gate {
            limits: limit::from_rules(rules),
            wants_load: rules.load_average.is_some(),
            when_full,
            census: Census { active: 0, per_listener: vec![0; listeners], load: 0.0 },
            load_read: None,
            paused: vec![false; listeners],
            draining: false,
        }
    }

    /// Takes one event; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Arrive(listener) => match self.ask(listener) {
                None => {
                    self.census.active += 1;
                    self.census.per_listener[listener] += 1;
                    out.push(Action::Admit);
                }
                Some(refusal) => out.push(Action::Refuse(refusal)),
            },
            Event::Ended(listener) => {
                self.census.active -= 1;
                self.census.per_listener[listener] -= 1;
            }
            Event::Load(load) => {
                self.census.load = load;
                self.load_read = Some(now);
            }
            Event::Drain => self.draining = true,
        }
        self.edges(out);
    }

    /// Whether [`Event::Load`] is due: a load limit is set, something runs, and the last figure is old.
    pub fn load_is_due(&self, now: Instant) -> bool {
        self.wants_load && self.census.active > 0 && self.load_read.is_none_or(|at| at + LOAD_INTERVAL <= now)
    }

    /// When to wake even though nothing happened: while the load keeps a listener paused, it is looked
    /// at again, since no command's end may come for long.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.wants_load && self.census.active > 0 && !self.draining && self.paused.contains(&true);
        self.load_read.filter(|_| waits).map(|at| at + LOAD_INTERVAL)
    }

    /// What is running.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Whether this listener is out of the poll set.
    pub fn is_paused(&self, listener: ListenerId) -> bool {
        self.paused[listener]
    }

    /// Whether an arrival at this listener could not be admitted now.
    pub fn is_full(&self, listener: ListenerId) -> bool {
        self.ask(listener).is_some()
    }

    fn ask(&self, listener: ListenerId) -> Option<Refusal> {
        self.limits.iter().find_map(|limit| limit.ask(&self.census, listener))
    }

    fn edges(&mut self, out: &mut Vec<Action>) {
        for listener in 0..self.paused.len() {
            let closed = self.draining || (self.when_full == WhenFull::Wait && self.ask(listener).is_some());
            if closed != self.paused[listener] {
                self.paused[listener] = closed;
                out.push(if closed { Action::Pause(listener) } else { Action::Resume(listener) });
            }
        }
    }
}
