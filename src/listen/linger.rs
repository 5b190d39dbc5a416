//! The orderly end of a refusal: write, shut down, and read to the end of file, within bounds.
//!
//! Closing at once would reset the connection of a client that has something under way, and its next
//! write would make it lose the message it was sent (RFC 9112 section 9.6; RFC 1122 section 4.2.2.13). So the socket
//! stays open until the client closes, 2 s pass or 16 MiB have been thrown away, for at most
//! [`MOST`] refusals at once; above that the close is plain.
#![forbid(unsafe_code)]

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a refused client may take to close.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read and thrown away from one client.
pub const MOST_BYTES: usize = 16 << 20;
/// Refusals that linger at once. Each holds a descriptor, and each descriptor makes every spawn dearer.
pub const MOST: usize = 256;
/// Bytes taken from one client in one turn of the loop, so that a fast sender delays nobody.
const TURN: usize = 256 << 10;

struct Place {
    fd: OwnedFd,
    until: Instant,
    read: usize,
}

/// The table of refusals that linger.
pub struct Lingering {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    next: Option<Instant>,
    key_base: u64,
    buffer: Box<[u8]>,
    /// Refusals that were closed plainly, since the table was full.
    pub cut_short: u64,
}

impl Lingering {
    /// An empty table whose epoll keys begin at `key_base`.
    pub fn new(key_base: u64) -> Self {
        let buffer = vec![0; 16 << 10].into();
        Lingering { places: Vec::new(), free: Vec::new(), next: None, key_base, buffer, cut_short: 0 }
    }

    /// Sends `reply` without ever waiting, and lets the socket linger until the client has read it.
    pub fn refuse(&mut self, now: Instant, fd: OwnedFd, reply: &[u8], epoll: &Epoll) {
        let raw = fd.as_raw_fd();
        // A fresh socket's send buffer takes any reply whole. What fails here is a client that is gone.
        if !reply.is_empty() && send(raw, reply, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_err() {
            return;
        }
        if shutdown(raw, Shutdown::Write).is_err() {
            return;
        }
        let place = Place { fd, until: now + PATIENCE, read: 0 };
        let at = match self.free.pop() {
            Some(at) => at,
            None if self.places.len() < MOST => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => {
                self.cut_short += 1;
                return;
            }
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.key_base + at as u64);
        if epoll.add(&place.fd, event).is_err() {
            self.free.push(at);
            self.cut_short += 1;
            return;
        }
        self.next.get_or_insert(place.until);
        self.places[at] = Some(place);
    }

    /// The socket with this epoll key has something to read, or has ended.
    pub fn readable(&mut self, key: u64) {
        let at = (key - self.key_base) as usize;
        if let Some(mut place) = self.places[at].take() {
            if self.drain(&mut place) {
                self.free.push(at);
            } else {
                self.places[at] = Some(place);
            }
        }
    }

    /// Lets go of those whose time is over. All have the same patience, so it looks at the table only
    /// when the oldest that it knows of may be due.
    pub fn expire(&mut self, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.as_ref().is_some_and(|place| place.until <= now) {
                *place = None;
                self.free.push(at);
            }
        }
        self.next = self.places.iter().flatten().map(|place| place.until).min();
    }

    /// When to look again; never later than the next one's time.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// How many linger.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Throws away what has arrived; `true` when the client has closed or has sent too much.
    fn drain(&mut self, place: &mut Place) -> bool {
        let mut turn = 0;
        while turn < TURN {
            // MSG_TRUNC: TCP drops the bytes without copying them (tcp(7)); others copy and ignore it.
            match recv(place.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
                Ok(0) => return true,
                Ok(n) => turn += n,
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => break,
                Err(_) => return true,
            }
        }
        place.read += turn;
        place.read >= MOST_BYTES
    }
}
