//! The orderly end of a refusal: hear what must be heard, write, shut down, and read to the end of file, within bounds.
//!
//! Closing at once would reset the connection of a client that has something under way, and its next
//! write would make it lose the message it was sent (RFC 9112 section 9.6; RFC 1122 section 4.2.2.13). So the socket
//! stays open until the client closes, 2 s pass or 16 MiB have been thrown away, for at most
//! [`MAX_LINGERING`] refusals at once; above that the oldest is closed plainly. A client that has to speak first has 2 s
//! for that, and is answered then whatever it said. Nothing here waits, so no client delays another.
#![forbid(unsafe_code)]

use crate::poll::{Poll, Watch};
use crate::reply::{Input, MAX_INPUT, Reply, Step};
use crate::sys::client_fd::ClientFd;
use crate::sys::receive::{Received, receive};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a refused client may take to say what must be heard, and then to close.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes read from one client.
pub const MAX_DISCARDED: usize = 16 << 20;
/// Refusals that linger at once. Each holds a descriptor, and each descriptor makes every spawn dearer.
pub const MAX_LINGERING: usize = 256;
/// Bytes taken from one client in one turn of the loop, so that a fast sender delays nobody.
const TURN: usize = 256 << 10;

/// One refused client. Its socket is not non-blocking, since a command might have got it: each call says so.
struct Lingerer {
    fd: ClientFd,
    until: Instant,
    read: usize,
    /// What the client has not taken yet.
    unsent: Vec<u8>,
    /// The client has said its last word, and may still be reading.
    ended: bool,
    /// While the client is heard: what it is to be told, and what it has said.
    hearing: Option<(Rc<Reply>, Vec<u8>)>,
}

/// Whether a client is still worth the room.
#[derive(PartialEq)]
enum State {
    Stays,
    Over,
}

/// Sends without waiting; how many bytes were taken, `None` if the client is gone.
fn send_some(fd: &ClientFd, bytes: &[u8]) -> Option<usize> {
    match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Ok(sent) => Some(sent),
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => Some(0),
        Err(_) => None,
    }
}

impl Lingerer {
    /// Sends what is unsent as far as it goes, and the end of file after it.
    fn send(&mut self) -> State {
        while !self.unsent.is_empty() {
            match send_some(&self.fd, &self.unsent) {
                Some(0) => return State::Stays,
                Some(sent) => drop(self.unsent.drain(..sent)),
                None => return State::Over,
            }
        }
        if self.hearing.is_none() && shutdown(self.fd.as_raw_fd(), Shutdown::Write).is_err() {
            return State::Over;
        }
        State::Stays
    }

    /// Answers what was heard; `is_all`: nothing more will be.
    fn answer(&mut self, now: Instant, is_all: bool) -> State {
        while let Some((reply, bytes)) = &mut self.hearing {
            match reply.answer(Input { bytes, is_all }, &mut self.unsent) {
                Step::More => break,
                Step::Next(taken) => drop(bytes.drain(..taken.min(bytes.len()))),
                Step::Done => {
                    self.hearing = None;
                    self.until = now + PATIENCE;
                }
            }
        }
        self.send()
    }

    /// Takes what has arrived: hears it, or throws it away.
    fn receive(&mut self, now: Instant, buffer: &mut [u8]) -> State {
        let mut turn = 0;
        while turn < TURN && self.read < MAX_DISCARDED {
            let (room, is_thrown_away) = match self.hearing {
                // All that was read was heard. What is answered counts too, or the answers would have no bound.
                Some(_) => (MAX_INPUT - self.read, false),
                // TCP drops the bytes without copying them (tcp(7)); others copy and ignore it.
                None => (buffer.len(), true),
            };
            let part = room.min(buffer.len());
            let got = match receive(&self.fd, &mut buffer[..part], is_thrown_away) {
                Ok(Received::Bytes(0)) if part > 0 => {
                    self.fd.ended();
                    0
                }
                Ok(Received::Bytes(got)) => got,
                // What it passes stays where it is, since to read it is to close it: as if that were its last word.
                Ok(Received::Loaded) => 0,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return State::Stays;
                }
                Err(_) => return State::Over,
            };
            turn += got;
            self.read += got;
            self.ended = got == 0;
            if let Some((_, bytes)) = &mut self.hearing {
                bytes.extend_from_slice(&buffer[..got]);
                let is_all = self.ended || self.read == MAX_INPUT;
                if self.answer(now, is_all) == State::Over {
                    return State::Over;
                }
            }
            if self.ended {
                return if self.unsent.is_empty() { State::Over } else { State::Stays };
            }
        }
        if self.read < MAX_DISCARDED { State::Stays } else { State::Over }
    }

    /// EPOLLONESHOT: a child that hangs before its exec keeps a copy of this socket, so that the registration outlives our close();
    /// level-triggered, it would spin.
    fn interest(&self) -> EpollFlags {
        let out = if self.unsent.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let incoming = if self.ended { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        incoming | out | EpollFlags::EPOLLONESHOT
    }
}

/// The table of refusals that linger.
pub struct Lingering {
    lingerers: Vec<Option<Lingerer>>,
    free: Vec<usize>,
    next: Option<Instant>,
    buffer: Box<[u8]>,
    /// Refusals that were closed before their time, since too many others came after them.
    pub cut_short: u64,
}

impl Default for Lingering {
    fn default() -> Self {
        Lingering::new()
    }
}

impl Lingering {
    /// An empty table.
    pub fn new() -> Self {
        let buffer = vec![0; 16 << 10].into();
        Lingering { lingerers: Vec::new(), free: Vec::new(), next: None, buffer, cut_short: 0 }
    }

    /// Tells the client `reply` without ever waiting, and lets the socket linger until it has read that.
    pub fn refuse(&mut self, now: Instant, fd: ClientFd, reply: Rc<Reply>, poll: &Poll) {
        let hearing = reply.hears().then(|| (reply.clone(), Vec::new()));
        let mut lingerer = Lingerer { fd, until: now + PATIENCE, read: 0, unsent: Vec::new(), ended: false, hearing };
        let opening = reply.opening();
        // A fresh socket's send buffer takes nearly any reply whole.
        let sent = if opening.is_empty() { Some(0) } else { send_some(&lingerer.fd, opening) };
        let Some(sent) = sent else { return };
        lingerer.unsent.extend_from_slice(&opening[sent..]);
        if lingerer.send() == State::Over {
            return;
        }
        let at = self.room(now);
        if poll.add(&lingerer.fd, Watch::Lingering(at as u32), lingerer.interest()).is_err() {
            self.free.push(at);
            self.cut_short += 1;
            return;
        }
        self.next = Some(self.next.map_or(lingerer.until, |next| next.min(lingerer.until)));
        self.lingerers[at] = Some(lingerer);
    }

    /// Room in the table; if there is none, that of the one who has had the most time.
    fn room(&mut self, now: Instant) -> usize {
        if let Some(at) = self.free.pop() {
            return at;
        }
        if self.lingerers.len() < MAX_LINGERING {
            self.lingerers.push(None);
            return self.lingerers.len() - 1;
        }
        let until = |lingerer: &Option<Lingerer>| lingerer.as_ref().map(|lingerer| lingerer.until);
        let oldest = (0..MAX_LINGERING).min_by_key(|at| until(&self.lingerers[*at])).unwrap_or(0);
        if let Some(mut lingerer) = self.lingerers[oldest].take() {
            lingerer.answer(now, true);
            self.cut_short += 1;
        }
        oldest
    }

    /// Something has happened to the socket that is watched as [`Watch::Lingering`] of this number.
    pub fn ready(&mut self, now: Instant, number: u32, poll: &Poll) {
        let at = number as usize;
        // It may be another's number since the event was read.
        let Some(mut lingerer) = self.lingerers[at].take() else { return };
        let mut state = if lingerer.unsent.is_empty() { State::Stays } else { lingerer.send() };
        if state == State::Stays && !lingerer.ended {
            state = lingerer.receive(now, &mut self.buffer);
        }
        if lingerer.ended && lingerer.unsent.is_empty() {
            state = State::Over;
        }
        if state == State::Stays {
            let changed = poll.modify(&lingerer.fd, Watch::Lingering(number), lingerer.interest());
            state = if changed.is_ok() { State::Stays } else { State::Over };
        }
        match state {
            State::Stays => self.lingerers[at] = Some(lingerer),
            State::Over => self.free.push(at),
        }
    }

    /// Lets go of those whose time is over; who was still being heard is told now. It looks at the table only
    /// when the first that it knows of may be due.
    pub fn expire(&mut self, now: Instant, poll: &Poll) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        for at in 0..self.lingerers.len() {
            let Some(mut lingerer) = self.lingerers[at].take_if(|lingerer| lingerer.until <= now) else { continue };
            let told = lingerer.hearing.is_some() && lingerer.answer(now, true) == State::Stays;
            if told && poll.modify(&lingerer.fd, Watch::Lingering(at as u32), lingerer.interest()).is_ok() {
                self.lingerers[at] = Some(lingerer);
            } else {
                self.free.push(at);
            }
        }
        self.next = self.lingerers.iter().flatten().map(|lingerer| lingerer.until).min();
    }

    /// When to look again; never later than the next one's time.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// How many linger.
    pub fn len(&self) -> usize {
        self.lingerers.len() - self.free.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
