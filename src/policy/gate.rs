//! The gate: what happened in, a verdict or actions out; the same events always give the same answers.
//!
//! * never more running than any limit allows, and never more here of one source;
//! * with `refuse`, each arrival gets exactly one of [`Verdict::Admit`] and [`Verdict::Refuse`];
//! * with `wait`, a listener whose next arrival could neither be admitted nor held is paused, so that the
//!   kernel's queue is the queue; only the edge from full to not full resumes it;
//! * the held are admitted in the order of their [`Queue`], never a free slot with somebody waiting, and each ends as
//!   admitted, refused or gone.
#![forbid(unsafe_code)]

mod limits;
pub mod live;
mod slots;
mod terms;

pub use super::arrival::Arrival;
pub use limits::{Limits, READING_INTERVAL};
pub use terms::{Action, Hold, Slot, Verdict, WhenFull};

use super::arrival::ListenerId;
use super::grounds::{Figures, Grounds};
use super::limit::rule::{Census, Ending, No, Present, Reading, Rules, Stage, Until, Who};
use super::queue::Queue;
use super::reason::{Reason, Refusal};
use super::source::{Source, Sources};
use std::collections::VecDeque;
use std::time::Instant;

/// Decides, and keeps the only count that decisions are made from.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
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
        let census = Census {
            active: 0,
            per_listener: vec![0; listeners],
            per_source: Sources::default(),
            present: rules.max_per_source.iter().map(|(_, prefixes)| Present::new(*prefixes)).collect(),
        };
        Self::with_limits(Limits::new(rules), census, when_full, hold)
    }

    fn with_limits(limits: Limits, census: Census, when_full: WhenFull, hold: Hold) -> Self {
        let listeners = census.per_listener.len();
        Gate {
            limits,
            when_full,
            hold,
            census,
            queue: Queue::new(listeners, hold.order),
            next_yes: None,
            paused: vec![false; listeners],
            postponed: false,
            draining: false,
        }
    }

    /// A client has come and is still there. What else is to be done is appended to `out`, in order, here as below.
    pub fn arrive(&mut self, now: Instant, who: Arrival, out: &mut VecDeque<Action>) -> Verdict {
        let no = self.ask(now, Stage::Entry, Who::Client(&who), false).err();
        self.judge(now, who, no, Stage::Entry, out)
    }

    /// A client has come back that had entered with an earlier daemon: it goes on waiting for its start.
    pub fn come_back(&mut self, now: Instant, who: Arrival, out: &mut VecDeque<Action>) -> Verdict {
        self.judge(now, who, None, Stage::Start, out)
    }

    /// Whether this client would be admitted now; else why not, and whether it may wait for it.
    ///
    /// # Errors
    /// The stage at which it is told no.
    pub fn may(&self, now: Instant, who: &Arrival) -> Result<(), Stage> {
        self.ask(now, Stage::Entry, Who::Client(who), false).map_err(|_| Stage::Entry)?;
        let start = self.may_start(now, Who::Client(who)).map_err(|_| Stage::Start);
        if self.is_closed() { Err(Stage::Start) } else { start }
    }

    /// What `--dry-run` would say to this client: the first "no" of a limit that only judges. Ask before it arrives.
    pub fn would_refuse(&self, now: Instant, who: &Arrival) -> Option<(Stage, Refusal)> {
        [Stage::Entry, Stage::Start].into_iter().find_map(|stage| {
            let (reason, no) = self.ask(now, stage, Who::Client(who), true).err()?;
            Some((stage, self.refusal(now, reason, who, Some((reason, no)))))
        })
    }

    /// Commands may perhaps be started again.
    pub fn try_again(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.postponed = false;
        self.settle(now, out);
    }

    /// A client that was held has left.
    pub fn left(&mut self, now: Instant, who: &Arrival, out: &mut VecDeque<Action>) {
        if self.queue.leave(who) {
            self.census.leave(who.source);
        }
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
        self.census.enter(source);
        let slot = self.count(listener, source, self.limits.is_exempt(source));
        self.settle(now, out);
        slot
    }

    /// A gauge was read: see [`Limits::due_gauge`].
    pub fn read(&mut self, now: Instant, reading: Reading, out: &mut VecDeque<Action>) {
        self.limits.read(now, reading);
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
        loop {
            let Some(who) = self.queue.oldest().next().copied() else { break };
            out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::STOPPING, &who)));
            self.dismiss(now, &who);
        }
        self.settle(now, out);
    }

    /// Whatever a change leads to.
    fn settle(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        self.admit_waiting(now, out);
        self.edges(now, out);
        self.next_yes = self.next_yes(now);
        out.extend(self.limits.take_untracked().map(|(reason, clients)| Action::Untracked(reason, clients)));
    }

    fn judge(
        &mut self,
        now: Instant,
        who: Arrival,
        entry: Option<(Reason, No)>,
        from: Stage,
        out: &mut VecDeque<Action>,
    ) -> Verdict {
        let start = self.may_start(now, Who::Client(&who)).err();
        let verdict = match self.why_refused(now, &who, entry, start) {
            Some(reason) => Verdict::Refuse(self.refusal(now, reason, &who, entry.or(start))),
            None => {
                if from == Stage::Entry {
                    self.limits.charge(now, &self.census, Stage::Entry, &who);
                }
                self.census.enter(who.source);
                match start.is_none() && !self.is_closed() {
                    true => Verdict::Admit(self.charge(now, &who)),
                    false => {
                        self.queue.enter(who);
                        Verdict::Hold
                    }
                }
            }
        };
        self.settle(now, out);
        verdict
    }

    /// Why a client is neither admitted nor held, if it is not, given what the limits say.
    fn why_refused(
        &self,
        now: Instant,
        who: &Arrival,
        entry: Option<(Reason, No)>,
        start: Option<(Reason, No)>,
    ) -> Option<Reason> {
        let Hold { max_wait, max_waiting, capacity, .. } = self.hold;
        let waiting = self.queue.len();
        if self.draining {
            Some(Reason::STOPPING)
        } else if entry.is_some() {
            entry.map(|(reason, _)| reason)
        } else if start.is_none() && !self.postponed {
            None
        } else if self.when_full == WhenFull::Refuse {
            Some(start.map_or(Reason::START_FAILED, |(reason, _)| reason))
        } else if max_wait.is_some_and(|max| who.since + max <= now) {
            Some(Reason::WAITED_TOO_LONG)
        } else {
            let is_full = max_waiting > 0 && waiting >= max_waiting;
            // It cannot be left in the kernel's queue while others of its listener may come in.
            let has_no_place = || waiting >= capacity && !self.is_full_for_anybody(now, who.listener);
            (is_full || has_no_place()).then_some(Reason::QUEUE_FULL)
        }
    }

    /// Whether nobody is admitted, whatever the limits say.
    fn is_closed(&self) -> bool {
        self.postponed || self.draining
    }

    /// A client that was held is refused, by no fault of its own.
    fn dismiss(&mut self, now: Instant, who: &Arrival) -> bool {
        let was_here = self.queue.leave(who);
        if was_here {
            self.limits.refund(now, Stage::Entry, who.source, who.is_exempt);
            self.census.leave(who.source);
        }
        was_here
    }

    fn charge(&mut self, now: Instant, who: &Arrival) -> Slot {
        self.limits.charge(now, &self.census, Stage::Start, who);
        self.count(Some(who.listener), who.source, who.is_exempt)
    }

    fn count(&mut self, listener: Option<ListenerId>, source: Source, is_exempt: bool) -> Slot {
        self.census.begin(listener, source);
        self.queue.started(source);
        Slot { listener, source, is_exempt }
    }

    fn release(&mut self, Slot { listener, source, .. }: Slot) {
        self.census.end(listener, source);
        self.queue.ended(source);
    }

    /// A refusal with the figures of the limit that holds, if one does, whose own reason it may be or not.
    fn refusal(&self, now: Instant, reason: Reason, who: &Arrival, no: Option<(Reason, No)>) -> Refusal {
        let retry = no.and_then(|(_, no)| no.retry(now));
        let figures = no.map_or(Figures::Count { active: self.census.active, max: 0 }, |(_, no)| no.figures);
        let waited = now.saturating_duration_since(who.since);
        Refusal { reason, grounds: Grounds { figures, waiting: self.queue.len(), waited }, retry }
    }

    fn refusal_of(&self, now: Instant, reason: Reason, who: &Arrival) -> Refusal {
        self.refusal(now, reason, who, self.may_start(now, Who::Client(who)).err())
    }

    /// Who is next of those who may, one after the other.
    fn admit_waiting(&mut self, now: Instant, out: &mut VecDeque<Action>) {
        while !self.queue.is_empty() && !self.is_closed() {
            let may = self.queue.heads().filter(|who| self.may_start(now, Who::Client(who)).is_ok());
            let Some(who) = may.min_by_key(|who| self.queue.rank(who)).copied() else { return };
            self.queue.admit(&who);
            let slot = self.charge(now, &who);
            out.push_back(Action::Admit(who.ticket, slot));
        }
    }

    /// Refuses one who has waited too long; whether there was one. A free slot comes before the clock, so who comes after it in
    /// the line is asked about first.
    fn expire(&mut self, now: Instant, out: &mut VecDeque<Action>) -> bool {
        let Some(max_wait) = self.hold.max_wait else { return false };
        let is_late = |who: &&Arrival| who.since + max_wait <= now;
        let late = self.queue.oldest().filter(is_late);
        let Some(who) = late.min_by_key(|who| who.ticket).copied() else { return false };
        out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::WAITED_TOO_LONG, &who)));
        self.dismiss(now, &who)
    }

    /// When to wake even though nothing happened: when somebody has waited too long, or a limit lets somebody in. While
    /// somebody waits, gauges are read again, since no command's end may come for long.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.is_anybody_waiting() && self.census.active > 0 && !self.draining;
        let read = self.limits.next_reading().filter(|_| waits);
        let patience = self.hold.max_wait.and_then(|max_wait| Some(self.queue.longest()? + max_wait));
        [read, patience, self.next_yes].into_iter().flatten().min()
    }

    /// The first time that a limit gave to somebody who waits, held or behind a paused listener.
    fn next_yes(&self, now: Instant) -> Option<Instant> {
        if self.is_closed() || !self.is_anybody_waiting() {
            return None;
        }
        let held = self.queue.heads().map(Who::Client);
        let queued = (0..self.paused.len()).filter(|listener| self.paused[*listener]).map(Who::Anybody);
        let time = |who| match self.may_start(now, who) {
            Err((_, No { until: Until::Then(at), .. })) => Some(at),
            _ => None,
        };
        held.chain(queued).filter_map(time).min()
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
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
        self.is_closed() || self.may_start(now, Who::Anybody(listener)).is_err()
    }

    fn may_start(&self, now: Instant, who: Who) -> Result<(), (Reason, No)> {
        self.ask(now, Stage::Start, who, false)
    }

    fn ask(&self, now: Instant, stage: Stage, who: Who, is_dry: bool) -> Result<(), (Reason, No)> {
        self.limits.ask(now, &self.census, stage, who, is_dry)
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
