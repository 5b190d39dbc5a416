//! A client of a proxy, until its header is there: then it arrives as any other.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::listen::accept::Connection;
use crate::listen::preamble::News;
use crate::policy::grounds::HeaderFault;
use crate::policy::queue::Ticket;
use crate::policy::reason::{Reason, Refusal};
use std::time::Instant;

/// What is done with a client whose header is there; `true`: a process was spent on it.
type OnReady = fn(&mut Daemon, Instant, Ticket, Connection) -> bool;

impl Daemon {
    /// A client has come whose header is to be read. `true`: it was there, and a process was spent on the client.
    pub(super) fn await_header(&mut self, now: Instant, ticket: Ticket, connection: Connection) -> bool {
        self.waiting.preambles.arrive(now, ticket, connection, &self.poll);
        self.preamble_news(now, Daemon::arrive)
    }

    /// Something has happened to a client whose header is awaited.
    pub(super) fn preamble_ready(&mut self, now: Instant, ticket: Ticket) {
        self.waiting.preambles.ready(now, ticket, &self.poll);
        self.preamble_news(now, Daemon::arrive);
    }

    /// The time of some is over.
    pub(super) fn preambles_are_due(&mut self, now: Instant) {
        self.waiting.preambles.on_time(now, &self.poll);
        self.preamble_news(now, Daemon::arrive);
    }

    /// What has become of those that were awaited; `on_ready` is for those whose header is there. `true`: it has spent a process on one.
    fn preamble_news(&mut self, now: Instant, on_ready: OnReady) -> bool {
        let mut is_started = false;
        while let Some(news) = self.waiting.preambles.next_news() {
            match news {
                News::Ready(ticket, connection) => is_started |= on_ready(self, now, ticket, connection),
                News::Faulty(connection, fault) => self.refuse_header(now, connection, Some(fault)),
                News::Gone(listener) => self.report.gone(listener, None),
            }
        }
        is_started
    }

    /// A client of an earlier daemon that has not been judged, since its header had not all come.
    pub(super) fn go_on_awaiting(&mut self, now: Instant, ticket: Ticket, connection: Connection) {
        self.waiting.preambles.await_header(now, ticket, connection, &self.poll);
        self.preamble_news(now, Daemon::arrive);
    }

    /// A client of an earlier daemon, whose header is still in front of what it says: it goes on where it was.
    pub(super) fn take_back_headed(&mut self, now: Instant, ticket: Ticket, connection: Connection) {
        self.waiting.preambles.await_header(now, ticket, connection, &self.poll);
        self.preamble_news(now, |daemon, now, ticket, connection| {
            daemon.come_back(now, ticket, connection);
            false
        });
    }

    /// Refuses a client for its header; without a fault it has gone.
    pub(super) fn refuse_header(&mut self, now: Instant, connection: Connection, fault: Option<HeaderFault>) {
        let Some(fault) = fault else { return self.report.gone(connection.listener, connection.waited_usec) };
        self.reject(now, &connection, Refusal::header(fault, self.gate.census().active));
        self.refusals.unavailable(now, connection.fd, &self.poll);
    }

    /// Nobody is awaited any longer: the service is stopping.
    pub(super) fn refuse_awaited(&mut self, now: Instant) {
        for (_, connection) in self.waiting.preambles.take_all(now, &self.poll) {
            self.refuse(now, connection, Refusal::count(Reason::STOPPING, self.gate.census().active, 0));
        }
    }
}
