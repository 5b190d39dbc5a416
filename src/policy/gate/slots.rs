//! How slots come back: with a command's end, or because it was not started, which is no start for a rate either.
#![forbid(unsafe_code)]

use super::{Action, Arrival, Ending, Gate, Reason, Slot, Stage};
use std::collections::VecDeque;
use std::time::Instant;

impl Gate {
    /// A command has ended: its slot comes back.
    pub fn ended(&mut self, now: Instant, slot: Slot, ending: Ending, out: &mut VecDeque<Action>) {
        let Slot { source, is_exempt, .. } = slot;
        if !is_exempt {
            self.limits.ended(now, source, ending);
        }
        self.release(slot);
        self.census.leave(source);
        self.settle(now, out);
    }

    /// No process was spent on a client, which has gone or is refused for what it has sent: its slot comes back.
    pub fn not_started(&mut self, now: Instant, slot: Slot, out: &mut VecDeque<Action>) {
        let source = slot.source;
        self.take_back(now, slot);
        self.census.leave(source);
        self.settle(now, out);
    }

    /// No process could be had for a client, which is refused by no fault of its own: its slot comes back.
    pub fn start_failed(&mut self, now: Instant, slot: Slot, out: &mut VecDeque<Action>) {
        self.limits.refund(now, Stage::Entry, slot.source, slot.is_exempt);
        self.not_started(now, slot, out);
    }

    /// A command could not be started and its client is held again, at its old place; nobody is admitted until
    /// [`Gate::try_again`].
    pub fn postponed(&mut self, now: Instant, who: Arrival, slot: Slot, out: &mut VecDeque<Action>) {
        self.take_back(now, slot);
        self.postponed = true;
        match self.draining {
            true => {
                out.push_back(Action::Refuse(who.ticket, self.refusal_of(now, Reason::STOPPING, &who)));
                self.census.leave(who.source);
            }
            false => self.queue.enter(who),
        }
        self.settle(now, out);
    }

    /// A slot in which nothing was started.
    fn take_back(&mut self, now: Instant, slot: Slot) {
        self.limits.refund(now, Stage::Start, slot.source, slot.is_exempt);
        self.release(slot);
    }
}
