//! The gate: events in, actions out; the same events always give the same actions.
//!
//! * never more running than any limit allows;
//! * with `refuse`, each arrival gets exactly one of [`Action::Admit`] and [`Action::Refuse`];
//! * with `wait`, a listener whose next arrival could neither be admitted nor held is paused, so that the
//!   kernel's queue is the queue; only the edge from full to not full resumes it;
//! * the held are admitted first come first served, never a free slot with somebody waiting, and each ends as
//!   admitted, refused or gone.
#![forbid(unsafe_code)]

use super::limit::{self, Census, Limit, ListenerId, Rules};
use super::queue::{Queue, Ticket};
use super::reason::{Reason, Refusal};
use std::collections::VecDeque;
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

impl std::fmt::Display for WhenFull {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            WhenFull::Refuse => "refuse",
            WhenFull::Wait => "wait",
        })
    }
}

/// How clients are held that were accepted and cannot be admitted yet. The default holds nobody: those that a
/// limit does not allow are left in the kernel's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// `--max-wait`: who has waited so long, counted from the end of the handshake, is refused.
    pub max_wait: Option<Duration>,
    /// `--max-waiting`: who comes while so many wait is refused; 0 is no such limit.
    pub max_waiting: u32,
    /// How many may be held; the rest is left in the kernel's queue.
    pub places: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A connection was accepted from this listener and its client is still there. It has waited since then.
    Arrive(ListenerId, Ticket, Instant),
    /// A command of this listener has ended, or could not be started: its slot comes back.
    Ended(ListenerId),
    /// A command of an earlier daemon still runs: it counts, whatever the limits say. Its listener, if known.
    Adopted(Option<ListenerId>),
    /// Such a command has ended.
    AdoptedEnded(Option<ListenerId>),
    /// A command could not be started and its client waits again, since then; nobody is admitted until [`Event::Retry`].
    Postponed(ListenerId, Ticket, Instant),
    /// Commands may perhaps be started again.
    Retry,
    /// A client that was held has left.
    Gone(ListenerId, Ticket),
    /// The 1-minute load average was read.
    Load(f64),
    /// Time has passed: see [`Gate::deadline`].
    Tick,
    /// The daemon is stopping: nothing more is admitted, and nobody waits any longer.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Start the command for this connection; its slot is charged already.
    Admit(Ticket),
    /// Keep this connection, which has just arrived.
    Hold(Ticket),
    /// Tell this client, and close.
    Refuse(Ticket, Refusal),
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
    hold: Hold,
    census: Census,
    queue: Queue,
    load_read: Option<Instant>,
    paused: Vec<bool>,
    postponed: bool,
    draining: bool,
}

impl Gate {
    /// A gate over `listeners` listeners, all open. `rules.max_per_listener` has one entry per listener; `hold`
    /// means nothing with [`WhenFull::Refuse`].
    pub fn new(rules: &Rules, when_full: WhenFull, hold: Hold, listeners: usize) -> Self {
        debug_assert_eq!(rules.max_per_listener.len(), listeners);
        Gate {
            limits: limit::from_rules(rules),
            wants_load: rules.load_average.is_some(),
            when_full,
            hold,
            census: Census { active: 0, per_listener: vec![0; listeners], load: 0.0 },
            queue: Queue::new(listeners),
            load_read: None,
            paused: vec![false; listeners],
            postponed: false,
            draining: false,
        }
    }

    /// Takes one event; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut VecDeque<Action>) {
        match event {
            Event::Arrive(listener, ticket, since) => self.arrive(now, listener, ticket, since, out),
            Event::Ended(listener) => self.release(Some(listener)),
            Event::Adopted(listener) => self.charge(listener),
            Event::AdoptedEnded(listener) => self.release(listener),
            Event::Postponed(listener, ticket, since) => {
                self.release(Some(listener));
                self.postponed = true;
                match self.draining {
                    true => out.push_back(Action::Refuse(ticket, self.refusal(Reason::Stopping, listener))),
                    false => self.queue.enter(listener, ticket, since),
                }
            }
            Event::Retry => self.postponed = false,
            Event::Gone(listener, ticket) => drop(self.queue.leave(listener, ticket)),
            Event::Load(load) => {
                self.census.load = load;
                self.load_read = Some(now);
            }
            Event::Tick => {}
            Event::Drain => self.drain(out),
        }
        self.admit_waiting(out);
        self.expire(now, out);
        self.edges(out);
    }

    fn arrive(
        &mut self,
        now: Instant,
        listener: ListenerId,
        ticket: Ticket,
        since: Instant,
        out: &mut VecDeque<Action>,
    ) {
        if !self.is_full(listener) {
            self.charge(Some(listener));
            return out.push_back(Action::Admit(ticket));
        }
        let Hold { max_wait, max_waiting, .. } = self.hold;
        let reason = if self.draining {
            Some(Reason::Stopping)
        } else if self.when_full == WhenFull::Refuse {
            None
        } else if max_wait.is_some_and(|most| since + most <= now) {
            Some(Reason::WaitedTooLong)
        } else if max_waiting > 0 && self.queue.len() >= max_waiting {
            Some(Reason::QueueFull)
        } else {
            self.queue.enter(listener, ticket, since);
            return out.push_back(Action::Hold(ticket));
        };
        let refusal = match reason {
            Some(reason) => self.refusal(reason, listener),
            // The limit's own; with `refuse` nothing but a limit makes a listener full.
            None => self.ask(listener).unwrap_or(Refusal::count(Reason::TotalLimit, self.census.active, 0)),
        };
        out.push_back(Action::Refuse(ticket, refusal));
    }

    fn charge(&mut self, listener: Option<ListenerId>) {
        self.census.active += 1;
        listener.into_iter().for_each(|listener| self.census.per_listener[listener] += 1);
    }

    fn release(&mut self, listener: Option<ListenerId>) {
        self.census.active -= 1;
        listener.into_iter().for_each(|listener| self.census.per_listener[listener] -= 1);
    }

    /// A refusal that is not a limit's own, with the figures of the limit that holds.
    fn refusal(&self, reason: Reason, listener: ListenerId) -> Refusal {
        let limit = self.ask(listener).unwrap_or(Refusal::count(reason, self.census.active, 0));
        Refusal { reason, waiting: self.queue.len(), ..limit }
    }

    /// The longest waiting of those whose listener has room, one after the other.
    fn admit_waiting(&mut self, out: &mut VecDeque<Action>) {
        while !self.queue.is_empty() {
            let next = (0..self.paused.len())
                .filter_map(|listener| Some((self.queue.head(listener)?.0, listener)))
                .filter(|(_, listener)| !self.is_full(*listener))
                .min();
            let Some((ticket, listener)) = next else { return };
            self.queue.leave(listener, ticket);
            self.charge(Some(listener));
            out.push_back(Action::Admit(ticket));
        }
    }

    fn expire(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        let Some(most) = self.hold.max_wait else { return };
        for listener in 0..self.paused.len() {
            while let Some((ticket, _)) = self.queue.head(listener).filter(|(_, since)| *since + most <= now) {
                out.push_back(Action::Refuse(ticket, self.refusal(Reason::WaitedTooLong, listener)));
                self.queue.leave(listener, ticket);
            }
        }
    }

    fn drain(&mut self, out: &mut VecDeque<Action>) {
        self.draining = true;
        for listener in 0..self.paused.len() {
            while let Some((ticket, _)) = self.queue.head(listener) {
                out.push_back(Action::Refuse(ticket, self.refusal(Reason::Stopping, listener)));
                self.queue.leave(listener, ticket);
            }
        }
    }

    /// Whether [`Event::Load`] is due before the next arrival is accepted: a load limit is set, and the last
    /// figure is old. Also with nothing running: what is admitted then decides about the next by it.
    pub fn load_is_due(&self, now: Instant) -> bool {
        self.wants_load && self.load_read.is_none_or(|at| at + LOAD_INTERVAL <= now)
    }

    /// When to wake even though nothing happened: when somebody has waited too long; and while the load keeps
    /// somebody waiting, it is looked at again, since no command's end may come for long.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.is_anybody_waiting() && self.census.active > 0 && !self.draining;
        let load = self.load_read.filter(|_| self.wants_load && waits).map(|at| at + LOAD_INTERVAL);
        let patience = self.hold.max_wait.and_then(|most| Some(self.queue.longest()? + most));
        load.into_iter().chain(patience).min()
    }

    /// What is running.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Who is held.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Whether this listener is out of the poll set.
    pub fn is_paused(&self, listener: ListenerId) -> bool {
        self.paused[listener]
    }

    /// Whether a command's end may be what somebody waits for, held here or in the kernel's queue.
    pub fn is_anybody_waiting(&self) -> bool {
        !self.queue.is_empty() || self.paused.contains(&true)
    }

    /// Whether an arrival at this listener could not be admitted now.
    pub fn is_full(&self, listener: ListenerId) -> bool {
        self.postponed || self.draining || self.ask(listener).is_some()
    }

    fn ask(&self, listener: ListenerId) -> Option<Refusal> {
        self.limits.iter().find_map(|limit| limit.ask(&self.census, listener))
    }

    fn edges(&mut self, out: &mut VecDeque<Action>) {
        let Hold { max_waiting, places, .. } = self.hold;
        // With a limit that can be reached, the next arrival is refused by it.
        let has_place = self.queue.len() < places || (max_waiting > 0 && max_waiting <= places);
        for listener in 0..self.paused.len() {
            let full = self.when_full == WhenFull::Wait && self.is_full(listener) && !has_place;
            let closed = self.draining || full;
            if closed != self.paused[listener] {
                self.paused[listener] = closed;
                out.push_back(if closed { Action::Pause(listener) } else { Action::Resume(listener) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
