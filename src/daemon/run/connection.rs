//! The life of one connection: it is accepted, judged, and then started, held or refused. One function per step.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::child::ConnectionInfo;
use crate::listen::Listener;
use crate::listen::accept::{Connection, tcp_wait};
use crate::listen::listeners::Taken;
use crate::observe::report::{Client, Figures};
use crate::policy::arrival::ListenerId;
use crate::policy::gate::{Action, Arrival, Slot, Verdict, WhenFull};
use crate::policy::limit::rule::Stage;
use crate::policy::network::Network;
use crate::policy::queue::Ticket;
use crate::policy::reason::{Reason, Refusal};
use crate::policy::source::Source;
use crate::sys::{plain, socket};
use std::os::fd::AsFd;
use std::time::Instant;

/// Refusals per listener and turn. A served client ends the turn: its child runs on another CPU, and checking for exits before
/// the next accept is faster.
const REFUSALS_AT_ONCE: usize = 4;

impl Daemon {
    /// One connection, or a few that are refused.
    pub(super) fn accept_some(&mut self, now: Instant, id: ListenerId) {
        self.read_gauges(now);
        self.settle(now);
        self.mind_the_crowd(now);
        for _ in 0..REFUSALS_AT_ONCE {
            // An earlier arrival may have filled the house.
            if !self.accept_one(now, id) {
                return;
            }
        }
    }

    /// Nobody is accepted while too many commands are being started.
    pub(super) fn mind_the_crowd(&mut self, now: Instant) {
        let is_crowded = self.commands.look_at_crowd(now);
        self.listeners.set_crowded(now, is_crowded, &self.poll);
    }

    /// Whether to try again now: no process was spent.
    fn accept_one(&mut self, now: Instant, id: ListenerId) -> bool {
        let taken = self.listeners.accept(now, id, &self.poll);
        while let Some(news) = self.listeners.next_news() {
            self.listener_news(news);
        }
        if !matches!(taken, Taken::Nobody) {
            self.report.accepted(id);
            // Its command may have ended before the clock is looked at again.
            self.phase.is_not_idle();
        }
        match taken {
            Taken::Client(connection) => {
                if !self.commands.is_failing() {
                    self.listeners.recovered();
                }
                let ticket = self.waiting.ticket();
                match self.waiting.preambles.is_on() {
                    true => !self.await_header(now, ticket, connection),
                    false => !self.arrive(now, ticket, connection),
                }
            }
            Taken::Gone => {
                self.report.gone(id, None);
                true
            }
            Taken::Nobody => false,
        }
    }

    /// A client has come. `true`: a process was spent on it.
    pub(super) fn arrive(&mut self, now: Instant, ticket: Ticket, mut connection: Connection) -> bool {
        let who = self.arrival(now, ticket, &connection);
        let mut may = self.gate.may(now, &who);
        let dry = self.would_refuse(now, &who).map(|(stage, _)| stage);
        if may.is_err() || dry.is_some() {
            // A command that ended before this client came must not count against it, nor one of its source that was held and has left.
            self.look_for_ends(now);
            if [may.err(), dry].contains(&Some(Stage::Entry)) {
                self.look_for_leavers(now, who.source);
            }
            may = self.gate.may(now, &who);
        }
        let is_refused = may == Err(Stage::Entry) || (may.is_err() && self.settings.when_full == WhenFull::Refuse);
        if !is_refused && connection.is_gone() {
            self.report.gone(connection.listener, connection.waited_usec);
            return false;
        }
        // That it is there has told since when it has waited.
        let who = Arrival { since: connection.since(now), ..who };
        if let Some((stage, refusal)) = self.would_refuse(now, &who).filter(|_| !is_refused) {
            self.would_reject(now, &connection, stage, refusal);
        }
        let verdict = self.gate.arrive(now, who, &mut self.actions);
        let is_started = self.carry_out_verdict(now, who, connection, verdict);
        self.settle(now);
        // Apparently full now. Sweep once: an exit whose SIGCHLD was coalesced would leave a client waiting for ever.
        if self.commands.is_unswept() && self.gate.is_anybody_waiting() {
            self.commands.sweep();
            self.settle(now);
        }
        is_started
    }

    /// What ends has ended for everybody: nobody is refused for a command that is over.
    pub(super) fn look_for_ends(&mut self, now: Instant) {
        self.commands.look_for_ends(now, &self.poll);
        self.settle(now);
    }

    /// Forgets those who were held and have left, though no event has told of it yet, if they count for this source or for a network
    /// around it.
    fn look_for_leavers(&mut self, now: Instant, source: Source) {
        // Where they do not count they may be many.
        if self.settings.max_per_source.is_empty() {
            return;
        }
        let networks = |of: Source| self.settings.max_per_source.iter().map(move |(_, bits)| Network::of(of, *bits));
        let is_counted =
            |other| networks(source).zip(networks(other)).any(|(one, other)| one.is_some() && one == other);
        for ticket in self.waiting.of_sources(is_counted) {
            self.held_changed(now, ticket);
        }
        self.settle(now);
    }

    /// What a limit of `--dry-run` says to this client.
    fn would_refuse(&self, now: Instant, who: &Arrival) -> Option<(Stage, Refusal)> {
        if self.settings.dry_run.is_empty() { None } else { self.gate.would_refuse(now, who) }
    }

    /// What the gate is told of a client.
    pub(super) fn arrival(&self, now: Instant, ticket: Ticket, connection: &Connection) -> Arrival {
        let (listener, source, since) = (connection.listener, connection.source(), connection.since(now));
        // A proxy is exempt by its address also where it is not counted.
        let is_exempt = self.gate.limits().is_exempt(connection.peer.source());
        Arrival { ticket, listener, source, is_exempt, since }
    }

    /// Does with a client what the gate says. `true` if its command was started.
    pub(super) fn carry_out_verdict(
        &mut self,
        now: Instant,
        who: Arrival,
        connection: Connection,
        verdict: Verdict,
    ) -> bool {
        match verdict {
            Verdict::Admit(slot) => return self.start(now, who, connection, slot),
            Verdict::Hold => self.waiting.hold(who, connection, &self.poll),
            Verdict::Refuse(refusal) => self.refuse(now, connection, refusal),
        }
        false
    }

    /// Passes on what has happened in the rooms and carries out what the gate wants, until nothing is left of either. Nothing that is
    /// called from here calls it again.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            while let Some(news) = self.commands.next_news(now) {
                self.command_news(now, news);
            }
            while let Some(news) = self.listeners.next_news() {
                self.listener_news(news);
            }
            match self.actions.pop_front() {
                Some(action) => self.carry_out(now, action),
                None => return,
            }
        }
    }

    fn carry_out(&mut self, now: Instant, action: Action) {
        match action {
            Action::Admit(ticket, slot) => self.admit(now, ticket, slot),
            Action::Refuse(ticket, refusal) => {
                if let Some(held) = self.waiting.take(ticket, &self.poll) {
                    self.refuse(now, held.into_connection(now), refusal);
                }
            }
            Action::Pause(id) => self.listeners.set_full(now, id, true, &self.poll),
            Action::Resume(id) => self.listeners.set_full(now, id, false, &self.poll),
            Action::Untracked(reason, clients) => {
                self.report.untracked(now, reason, clients, self.settings.max_sources);
            }
        }
    }

    /// A client that is held may have left.
    pub(super) fn held_changed(&mut self, now: Instant, ticket: Ticket) {
        if let Some(mut held) = self.waiting.has_left(ticket, &self.poll) {
            // Left unread it would make of the close a reset.
            let _ = held.connection.take_header();
            self.gate.left(now, &held.who, &mut self.actions);
            self.report.gone(held.who.listener, held.into_connection(now).waited_usec);
        }
    }

    fn admit(&mut self, now: Instant, ticket: Ticket, slot: Slot) {
        let Some(mut held) = self.waiting.take(ticket, &self.poll) else {
            return self.gate.not_started(now, slot, &mut self.actions);
        };
        let who = held.who;
        if self.waiting.is_gone(&mut held) {
            let _ = held.connection.take_header();
            self.report.gone(who.listener, held.into_connection(now).waited_usec);
            return self.gate.not_started(now, slot, &mut self.actions);
        }
        self.start(now, who, held.into_connection(now), slot);
    }

    /// `true` if a process was spent.
    fn start(&mut self, now: Instant, who: Arrival, mut connection: Connection, slot: Slot) -> bool {
        if self.commands.is_pausing() {
            // Who came before it could not be started in this turn: it must not overtake.
            self.postpone(now, who, connection, slot);
            return false;
        }
        if let Err(fault) = connection.take_header() {
            self.gate.not_started(now, slot, &mut self.actions);
            self.refuse_header(now, connection, fault);
            return false;
        }
        let from = &self.listeners[who.listener];
        let own_address = match from.is_wildcard {
            true => socket::local_address(connection.fd.as_fd()).ok(),
            false => None,
        };
        let info = ConnectionInfo {
            id: self.commands.next_id(),
            listener: &from.name,
            label: &from.label,
            peer: &connection.peer,
            local: connection.local.as_ref().or(own_address.as_ref()).unwrap_or(&from.local),
            cookie: socket::cookie(connection.fd.as_fd()).ok(),
            of_source: self.gate.census().per_source.count(who.source),
        };
        let stderr = self.report.stderr_of(now, (info.id, info.listener), info.peer);
        match self.commands.start(now, (&who, slot), &info, (&connection.fd, stderr), connection.waited_usec) {
            Ok(started) => {
                let Connection { fd, peer, waited_usec, .. } = connection;
                self.commands.leave(&started, fd);
                let (id, listener) = (who.listener, &self.listeners[who.listener].name);
                let client = Client { id, listener, peer: &peer, waited_usec };
                let active = (self.gate.census().active, self.settings.max_connections);
                self.report.serving(started.id, started.pid, client, active);
                true
            }
            Err((slot, error)) => {
                self.not_started(now, who, connection, slot, &error);
                false
            }
        }
    }

    fn not_started(&mut self, now: Instant, who: Arrival, connection: Connection, slot: Slot, error: &std::io::Error) {
        let waits = self.settings.when_full == WhenFull::Wait;
        self.report.start_failed(error.raw_os_error().unwrap_or(0));
        if self.commands.failed(now) {
            self.start_failed(if waits { "wait" } else { "are refused" }, plain(error));
        }
        if waits {
            // Clients are still accepted as far as there is room for them, so that each is told in time.
            self.commands.pause(now);
            return self.postpone(now, who, connection, slot);
        }
        self.gate.start_failed(now, slot, &mut self.actions);
        let refusal = Refusal::count(Reason::START_FAILED, self.gate.census().active, 0);
        self.reject(now, &connection, refusal);
        self.refusals.unavailable(now, connection.fd, &self.poll);
        self.listeners.pause(now, &self.poll);
    }

    /// Gives the slot back and keeps the client, at its old place.
    fn postpone(&mut self, now: Instant, who: Arrival, connection: Connection, slot: Slot) {
        self.waiting.hold(who, connection, &self.poll);
        self.gate.postponed(now, who, slot, &mut self.actions);
    }

    pub(super) fn refuse(&mut self, now: Instant, mut connection: Connection, refusal: Refusal) {
        self.reject(now, &connection, refusal);
        // A reply that has to hear the client first hears nothing of its proxy's. What cannot be taken cannot be heard either.
        let _ = connection.take_header();
        self.refusals.busy(now, connection.fd, &refusal, &self.poll);
    }

    /// Counts a refusal, and tells it unless too many are told already.
    pub(super) fn reject(&mut self, now: Instant, connection: &Connection, refusal: Refusal) {
        let from = &self.listeners[connection.listener];
        self.report.refused(now, refusal, client(connection, from), || figures(connection, from));
    }

    /// A limit that only judges would have refused this client, or held it.
    fn would_reject(&mut self, now: Instant, connection: &Connection, stage: Stage, refusal: Refusal) {
        let holds = stage == Stage::Start && self.settings.when_full == WhenFull::Wait;
        let from = &self.listeners[connection.listener];
        self.report.would_refuse(now, (refusal, holds), client(connection, from), || figures(connection, from));
    }
}

fn client<'a>(connection: &'a Connection, from: &'a Listener) -> Client<'a> {
    let Connection { listener: id, peer, waited_usec, .. } = connection;
    Client { id: *id, listener: &from.name, peer, waited_usec: *waited_usec }
}

fn figures(connection: &Connection, from: &Listener) -> Figures {
    let Connection { fd, waited_usec, .. } = connection;
    let waited_usec = waited_usec.or_else(|| tcp_wait(fd).map(|(usec, _)| usec));
    Figures { waited_usec, queued: from.queued() }
}
