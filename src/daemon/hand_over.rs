//! From one daemon to the next, so that a restart, an upgrade or a crash cuts nobody and the caps stay exact.
//!
//! Commands simply go on (`KillMode=process`). Which of them run is in the ledger at any time, and the manager's store
//! (sd_notify(3), FDSTORE=1) has that from the start on, so nothing is sent to the manager while connections are served. Without a store
//! the next daemon looks for commands in its cgroup. At an orderly hand-over the waiting clients go into the store, too.
#![forbid(unsafe_code)]

use super::run::Daemon;
use super::state;
use crate::child::ledger::{Entry, Ledger, Past, Place, listener_key};
use crate::child::survivors::{self, Found};
use crate::child::watched::Watched;
use crate::child::{Adopted, proc};
use crate::listen::accept::Connection;
use crate::listen::adopt::{self, Stored};
use crate::listen::waiting::Held;
use crate::observe::event::{Event, How};
use crate::observe::report::Ended;
use crate::policy::gate::Arrival;
use crate::poll::Watch;
use nix::sys::epoll::EpollFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How often processes are looked at whose end is no event.
const LOOK: Duration = Duration::from_secs(1);
/// What an earlier daemon has left to this one.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// Clients that were waiting, in their order.
    pub(super) held: Vec<Stored>,
    /// What it wrote down.
    pub(super) state: Option<OwnedFd>,
}

/// Whether the manager may have a store for us. Since systemd 254 it says so (`FDSTORE`, systemd.exec(5)), and such a one is known
/// by another variable that it sets; asked in vain it would complain in the journal at each start.
fn may_have_store() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    is_set("FDSTORE") || !is_set("MEMORY_PRESSURE_WATCH")
}

impl Daemon {
    /// Counts what an earlier daemon has left running, and gives its waiting clients their places again.
    pub(super) fn take_over(&mut self, now: Instant, inheritance: Inheritance) {
        let Inheritance { held, state } = inheritance;
        let past = self.open_ledger(now, state);
        if let Err(error) = &self.cgroup {
            let is_recorded = past.as_ref().is_some_and(|past| past.is_complete);
            self.report.tell(Event::NotFound { error: crate::sys::plain(error), is_recorded });
        }
        let numbers = past.as_ref().map(state::read).unwrap_or_default();
        self.next_id = numbers.next_id;
        self.waiting.go_on_from(numbers.next_ticket);
        let recorded = past.as_ref().map(|past| past.commands.as_slice()).unwrap_or_default();
        let mut running = 0;
        for command in recorded {
            match survivors::recorded(command) {
                Some(found) => {
                    running += 1;
                    self.count(now, found, command.entry.id, command.entry.listener, Some(command.place));
                }
                None => self.ledger.end(Some(command.place)),
            }
        }
        let ended = recorded.len() - running;
        let mut unknown = 0;
        // What was written down is all there is, whatever else looks like a command.
        if past.as_ref().is_none_or(|past| !past.is_complete) {
            for found in self.look_for_survivors() {
                let id = found.mark.as_ref().map(|mark| mark.id);
                let listener = found.mark.as_ref().map(|mark| listener_key(&mark.listener));
                (running, unknown) = (running + 1, unknown + usize::from(id.is_none()));
                self.count(now, found, id, listener, None);
            }
        }
        let waiting = held.len();
        self.report.go_on_from(state::balanced(numbers.counters, running as u64, ended as u64, waiting as u64));
        for Stored { name, ticket, waited_usec, listener, fd } in held {
            // The manager's copy would keep the connection open after the command's end.
            self.notify.forget(now, &name);
            let listener = self.listeners.labelled(|label| listener_key(label) == listener).unwrap_or(0);
            self.waiting.go_on_from(ticket.saturating_add(1));
            match Connection::restored(fd, listener, waited_usec) {
                Ok(connection) => {
                    let (source, since) = (connection.peer.source(), connection.since(now));
                    self.judge(now, Arrival { ticket, listener, source, since }, connection);
                }
                Err(_) => self.report.gone(1),
            }
        }
        self.carry_out(now);
        if running + waiting > 0 {
            self.report.tell(Event::TakenOver { running, unknown, waiting });
        }
    }

    /// Goes on with the ledger of an earlier daemon, if it has left one that can be believed, or begins another.
    fn open_ledger(&mut self, now: Instant, state: Option<OwnedFd>) -> Option<Past> {
        let was_stored = state.is_some();
        if let Some((ledger, past)) = state.and_then(Ledger::reopen) {
            (self.ledger, self.is_stored) = (ledger, Some(true));
            state::name(&self.ledger);
            return Some(past);
        }
        if was_stored {
            self.notify.forget(now, adopt::STATE);
        }
        if self.notify.is_enabled() && may_have_store() {
            self.ledger = Ledger::new(self.settings.max_connections as usize);
            state::name(&self.ledger);
            self.is_stored = Some(false);
            let _ = self.store_ledger(now); // tried again until it is there
        }
        None
    }

    /// Has the manager store the ledger, if it has not yet. Waits for the manager, but not beyond `until`.
    pub(super) fn store_ledger(&mut self, until: Instant) -> io::Result<()> {
        if self.is_stored == Some(false) {
            self.notify.store(adopt::STATE, self.ledger.fd()?, until)?;
            self.is_stored = Some(true);
        }
        Ok(())
    }

    /// What looks like a command of an earlier daemon and has no entry in the ledger.
    fn look_for_survivors(&mut self) -> Vec<Found> {
        let known = |pid| self.adopted.contains_key(&pid);
        let session = self.settings.session;
        let Ok(Some(cgroup)) = &self.cgroup else { return Vec::new() };
        survivors::commands(cgroup, session, known).unwrap_or_else(|error| {
            self.report.tell(Event::NotFound { error: crate::sys::plain(&error), is_recorded: false });
            Vec::new()
        })
    }

    /// Counts a command that an earlier daemon has started.
    fn count(&mut self, now: Instant, found: Found, id: Option<u64>, key: Option<u64>, place: Option<Place>) {
        let Found { process, age, source, .. } = found;
        self.next_id = self.next_id.max(id.unwrap_or(0).saturating_add(1));
        let listener = self.listeners.labelled(|label| Some(listener_key(label)) == key);
        let slot = self.gate.adopt(now, listener, source, &mut self.actions);
        let since = now.checked_sub(age).unwrap_or(now);
        let started = proc::uptime().saturating_sub(age);
        let entry = Entry { id, listener: key, source, not_before: started, not_after: Some(started) };
        let place = place.or_else(|| self.ledger.keep(process.pid(), &entry));
        self.adopt(now, Adopted { process, in_poll_set: false, id, slot, since, place });
    }

    /// Watches a process that is not our child.
    pub(super) fn adopt(&mut self, now: Instant, mut adopted: Adopted) {
        let pid = adopted.process.pid();
        adopted.in_poll_set = self.watch_end(&adopted.process);
        if !adopted.in_poll_set {
            self.look_at.get_or_insert(now + LOOK);
        }
        self.watch_time(pid, adopted.since);
        self.adopted.insert(pid, adopted);
    }

    /// Whether its end will be an event: neither is sure, a pidfd or a place in the poll set.
    fn watch_end(&self, process: &Watched) -> bool {
        let watch = Watch::Adopted(process.pid());
        process.pidfd().is_some_and(|pidfd| self.poll.add(pidfd, watch, EpollFlags::EPOLLIN).is_ok())
    }

    /// Looks at the adopted processes whose end is no event, and tries again to make it one.
    pub(super) fn look_at_adopted(&mut self, now: Instant) {
        self.look_at = None;
        let all = self.adopted.iter().filter(|(_, adopted)| !adopted.in_poll_set).map(|(pid, _)| *pid);
        for pid in all.collect::<Vec<_>>() {
            let Some(mut adopted) = self.adopted.remove(&pid) else { continue };
            let has_ended = adopted.process.has_ended();
            if !has_ended && (adopted.process.pidfd().is_some() || adopted.process.try_pidfd()) {
                adopted.in_poll_set = self.watch_end(&adopted.process);
            }
            if !adopted.in_poll_set {
                self.look_at = Some(now + LOOK);
            }
            self.adopted.insert(pid, adopted);
            if has_ended {
                self.adopted_ended(now, pid);
            }
        }
    }

    /// An adopted process has ended.
    pub(super) fn adopted_ended(&mut self, now: Instant, pid: i32) {
        let Some(adopted) = self.adopted.remove(&pid) else { return };
        if let Some(pidfd) = adopted.process.pidfd().filter(|_| adopted.in_poll_set) {
            let _ = self.poll.delete(pidfd);
        }
        self.unwatch_time(pid, adopted.since);
        self.ledger.end(adopted.place);
        self.gate.ended(now, adopted.slot, &mut self.actions);
        let (id, after) = (adopted.id.unwrap_or(0), now - adopted.since);
        self.report.ended(Ended { id, pid, how: How::Unknown, after, waited: None, usage: None });
    }

    /// Whether the manager will start another daemon with what this one leaves: it has to be the one that passed all sockets.
    pub(super) fn can_hand_over(&self) -> bool {
        self.notify.is_enabled() && self.listeners.iter().all(|listener| !listener.is_own)
    }

    /// Leaves everything to the next daemon, as far as the manager takes it by then. Returns how many clients wait there.
    pub(super) fn leave_behind(&mut self, now: Instant, until: Instant) -> usize {
        self.reap_all(now);
        self.carry_out(now);
        state::note(&self.ledger, self.next_id, self.waiting.next_ticket(), self.report.counters());
        let held = self.waiting.take_all();
        // Without the ledger the next daemon still serves who waits, and counts from there.
        let mut trouble = self.store_ledger(until).err();
        let mut lost = 0;
        for Held { who, connection } in &held {
            let waited = now.saturating_duration_since(who.since).as_micros();
            let listener = listener_key(&self.listeners[who.listener].label);
            let name = format!("{}{}-{waited}-{listener}", adopt::HELD, who.ticket);
            if let Err(error) = self.notify.store(&name, connection.fd.as_fd(), until) {
                lost += 1;
                trouble.get_or_insert(error);
            }
        }
        if let Some(error) = trouble {
            self.report.tell(Event::NotStored { waiting: lost, error: crate::sys::plain(&error) });
        }
        held.len() - lost
    }
}
