//! From one daemon to the next: the ledger, and the commands that an earlier daemon has left running.
#![forbid(unsafe_code)]

use super::{Commands, Ended};
use crate::child::adopted::Adopted;
use crate::child::ledger::{Entry, Ledger, Place, SavedState};
use crate::child::proc::uptime;
use crate::child::running::{Told, Why};
use crate::child::survivors::{self, Survivor};
use crate::policy::gate::Slot;
use crate::policy::limit::rule::Outcome;
use crate::poll::Poll;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

impl Commands {
    /// Which commands run, for the next daemon.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Goes on with the ledger of an earlier daemon, if it can be believed.
    pub fn reopen_ledger(&mut self, state: OwnedFd) -> Option<SavedState> {
        let (ledger, past) = Ledger::reopen(state)?;
        self.ledger = ledger;
        Some(past)
    }

    /// Begins a ledger, with room for so many commands; 0 is no limit.
    pub fn begin_ledger(&mut self, commands: usize) {
        self.ledger = Ledger::new(commands);
    }

    /// A recorded command has ended meanwhile.
    pub fn has_ended(&mut self, place: Place) {
        self.ledger.end(Some(place));
    }

    /// Why our own cgroup cannot be seen, if so.
    pub fn blindness(&self) -> Option<&io::Error> {
        self.cgroup.as_ref().err()
    }

    /// What looks like a command of an earlier daemon and is not adopted yet.
    ///
    /// # Errors
    /// If the cgroup's processes cannot be listed.
    pub fn look_for_survivors(&self) -> io::Result<Vec<Survivor>> {
        let known = |pid| self.adopted.get(pid).is_some();
        let Ok(Some(cgroup)) = &self.cgroup else { return Ok(Vec::new()) };
        survivors::commands(cgroup, self.session, known)
    }

    /// Counts a command that an earlier daemon has started among ours. `listener`: the key of its listener; `place`: where its
    /// entry in the ledger is, unless it gets one now.
    pub fn adopt(
        &mut self,
        now: Instant,
        (found, slot): (Survivor, Slot),
        id: Option<u64>,
        listener: Option<u64>,
        place: Option<Place>,
        poll: &Poll,
    ) {
        let Survivor { process, age, source, peer_port, .. } = found;
        let pid = process.pid();
        id.into_iter().for_each(|id| self.go_on_after(id));
        let since = now.checked_sub(age).unwrap_or(now);
        let started = uptime().saturating_sub(age);
        let entry = Entry { id, listener, source, peer_port, not_before: started, not_after: Some(started) };
        let place = place.or_else(|| self.ledger.keep(pid, &entry));
        self.times.begin(pid, since);
        self.adopted.insert(now, Adopted { process, id, slot, peer_port, since, place, told: Told::default() }, poll);
    }

    /// Looks for adopted processes that have ended by now, and whose end is an event.
    pub fn look_for_adopted_ends(&mut self, now: Instant, poll: &Poll) {
        loop {
            let ended = self.adopted.ended(now);
            if ended.is_empty() {
                return;
            }
            ended.into_iter().for_each(|pid| self.adopted_ended(now, pid, poll)); // so that the next look finds others
        }
    }

    fn adopted_ended(&mut self, now: Instant, pid: i32, poll: &Poll) {
        let Some(adopted) = self.adopted.remove(pid, poll) else { return };
        let Adopted { id, slot, since, place, told, peer_port, .. } = adopted;
        self.times.end(pid, since);
        let id = id.unwrap_or(0);
        // A penalty for what an earlier daemon has started would be one for what nobody has seen.
        let was_asked = told.why == Some(Why::Asked);
        let (how, outcome) = (None, if was_asked { Outcome::Stopped } else { Outcome::Unknown });
        let ended = Ended { pid, id, slot, since, waited: None, how, usage: None, exec_errno: None, outcome };
        self.over(now, ended, place, peer_port, told);
    }

    /// When to look at adopted processes whose end is no event.
    pub fn adopted_deadline(&self) -> Option<Instant> {
        self.adopted.deadline()
    }

    /// Looks at them.
    pub fn look_at_adopted(&mut self, now: Instant, poll: &Poll) {
        self.adopted.look(now, poll).into_iter().for_each(|pid| self.adopted_ended(now, pid, poll));
    }
}
