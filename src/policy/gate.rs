//! The gate: what happened in, a verdict or actions out; the same events always give the same answers.
//!
//! * never more running than any limit allows;
//! * with `refuse`, each arrival gets exactly one of [`Verdict::Admit`] and [`Verdict::Refuse`];
//! * with `wait`, a listener whose next arrival could neither be admitted nor held is paused, so that the
//!   kernel's queue is the queue; only the edge from full to not full resumes it;
//! * the held are admitted first come first served, never a free slot with somebody waiting, and each ends as
//!   admitted, refused or gone.
#![forbid(unsafe_code)]

mod terms;

pub use super::arrival::Arrival;
pub use terms::{Action, Hold, Slot, Verdict, WhenFull};

use super::arrival::ListenerId;
use super::grounds::{Figures, Grounds};
use super::limit::LIMITS;
use super::limit::rule::{Census, Gauge, Limit, No, Reading, Rules, Until, Who};
use super::queue::Queue;
use super::reason::{Reason, Refusal};
use super::source::{Source, Sources};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a reading stays good: the kernel itself renews its load average every 5 s, and a client that waits
/// for it to fall should not wait much longer than that.
pub const READING_INTERVAL: Duration = Duration::from_secs(1);

/// Decides, and keeps the only count that decisions are made from.
#[derive(Debug)]
pub struct Gate {
    limits: Vec<(Reason, Box<dyn Limit>)>,
    /// What the limits depend on, and when it was read last.
    gauges: Vec<(Gauge, Option<Instant>)>,
    when_full: WhenFull,
    hold: Hold,
    census: Census,
    queue: Queue,
    /// When a limit may say yes to somebody who waits, as far as that is a matter of time.
    next_yes: Option<Instant>,
    paused: Vec<bool>,
    postponed: bool,
    draining: bool,
}

impl Gate {
    /// A gate over `listeners` listeners, all open. `rules.max_per_listener` has one entry per listener; `hold`
    /// means nothing with [`WhenFull::Refuse`].
    pub fn new(rules: &Rules, when_full: WhenFull, hold: Hold, listeners: usize) -> Self {
        debug_assert_eq!(rules.max_per_listener.len(), listeners);
        let kinds = Reason::ALL.into_iter().zip(&LIMITS);
        let limits = kinds.filter_map(|(reason, kind)| Some((reason, kind.build(rules)?))).collect();
        Self::with_limits(limits, when_full, hold, listeners)
    }

    fn with_limits(limits: Vec<(Reason, Box<dyn Limit>)>, when_full: WhenFull, hold: Hold, listeners: usize) -> Self {
        let mut gauges = Vec::new();
        for gauge in limits.iter().filter_map(|(_, limit)| limit.gauge()) {
            if !gauges.contains(&(gauge, None)) {
                gauges.push((gauge, None));
            }
        }
        Gate {
            limits,
            gauges,
            when_full,
            hold,
            census: Census { active: 0, per_listener: vec![0; listeners], per_source: Sources::default() },
            queue: Queue::new(listeners),
            next_yes: None,
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
            true => out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::STOPPING, &who))),
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
        let slot = self.count(listener, source);
        self.settle(now, out);
        slot
    }

    /// A gauge was read: see [`Gate::due_gauge`].
    pub fn read(&mut self, now: Instant, reading: Reading, out: &mut VecDeque<Action>) {
        self.limits.iter_mut().for_each(|(_, limit)| limit.read(now, reading));
        self.gauges.iter_mut().filter(|(gauge, _)| *gauge == reading.gauge()).for_each(|(_, at)| *at = Some(now));
        self.settle(now, out);
    }

    /// Time has passed: see [`Gate::deadline`]. Only here is anybody refused who is held and has waited too long: whoever calls it has
    /// looked for slots that came free, and has given back each of them.
    pub fn tick(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.admit_waiting(now, out);
        while self.expire(now, out) {
            self.admit_waiting(now, out);
        }
        self.settle(now, out);
    }

    /// The daemon is stopping: nothing more is admitted, and nobody waits any longer.
    pub fn drain(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.draining = true;
        for listener in 0..self.paused.len() {
            while let Some(who) = self.queue.head(listener).copied() {
                out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::STOPPING, &who)));
                self.queue.leave(listener, who.ticket);
            }
        }
        self.settle(now, out);
    }

    /// Whatever a change leads to.
    fn settle(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.admit_waiting(now, out);
        self.edges(now, out);
        self.next_yes = self.next_yes(now);
    }

    fn judge(&mut self, now: Instant, who: Arrival) -> Verdict {
        let no = match self.ask(now, Who::Client(&who)) {
            Ok(()) if !self.is_closed() => return Verdict::Admit(self.charge(now, &who)),
            asked => asked.err(),
        };
        let Hold { max_wait, max_waiting, .. } = self.hold;
        let reason = if self.draining {
            Reason::STOPPING
        } else if self.when_full == WhenFull::Refuse {
            no.map_or(Reason::START_FAILED, |(reason, _)| reason)
        } else if max_wait.is_some_and(|max| who.since + max <= now) {
            Reason::WAITED_TOO_LONG
        } else if max_waiting > 0 && self.queue.len() >= max_waiting {
            Reason::QUEUE_FULL
        } else {
            self.queue.enter(who);
            return Verdict::Hold;
        };
        Verdict::Refuse(self.refusal(now, reason, &who, no))
    }

    /// Whether nobody is admitted, whatever the limits say.
    fn is_closed(&self) -> bool {
        self.postponed || self.draining
    }

    fn charge(&mut self, now: Instant, who: &Arrival) -> Slot {
        self.limits.iter_mut().for_each(|(_, limit)| limit.charge(now, who));
        self.count(Some(who.listener), who.source)
    }

    fn count(&mut self, listener: Option<ListenerId>, source: Source) -> Slot {
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

    /// A refusal with the figures of the limit that holds, if one does, whose own reason it may be or not.
    fn refusal(&self, now: Instant, reason: Reason, who: &Arrival, no: Option<(Reason, No)>) -> Refusal {
        let retry = match no.map(|(_, no)| no.until) {
            Some(Until::Then(at)) => Some(at.saturating_duration_since(now)),
            _ => None,
        };
        let figures = no.map_or(Figures::Count { active: self.census.active, max: 0 }, |(_, no)| no.figures);
        let waited = now.saturating_duration_since(who.since);
        Refusal { reason, grounds: Grounds { figures, waiting: self.queue.len(), waited }, retry }
    }

    fn refusal_of(&self, now: Instant, reason: Reason, who: &Arrival) -> Refusal {
        self.refusal(now, reason, who, self.ask(now, Who::Client(who)).err())
    }

    /// The longest waiting of those who may, one after the other.
    fn admit_waiting(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        while !self.queue.is_empty() && !self.is_closed() {
            let next = (0..self.paused.len())
                .filter_map(|listener| self.queue.head(listener))
                .filter(|who| self.ask(now, Who::Client(who)).is_ok())
                .min_by_key(|who| who.ticket);
            let Some(who) = next.copied() else { return };
            self.queue.leave(who.listener, who.ticket);
            let slot = self.charge(now, &who);
            out.push_back(Action::Admit(who.ticket, slot));
        }
    }

    /// Refuses one who has waited too long; whether there was one. A free slot comes before the clock, so who comes after it in
    /// the line is asked about first.
    fn expire(&mut self, now: Instant, out: &mut VecDeque<Action>) -> bool {
        let Some(max_wait) = self.hold.max_wait else { return false };
        let is_late = |who: &&Arrival| who.since + max_wait <= now;
        let heads = (0..self.paused.len()).filter_map(|listener| self.queue.head(listener));
        let Some(who) = heads.filter(is_late).min_by_key(|who| who.ticket).copied() else { return false };
        out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::WAITED_TOO_LONG, &who)));
        self.queue.leave(who.listener, who.ticket)
    }

    /// What is to be read before the next arrival is accepted, and told to [`Gate::read`]: a limit depends on it, and the
    /// last reading is old. Also with nothing running: what is admitted then decides about the next by it.
    pub fn due_gauge(&self, now: Instant) -> Option<Gauge> {
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at + READING_INTERVAL <= now);
        self.gauges.iter().find(|(_, at)| is_due(*at)).map(|(gauge, _)| *gauge)
    }

    /// When to wake even though nothing happened: when somebody has waited too long, or a limit lets somebody in. While
    /// somebody waits, gauges are read again, since no command's end may come for long.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.is_anybody_waiting() && self.census.active > 0 && !self.draining;
        let read = self.gauges.iter().filter_map(|(_, at)| *at).min().filter(|_| waits).map(|at| at + READING_INTERVAL);
        let patience = self.hold.max_wait.and_then(|max_wait| Some(self.queue.longest()? + max_wait));
        [read, patience, self.next_yes].into_iter().flatten().min()
    }

    /// The first time that a limit gave to somebody who waits, held or behind a paused listener.
    fn next_yes(&self, now: Instant) -> Option<Instant> {
        if self.is_closed() || !self.is_anybody_waiting() {
            return None;
        }
        let held = (0..self.paused.len()).filter_map(|listener| self.queue.head(listener)).map(Who::Client);
        let queued = (0..self.paused.len()).filter(|listener| self.paused[*listener]).map(Who::Anybody);
        let time = |who| match self.ask(now, who) {
            Err((_, No { until: Until::Then(at), .. })) => Some(at),
            _ => None,
        };
        held.chain(queued).filter_map(time).min()
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

    /// Whether nobody at all who arrives at this listener could be admitted now.
    pub fn is_full_for_anybody(&self, now: Instant, listener: ListenerId) -> bool {
        self.is_closed() || self.ask(now, Who::Anybody(listener)).is_err()
    }

    /// All limits, in order; the first "no" and its reason.
    fn ask(&self, now: Instant, who: Who) -> Result<(), (Reason, No)> {
        self.limits.iter().try_for_each(|(reason, limit)| limit.ask(now, &self.census, who).map_err(|no| (*reason, no)))
    }

    fn edges(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        let Hold { max_waiting, capacity, .. } = self.hold;
        // If --max-waiting can be reached, keep accepting: the next arrival is refused, not left in the kernel's queue.
        let has_place = self.queue.len() < capacity || (max_waiting > 0 && max_waiting <= capacity);
        for listener in 0..self.paused.len() {
            let full = self.when_full == WhenFull::Wait && !has_place && self.is_full_for_anybody(now, listener);
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
