//! The gate: what happened in, a verdict or actions out; the same events always give the same answers.
//!
//! * never more running than any limit allows;
//! * with `refuse`, each arrival gets exactly one of [`Verdict::Admit`] and [`Verdict::Refuse`];
//! * with `wait`, a listener whose next arrival could neither be admitted nor held is paused, so that the
//!   kernel's queue is the queue; only the edge from full to not full resumes it;
//! * the held are admitted first come first served, never a free slot with somebody waiting, and each ends as
//!   admitted, refused or gone.
#![forbid(unsafe_code)]

use super::limit::{self, Census, Limit, ListenerId, Rules};
use super::queue::{Queue, Ticket};
use super::reason::{Reason, Refusal};
use super::source::{Source, Sources};
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

/// A client that was accepted, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its number, and so its place in the order.
    pub ticket: Ticket,
    /// Where it came in.
    pub listener: ListenerId,
    /// Whom it is counted for.
    pub source: Source,
    /// Since when it has waited: the end of the handshake, where that is known.
    pub since: Instant,
}

/// One command's place under every limit. It is charged whole and given back whole and once, so it is neither `Copy`
/// nor `Clone`: it goes in with a command, and comes back with its end ([`Gate::ended`]) or because it could not be
/// started ([`Gate::postponed`]).
#[must_use = "a slot that is not given back is lost until the next start"]
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    listener: Option<ListenerId>,
    source: Source,
}

impl Slot {
    /// Which listener it is counted for; `None` if that is not known, of a command that an earlier daemon started.
    pub fn listener(&self) -> Option<ListenerId> {
        self.listener
    }

    /// Which source it is counted for.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// What becomes of a client that has just arrived.
#[must_use]
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Start its command.
    Admit(Slot),
    /// Keep it: it is in the queue now.
    Hold,
    /// Tell it, and close.
    Refuse(Refusal),
}

/// What is to be done besides: to clients that are held, and to listeners.
#[must_use]
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Start the command for this client, which was held.
    Admit(Ticket, Slot),
    /// Tell this client, which was held, and close.
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
            census: Census { active: 0, per_listener: vec![0; listeners], per_source: Sources::default(), load: 0.0 },
            queue: Queue::new(listeners),
            load_read: None,
            paused: vec![false; listeners],
            postponed: false,
            draining: false,
        }
    }

    /// A client has come and is still there. What else is to be done is appended to `out`, in order, here as below.
    pub fn arrive(&mut self, now: Instant, who: Arrival, out: &mut VecDeque<Action>) -> Verdict {
        let verdict = self.judge(now, who);
        self.settle(now, out);
        verdict
    }

    /// A command has ended, or could not be started: its slot comes back.
    pub fn ended(&mut self, now: Instant, slot: Slot, out: &mut VecDeque<Action>) {
        self.release(slot);
        self.settle(now, out);
    }

    /// A command could not be started and its client is held again, at its old place; nobody is admitted until
    /// [`Gate::try_again`].
    pub fn postponed(&mut self, now: Instant, who: Arrival, slot: Slot, out: &mut VecDeque<Action>) {
        self.release(slot);
        self.postponed = true;
        match self.draining {
            true => out.push_back(Action::Refuse(who.ticket, self.refusal(Reason::Stopping, who.listener))),
            false => self.queue.enter(who),
        }
        self.settle(now, out);
    }

    /// Commands may perhaps be started again.
    pub fn try_again(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.postponed = false;
        self.settle(now, out);
    }

    /// A client that was held has left.
    pub fn left(&mut self, now: Instant, who: &Arrival, out: &mut VecDeque<Action>) {
        self.queue.leave(who.listener, who.ticket);
        self.settle(now, out);
    }

    /// A command of an earlier daemon still runs: it counts, whatever the limits say. Its listener, if known.
    pub fn adopt(
        &mut self,
        now: Instant,
        listener: Option<ListenerId>,
        source: Source,
        out: &mut VecDeque<Action>,
    ) -> Slot {
        let slot = self.charge(listener, source);
        self.settle(now, out);
        slot
    }

    /// The 1-minute load average was read.
    pub fn read_load(&mut self, now: Instant, load: f64, out: &mut VecDeque<Action>) {
        self.census.load = load;
        self.load_read = Some(now);
        self.settle(now, out);
    }

    /// Time has passed: see [`Gate::deadline`].
    pub fn tick(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.settle(now, out);
    }

    /// The daemon is stopping: nothing more is admitted, and nobody waits any longer.
    pub fn drain(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.draining = true;
        for listener in 0..self.paused.len() {
            while let Some(who) = self.queue.head(listener).copied() {
                out.push_back(Action::Refuse(who.ticket, self.refusal(Reason::Stopping, listener)));
                self.queue.leave(listener, who.ticket);
            }
        }
        self.settle(now, out);
    }

    /// Whatever a change leads to.
    fn settle(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.admit_waiting(out);
        self.expire(now, out);
        self.edges(out);
    }

    fn judge(&mut self, now: Instant, who: Arrival) -> Verdict {
        if !self.is_full(who.listener) {
            return Verdict::Admit(self.charge(Some(who.listener), who.source));
        }
        let Hold { max_wait, max_waiting, .. } = self.hold;
        let reason = if self.draining {
            Reason::Stopping
        } else if self.when_full == WhenFull::Refuse {
            // With `refuse` nothing but a limit makes a listener full.
            let limit = self.ask(who.listener);
            debug_assert!(limit.is_some());
            return Verdict::Refuse(limit.unwrap_or(Refusal::count(Reason::TotalLimit, self.census.active, 0)));
        } else if max_wait.is_some_and(|most| who.since + most <= now) {
            Reason::WaitedTooLong
        } else if max_waiting > 0 && self.queue.len() >= max_waiting {
            Reason::QueueFull
        } else {
            self.queue.enter(who);
            return Verdict::Hold;
        };
        Verdict::Refuse(self.refusal(reason, who.listener))
    }

    fn charge(&mut self, listener: Option<ListenerId>, source: Source) -> Slot {
        self.census.active += 1;
        listener.into_iter().for_each(|listener| self.census.per_listener[listener] += 1);
        self.census.per_source.enter(source);
        Slot { listener, source }
    }

    fn release(&mut self, Slot { listener, source }: Slot) {
        self.census.active -= 1;
        listener.into_iter().for_each(|listener| self.census.per_listener[listener] -= 1);
        self.census.per_source.leave(source);
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
                .filter_map(|listener| self.queue.head(listener))
                .filter(|who| !self.is_full(who.listener))
                .min_by_key(|who| who.ticket);
            let Some(&Arrival { ticket, listener, source, .. }) = next else { return };
            self.queue.leave(listener, ticket);
            out.push_back(Action::Admit(ticket, self.charge(Some(listener), source)));
        }
    }

    fn expire(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        let Some(most) = self.hold.max_wait else { return };
        for listener in 0..self.paused.len() {
            while let Some(who) = self.queue.head(listener).filter(|who| who.since + most <= now).copied() {
                out.push_back(Action::Refuse(who.ticket, self.refusal(Reason::WaitedTooLong, listener)));
                self.queue.leave(listener, who.ticket);
            }
        }
    }

    /// Whether [`Gate::read_load`] is due before the next arrival is accepted: a load limit is set, and the last
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
