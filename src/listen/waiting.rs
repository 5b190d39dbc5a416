//! Clients that were accepted and wait for their turn, and the numbers by which they wait.
#![forbid(unsafe_code)]

use super::accept::Connection;
use super::preamble::Preambles;
use crate::policy::arrival::ListenerId;
use crate::policy::gate::Arrival;
use crate::policy::least::least;
use crate::policy::queue::Ticket;
use crate::policy::source::Source;
use crate::poll::{Poll, Watch};
use nix::sys::epoll::EpollFlags;
use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

/// What a client that is held has shown by shutting down its side before it sent anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HalfClose {
    /// That it waits for what the command says.
    #[default]
    Serve,
    /// That it has left: a health check, or a user who gave up. Right where the client has to speak before it is answered, or
    /// always closes both sides.
    Gone,
}

impl fmt::Display for HalfClose {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            HalfClose::Serve => "serve",
            HalfClose::Gone => "gone",
        })
    }
}

/// Who is held, by ticket, and who has come so far that its PROXY header is awaited.
#[derive(Debug)]
pub struct Waiting {
    /// Those whose header is awaited.
    pub preambles: Preambles,
    half_close: HalfClose,
    held: HashMap<Ticket, Held>,
    next: Ticket,
}

/// A client that waits for its turn.
#[derive(Debug)]
pub struct Held {
    /// By which the gate knows it.
    pub who: Arrival,
    /// Its connection.
    pub connection: Connection,
}

impl Held {
    /// The connection, with all the time that its client has waited.
    pub fn into_connection(mut self, now: Instant) -> Connection {
        self.connection.waited_usec = Some(now.saturating_duration_since(self.who.since).as_micros() as u64);
        self.connection
    }
}

impl Waiting {
    /// Nobody is held yet.
    pub fn new(half_close: HalfClose, preambles: Preambles) -> Waiting {
        Waiting { preambles, half_close, held: HashMap::new(), next: 0 }
    }

    /// Whether this client has left.
    pub fn is_gone(&self, held: &mut Held) -> bool {
        held.connection.is_gone() || (self.half_close == HalfClose::Gone && held.connection.has_nothing_to_say())
    }

    /// The next number.
    pub fn ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next - 1
    }

    /// The number that comes next.
    pub fn next_ticket(&self) -> Ticket {
        self.next
    }

    /// Gives no number below this one any more.
    pub fn go_on_from(&mut self, next: Ticket) {
        self.next = self.next.max(next);
    }

    /// Keeps a client. Only its leaving is an event, and only once: what it says is for its command.
    pub fn hold(&mut self, who: Arrival, connection: Connection, poll: &Poll) {
        // Unwatched, its leaving is seen when its turn comes.
        let half = if self.half_close == HalfClose::Gone { EpollFlags::EPOLLRDHUP } else { EpollFlags::empty() };
        let _ = poll.add(&connection.fd, Watch::Held(who.ticket), EpollFlags::EPOLLET | half);
        self.held.insert(who.ticket, Held { who, connection });
    }

    /// Gives a client away.
    pub fn take(&mut self, ticket: Ticket, poll: &Poll) -> Option<Held> {
        let held = self.held.remove(&ticket)?;
        // The child will share the open file description, so that close() would not remove it from epoll.
        let _ = poll.delete(&held.connection.fd);
        Some(held)
    }

    /// Something has happened to this client: if it has left, it is given away.
    pub fn has_left(&mut self, ticket: Ticket, poll: &Poll) -> Option<Held> {
        let mut held = self.held.remove(&ticket)?;
        let is_gone = self.is_gone(&mut held);
        self.held.insert(ticket, held);
        if is_gone { self.take(ticket, poll) } else { None }
    }

    /// Those of sources such as these.
    pub fn of_sources(&self, is_one: impl Fn(Source) -> bool) -> Vec<Ticket> {
        self.held.values().map(|held| &held.who).filter(|who| is_one(who.source)).map(|who| who.ticket).collect()
    }

    /// Those whose tickets are not below this one, in order, at most so many.
    pub fn from(&self, ticket: Ticket, count: usize) -> Vec<&Held> {
        self.tickets(ticket, count).iter().filter_map(|ticket| self.held.get(ticket)).collect()
    }

    fn tickets(&self, from: Ticket, count: usize) -> Vec<Ticket> {
        least(self.held.keys().copied().filter(|ticket| *ticket >= from), count)
    }

    /// How many came in by this listener, those whose header is awaited among them.
    pub fn count_of(&self, listener: ListenerId) -> u32 {
        let held = self.held.values().filter(|held| held.who.listener == listener).count();
        (held + self.preambles.count_of(listener)) as u32
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives all away, in order.
    pub fn take_all(&mut self) -> Vec<Held> {
        self.tickets(Ticket::MIN, usize::MAX).iter().filter_map(|ticket| self.held.remove(ticket)).collect()
    }
}
