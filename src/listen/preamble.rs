//! Connections whose PROXY header is still awaited (`--proxy-protocol`).
//!
//! A header is looked at and left where it is (MSG_PEEK): it is taken right before the command is started or the refusal is sent, so that a
//! client that is held can be handed over as it came. Nothing here waits. Each client has 2 s, and of [`MAX_AWAITED`] clients the one that
//! has waited longest makes room for the next, so that silent ones keep nobody out.
#![forbid(unsafe_code)]

use super::accept::{Connection, PEEK};
use super::proxy::{self, MAX_V2};
use crate::policy::arrival::ListenerId;
use crate::policy::grounds::HeaderFault;
use crate::policy::network::Network;
use crate::policy::queue::Ticket;
use crate::policy::source::Source;
use crate::poll::{Poll, Watch};
use crate::sys::receive;
use crate::sys::socket::Address;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{SockType, getsockopt, recv, sockopt};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long a header may take from accept(2) to its last byte.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that are awaited at once. Each holds a descriptor.
pub const MAX_AWAITED: usize = 256;

/// One byte more than any header has, so that what follows one is noticed.
type Buffer = [u8; MAX_V2 + 1];

/// What has become of a connection.
#[derive(Debug)]
pub enum News {
    /// Its header is there: its peer is whom the proxy speaks for.
    Ready(Ticket, Connection),
    /// Its header is not what it must be.
    Faulty(Connection, HeaderFault),
    /// Its client has reset it; where it had come in.
    Gone(ListenerId),
}

#[derive(Debug)]
struct Awaited {
    connection: Connection,
    since: Instant,
}

/// Who is awaited, by ticket, and so in the order in which their time is over.
#[derive(Debug)]
pub struct Preambles {
    is_on: bool,
    /// Who may send a header; nothing: this machine.
    from: Vec<Network>,
    awaited: BTreeMap<Ticket, Awaited>,
    news: VecDeque<News>,
    buffer: Option<Box<Buffer>>,
}

impl Preambles {
    /// Nobody is awaited. `from` may send headers; nobody in it: loopback and UNIX peers.
    pub fn new(is_on: bool, from: Vec<Network>) -> Preambles {
        Preambles { is_on, from, awaited: BTreeMap::new(), news: VecDeque::new(), buffer: None }
    }

    /// Whether every connection has to begin with a header.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// A client has come.
    pub fn arrive(&mut self, now: Instant, ticket: Ticket, connection: Connection, poll: &Poll) {
        match self.may_send(&connection) {
            true => self.await_header(now, ticket, connection, poll),
            false => self.news.push_back(News::Faulty(connection, HeaderFault::Elsewhere)),
        }
    }

    fn may_send(&self, connection: &Connection) -> bool {
        let (peer, source) = (&connection.peer, connection.peer.source());
        match (self.from.is_empty(), &peer.address, source) {
            (false, ..) => self.from.iter().any(|network| network.contains(source)),
            (_, Address::Unix(_), _) => true,
            (.., Source::Ip(IpAddr::V4(ip))) => ip.is_loopback(),
            (.., Source::Ip(IpAddr::V6(ip))) => ip.is_loopback(),
            (.., Source::Cid(cid)) => cid == libc::VMADDR_CID_LOCAL,
            _ => false,
        }
    }

    /// Awaits the header of a client that may send one.
    pub fn await_header(&mut self, now: Instant, ticket: Ticket, mut connection: Connection, poll: &Poll) {
        let Some(looked) = self.look(&mut connection) else {
            if self.awaited.len() == MAX_AWAITED {
                self.give_up_first(poll, HeaderFault::Crowded);
            }
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
            // Unwatched, it is looked at when its time is over.
            let _ = poll.add(&connection.fd, Watch::Preamble(ticket), flags);
            self.awaited.insert(ticket, Awaited { connection, since: now });
            return;
        };
        self.tell(ticket, connection, looked);
    }

    /// Something has happened to this client.
    pub fn ready(&mut self, now: Instant, ticket: Ticket, poll: &Poll) {
        let Some(mut awaited) = self.awaited.remove(&ticket) else { return };
        match self.look(&mut awaited.connection) {
            None => drop(self.awaited.insert(ticket, awaited)),
            Some(looked) => {
                // The command will share the open file description, so that close() would not remove it from epoll.
                let _ = poll.delete(&awaited.connection.fd);
                awaited.connection.has_waited(now.saturating_duration_since(awaited.since));
                self.tell(ticket, awaited.connection, looked);
            }
        }
    }

    /// When the first one's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.awaited.first_key_value().map(|(_, first)| first.since + PATIENCE)
    }

    /// Gives up on those whose time is over.
    pub fn on_time(&mut self, now: Instant, poll: &Poll) {
        while let Some((ticket, first)) = self.awaited.first_key_value() {
            if first.since + PATIENCE > now {
                return;
            }
            // What has come in the last moment counts.
            let ticket = *ticket;
            self.ready(now, ticket, poll);
            if self.awaited.contains_key(&ticket) {
                self.give_up_first(poll, HeaderFault::Late);
            }
        }
    }

    /// What has become of those that came.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Those that came in by this listener.
    pub fn count_of(&self, listener: ListenerId) -> usize {
        self.awaited.values().filter(|awaited| awaited.connection.listener == listener).count()
    }

    /// How many are awaited.
    pub fn len(&self) -> usize {
        self.awaited.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Gives all away that are still awaited, in order.
    pub fn take_all(&mut self, now: Instant, poll: &Poll) -> Vec<(Ticket, Connection)> {
        let all = std::mem::take(&mut self.awaited);
        let each = |(ticket, Awaited { mut connection, since })| {
            let _ = poll.delete(&connection.fd);
            connection.has_waited(now.saturating_duration_since(since));
            (ticket, connection)
        };
        all.into_iter().map(each).collect()
    }

    fn give_up_first(&mut self, poll: &Poll, fault: HeaderFault) {
        let Some((_, Awaited { connection, .. })) = self.awaited.pop_first() else { return };
        let _ = poll.delete(&connection.fd);
        self.news.push_back(News::Faulty(connection, fault));
    }

    fn tell(&mut self, ticket: Ticket, connection: Connection, looked: Looked) {
        let listener = connection.listener;
        self.news.push_back(match looked {
            Looked::Whole => News::Ready(ticket, connection),
            Looked::Faulty(fault) => News::Faulty(connection, fault),
            Looked::Gone => News::Gone(listener),
        });
    }

    /// What has come of the header; `None`: more is awaited.
    fn look(&mut self, connection: &mut Connection) -> Option<Looked> {
        let buffer = self.buffer.get_or_insert_with(|| Box::new([0; MAX_V2 + 1]));
        look(connection, buffer)
    }
}

enum Looked {
    Whole,
    Faulty(HeaderFault),
    Gone,
}

fn look(connection: &mut Connection, buffer: &mut Buffer) -> Option<Looked> {
    let mut is_all = false;
    loop {
        let seen = match recv(connection.fd.as_raw_fd(), buffer, PEEK) {
            Ok(0) => return Some(Looked::Faulty(HeaderFault::Closed)),
            Ok(seen) => seen,
            Err(nix::Error::EAGAIN) => return None,
            Err(_) => return Some(Looked::Gone),
        };
        match proxy::parse(&buffer[..seen]) {
            Ok(Some(header)) if seen > header.length && is_packet(connection) => {
                return Some(Looked::Faulty(HeaderFault::Broken("not a packet of its own")));
            }
            Ok(Some(header)) => {
                connection.comes_with(header);
                return Some(Looked::Whole);
            }
            Err(flaw) => return Some(Looked::Faulty(HeaderFault::Broken(flaw))),
            Ok(None) if is_packet(connection) => {
                return Some(Looked::Faulty(HeaderFault::Broken("not a packet of its own")));
            }
            Ok(None) if is_all => return Some(Looked::Faulty(HeaderFault::Closed)),
            Ok(None) => {}
        }
        // Only what was there before the end of file was seen is surely all.
        is_all = receive::is_half_closed(connection.fd.as_fd());
        if !is_all {
            return None;
        }
    }
}

fn is_packet(connection: &Connection) -> bool {
    getsockopt(&connection.fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket)
}
