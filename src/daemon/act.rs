//! What happens to one connection: start, refusal, end. One function per step.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::child::ledger::{Entry, listener_key};
use crate::child::proc::uptime;
use crate::child::running::Child;
use crate::child::{Facts, program, victim};
use crate::listen::accept::{self, Connection, tcp_wait};
use crate::observe::event::{Event, How};
use crate::observe::report::{Client, Ended, Figures};
use crate::peer::Peer;
use crate::policy::back_off::Over;
use crate::policy::gate::{Action, Arrival, Slot, Verdict, WhenFull};
use crate::policy::queue::Ticket;
use crate::policy::reason::{Reason, Refusal};
use crate::sys::client_fd::ClientFd;
use crate::sys::process::{Exit, Usage, reap, take_end};
use crate::sys::{exec, plain, socket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Exit code of a child whose exec failed; a report tells why.
const EXEC_FAILED: i32 = 127;
/// See [`Daemon::child_ended`].
const WALK_SHARE: usize = 16;

impl Daemon {
    /// A client has come: admit, hold or refuse it. `true` if no process was spent on it.
    pub(super) fn arrive(&mut self, now: Instant, mut connection: Connection) -> bool {
        let listener = connection.listener;
        if self.gate.is_full_for_anybody(now, listener) {
            // A command that ended before this client came must not count against it.
            self.look_for_ends(now);
            self.carry_out(now);
        }
        let is_refused = self.settings.when_full == WhenFull::Refuse && self.gate.is_full_for_anybody(now, listener);
        if !is_refused && connection.is_gone() {
            self.report.gone(1);
            return true;
        }
        let (ticket, source, since) = (self.waiting.ticket(), connection.peer.source(), connection.since(now));
        let is_started = self.judge(now, Arrival { ticket, listener, source, since }, connection);
        self.carry_out(now);
        // Apparently full now. Sweep once: an exit whose SIGCHLD was coalesced would leave a client waiting for ever.
        if self.unhealed.is_some() && self.gate.is_anybody_waiting() {
            self.reap_all(now);
            self.carry_out(now);
        }
        !is_started
    }

    /// Does with a client what the gate says. `true` if its command was started.
    pub(super) fn judge(&mut self, now: Instant, who: Arrival, connection: Connection) -> bool {
        match self.gate.arrive(now, who, &mut self.actions) {
            Verdict::Admit(slot) => self.start(now, who, connection, slot),
            Verdict::Hold => {
                self.waiting.hold(who, connection, &self.poll);
                false
            }
            Verdict::Refuse(refusal) => {
                self.refuse(now, connection, refusal);
                false
            }
        }
    }

    /// Carries out all that the gate wants, and what that leads to. Nothing that is called from here calls it again.
    pub(super) fn carry_out(&mut self, now: Instant) {
        while let Some(action) = self.actions.pop_front() {
            match action {
                Action::Admit(ticket, slot) => self.admit(now, ticket, slot),
                Action::Refuse(ticket, refusal) => {
                    if let Some(held) = self.waiting.take(ticket, &self.poll) {
                        self.refuse(now, held.into_connection(now), refusal);
                    }
                }
                Action::Pause(id) => self.listeners.set_full(now, id, true, &self.poll),
                Action::Resume(id) => self.listeners.set_full(now, id, false, &self.poll),
            }
        }
        self.tell_news();
    }

    /// A client that is held may have left.
    pub(super) fn held_changed(&mut self, now: Instant, ticket: Ticket) {
        if let Some(held) = self.waiting.has_left(ticket, &self.poll) {
            self.report.gone(1);
            self.gate.left(now, &held.who, &mut self.actions);
        }
    }

    fn admit(&mut self, now: Instant, ticket: Ticket, slot: Slot) {
        let Some(mut held) = self.waiting.take(ticket, &self.poll) else {
            return self.gate.ended(now, slot, &mut self.actions);
        };
        let who = held.who;
        if held.connection.is_gone() {
            self.report.gone(1);
            return self.gate.ended(now, slot, &mut self.actions);
        }
        self.start(now, who, held.into_connection(now), slot);
    }

    /// `true` if a process was spent.
    fn start(&mut self, now: Instant, who: Arrival, connection: Connection, slot: Slot) -> bool {
        if self.starting.is_pausing() {
            // Who came before it could not be started in this turn: it must not overtake.
            self.postpone(now, who, connection, slot);
            return false;
        }
        let from = &self.listeners[connection.listener];
        let own_address = match from.is_wildcard {
            true => socket::local_address(connection.fd.as_fd()).ok(),
            false => None,
        };
        let facts = Facts {
            id: self.next_id,
            listener: &from.name,
            label: &from.label,
            peer: &connection.peer,
            local: own_address.as_ref().unwrap_or(&from.local),
            cookie: socket::cookie(connection.fd.as_fd()).ok(),
            of_source: self.gate.census().per_source.count(who.source),
        };
        let entry = Entry {
            id: Some(self.next_id),
            listener: Some(listener_key(&from.label)),
            source: who.source,
            not_before: uptime(),
            not_after: None,
        };
        let place = self.ledger.begin(&entry);
        let pid_place = place.and_then(|place| self.ledger.pid(place));
        let started = self.spawner.begin().and_then(|mut words| {
            self.template.fill(&facts, &mut words);
            self.entries.fill(connection.listener, &facts, &mut words);
            words.spawn(&connection.fd, pid_place)
        });
        let (pid, launch) = match started {
            Ok(started) => started,
            Err(error) => {
                self.ledger.end(place);
                if self.settings.when_full == WhenFull::Wait {
                    self.start_failed(now, "wait", || plain(&error));
                    // Clients are still accepted as far as there is room for them, so that each is told in time.
                    self.starting.pause(now);
                    self.postpone(now, who, connection, slot);
                } else {
                    self.start_failed(now, "are refused", || plain(&error));
                    self.gate.ended(now, slot, &mut self.actions);
                    let refusal = Refusal::count(Reason::START_FAILED, self.gate.census().active, 0);
                    self.reject(now, &connection, refusal);
                    self.refusals.unavailable(now, connection.fd, &self.poll);
                    let _ = self.listeners.pause(now, &self.poll);
                }
                return false;
            }
        };
        if let Some(place) = place {
            self.ledger.started(place, uptime());
        }
        let Connection { fd, peer, waited_usec, .. } = connection;
        self.spawner.leave(launch, fd);
        let id = self.next_id;
        self.next_id += 1;
        self.starting.succeeded();
        self.watch_time(pid, now);
        let waited_ms = waited_usec.map(|usec| (usec / 1000).min(u32::MAX.into()) as u32);
        self.children.insert(Child { pid, id, slot, since: now, waited_ms, launch, place, exec_errno: None });
        let client = Client { listener: &self.listeners[who.listener].name, peer: &peer, waited_usec };
        self.report.serving(id, pid, client, (self.gate.census().active, self.settings.max_connections));
        true
    }

    /// Gives the slot back and keeps the client, at its old place.
    fn postpone(&mut self, now: Instant, who: Arrival, connection: Connection, slot: Slot) {
        self.waiting.hold(who, connection, &self.poll);
        self.gate.postponed(now, who, slot, &mut self.actions);
    }

    fn refuse(&mut self, now: Instant, connection: Connection, refusal: Refusal) {
        self.reject(now, &connection, refusal);
        self.refusals.busy(now, connection.fd, &refusal, &self.poll);
    }

    /// Counts a refusal, and tells it unless too many are told already.
    fn reject(&mut self, now: Instant, connection: &Connection, refusal: Refusal) {
        let from = &self.listeners[connection.listener];
        let Connection { fd, peer, waited_usec, .. } = connection;
        let client = Client { listener: &from.name, peer, waited_usec: *waited_usec };
        self.report.refused(now, refusal, client, || Figures {
            waited_usec: waited_usec.or_else(|| tcp_wait(fd).map(|(usec, _)| usec)),
            queued: from.queued(),
        });
    }

    /// The summaries that are due; what the log does not take goes into the next one.
    pub(super) fn tell_summaries(&mut self, now: Instant) {
        self.report.on_time(now);
        if let Some(event) = self.cut_short() {
            if self.report.tell(event) {
                self.refusals.told_cut_short();
            }
        }
    }

    /// What is to be told of refusals that could not linger, if any.
    pub(super) fn cut_short(&self) -> Option<Event> {
        self.refusals.cut_short().map(|(count, most)| Event::CutShort { count, most })
    }

    fn start_failed(&mut self, now: Instant, clients: &'static str, why: impl FnOnce() -> String) {
        if self.start_trouble.failed(now) {
            let (command, error) = (self.command.clone(), why());
            self.report.tell(Event::StartFailed { command, error, clients });
        }
    }

    /// Execs that failed: their clients are told. Their slots come back with the child's exit.
    pub(super) fn read_reports(&mut self, now: Instant) {
        while let Some(exec::Report { pid, errno, head, connection }) = exec::receive(self.reports.as_fd()) {
            self.start_failed(now, "are refused", || program::why(errno, head.as_deref()));
            let connection = connection.map(|fd| ClientFd::new(fd, true));
            let peer = connection.as_ref().map_or(Peer::UNKNOWN, accept::peer);
            if let Some(child) = self.children.get_mut(pid) {
                child.exec_errno = Some(errno);
                let waited_usec = child.waited_ms.map(|ms| u64::from(ms) * 1000);
                let listener = &self.listeners[child.slot.listener().unwrap_or_default()];
                let client = Client { listener: &listener.name, peer: &peer, waited_usec };
                let refusal = Refusal::count(Reason::START_FAILED, self.gate.census().active - 1, 0);
                self.report.refused(now, refusal, client, || Figures { waited_usec, queued: listener.queued() });
            }
            if let Some(fd) = connection {
                self.refusals.unavailable(now, fd, &self.poll);
            }
        }
    }

    /// A command that was started then has executed its program.
    fn start_succeeded(&mut self, now: Instant, since: Instant) {
        if let Some(Over { failures, lasted: over }) = self.start_trouble.succeeded(since, now) {
            self.report.tell(Event::StartRecovered { failures, over });
        }
    }

    /// What is done once for each command that runs for more than a moment, when its exec is over.
    pub(super) fn look_after_begun(&mut self, now: Instant) {
        if self.children.deadline().is_none_or(|at| at > now) {
            return;
        }
        let begun = self.children.begun(now, |launch| self.spawner.has_left(launch));
        if self.start_trouble.is_on() {
            self.read_reports(now); // an exec that has failed has said so before it was over
            let succeeded = begun.iter().filter_map(|pid| self.children.get(*pid));
            let latest = succeeded.filter(|child| child.exec_errno.is_none()).map(|child| child.since).max();
            latest.into_iter().for_each(|since| self.start_succeeded(now, since));
        }
        victim::raise(begun.into_iter());
    }

    /// SIGCHLD for one child. Signals coalesce, so others may have ended without one of their own; only a
    /// walk over all children finds them, and it costs 20 ns for each that lives. So one in so many
    /// signals walks, which is 0.3 us per end however many live.
    pub(super) fn child_ended(&mut self, now: Instant, pid: i32) {
        self.unhealed.get_or_insert(now);
        self.signals_since_walk += 1;
        if self.signals_since_walk * WALK_SHARE >= self.children.len() || self.gate.is_anybody_waiting() {
            self.reap_all(now);
        } else if let Ok(Some((pid, exit, usage))) = reap(Some(pid)) {
            self.ended(now, pid, exit, usage);
        }
    }

    /// All that have ended by now, whether the loop has been told of them or not. A walk over all children only if one has
    /// ended since the last walk, so that a flood of refusals beside many commands costs no walks.
    fn look_for_ends(&mut self, now: Instant) {
        if let Some(pid) = take_end() {
            self.child_ended(now, pid);
        }
        if self.unhealed.is_some() {
            self.reap_all(now);
        }
    }

    /// All that have ended, also those whose SIGCHLD was lost.
    pub(super) fn reap_all(&mut self, now: Instant) {
        // Cleared first: a child that ends during the walk sends a SIGCHLD, which is read after it.
        self.unhealed = None;
        self.signals_since_walk = 0;
        loop {
            match reap(None) {
                Ok(Some((pid, exit, usage))) => self.ended(now, pid, exit, usage),
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) && self.children.is_empty() => break,
                // Whoever has ended still holds a slot, and may have been the last to send a signal.
                Err(_) => return self.unhealed = Some(now),
            }
        }
    }

    fn ended(&mut self, now: Instant, pid: i32, exit: Exit, usage: Usage) {
        if exit == Exit::Code(EXEC_FAILED) {
            self.read_reports(now); // sent before the exit, so it is there by now
        }
        // A child that is not in the table is an orphan (we are PID 1 of a container, or a subreaper), or was left to us by
        // whoever was this process before its exec.
        let Some(child) = self.children.remove(pid) else { return };
        self.ledger.end(child.place);
        self.unwatch_time(pid, child.since);
        self.gate.ended(now, child.slot, &mut self.actions);
        if child.exec_errno.is_none() {
            self.start_succeeded(now, child.since);
        }
        self.report.ended(Ended {
            id: child.id,
            pid,
            how: child.exec_errno.map_or(How::Exit(exit), How::NotStarted),
            after: now - child.since,
            waited: child.waited_ms.map(|ms| Duration::from_millis(ms.into())),
            usage: Some(usage),
        });
    }
}
