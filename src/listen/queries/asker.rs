//! One asker: what it has said, what it is to be sent, and how long it may take.
#![forbid(unsafe_code)]

use super::insiders::Insiders;
use crate::listen::accept::Connection;
use crate::policy::gate::live::SourceUse;
use crate::sys::client_fd::ClientFd;
use crate::sys::receive::{Received, receive};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// What is asked at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Varlink calls.
    Control,
    /// `GET /metrics`.
    Metrics,
    /// HAProxy's agent check.
    Agent,
}

/// The name of a socket for Varlink, as systemd has it (varlink.socket units).
pub const VARLINK: &str = "varlink";

/// Bounds for one kind of asker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// At once.
    pub(super) clients: usize,
    /// Bytes of a request.
    pub(super) request: usize,
    /// How long a request, and reading a part of an answer, may take.
    patience: Duration,
}

/// Bytes that are kept for one asker to read. An answer longer than that comes in parts.
pub const MAX_OUTPUT: usize = 64 << 10;

impl Kind {
    /// That of a passed listener of this name (`FileDescriptorName=`, systemd.socket(5)).
    pub fn of_name(name: &str) -> Option<Kind> {
        match name {
            VARLINK => Some(Kind::Control),
            "metrics" => Some(Kind::Metrics),
            "agent-check" => Some(Kind::Agent),
            _ => None,
        }
    }

    pub(super) fn terms(self) -> Terms {
        let (clients, request, patience) = match self {
            Kind::Control => (16, 16 << 10, 5),
            Kind::Metrics => (4, 8 << 10, 2),
            Kind::Agent => (4, 1 << 10, 2),
        };
        Terms { clients, request, patience: Duration::from_secs(patience) }
    }
}

/// An answer of many parts that is under way.
#[derive(Clone, Debug, PartialEq)]
pub enum Stream {
    /// Commands, after this number and process.
    Connections(u64, i32),
    /// Clients that are held, from this ticket on.
    Waiting(u64),
    /// These sources.
    Sources(VecDeque<SourceUse>),
    /// The state, each time that it has changed: when it was looked at last, and by what it is known again.
    Changes(Option<Instant>, u64),
}

/// Something to be done for an asker.
#[derive(Debug)]
pub struct Due {
    /// Which asker's it is.
    pub at: usize,
    /// At which kind of socket it asks.
    pub kind: Kind,
    /// Process and user of a UNIX peer when it connected.
    pub credentials: Option<(i32, u32)>,
    /// Whether it is taken for one of our own commands.
    pub is_command: bool,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done for an asker.
#[derive(Debug)]
pub enum Work {
    /// To answer this request, without the NUL behind it. `None`: what it has said is none, and more will not come.
    Request(Option<Vec<u8>>),
    /// To make the next part of this.
    Part(Stream),
}

/// What is to become of an asker.
#[derive(Debug, Default)]
pub struct Answer {
    /// What it is to be sent, at most about [`MAX_OUTPUT`].
    pub bytes: Vec<u8>,
    /// What follows.
    pub stream: Option<Stream>,
    /// Whether it is closed after that.
    pub is_last: bool,
}

/// Somebody who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) kind: Kind,
    pub(super) credentials: Option<(i32, u32)>,
    pub(super) is_command: bool,
    pub(super) stream: Option<Stream>,
    pub(super) fd: ClientFd,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    /// Whether what it has said has a whole request. Looked at when it says something, and not in each turn of the loop: 16 KiB that
    /// are none yet would cost every client the search.
    is_whole: bool,
    /// Its last progress.
    pub(super) since: Instant,
    pub(super) has_asked: bool,
    /// Nothing more is to come from it.
    pub(super) is_deaf: bool,
    /// It is closed once it has read everything.
    pub(super) is_closing: bool,
}

/// How long a change is awaited at least between two parts of [`Stream::Changes`].
pub const CHANGES_INTERVAL: Duration = Duration::from_secs(1);

impl Asker {
    pub(super) fn new(now: Instant, kind: Kind, connection: Connection, insiders: &Insiders) -> Asker {
        let credentials = connection.peer.credentials.map(|(pid, uid, _)| (pid, uid));
        let is_command = |(pid, uid)| kind == Kind::Control && insiders.include(connection.fd.as_fd(), pid, uid);
        Asker {
            kind,
            credentials,
            is_command: credentials.is_some_and(is_command),
            stream: None,
            fd: connection.fd,
            input: Vec::new(),
            output: Vec::new(),
            is_whole: false,
            since: now,
            has_asked: false,
            is_deaf: false,
            is_closing: false,
        }
    }

    pub(super) fn is_root(&self) -> bool {
        !self.is_command && self.credentials.is_some_and(|(_, uid)| uid == 0)
    }

    /// Whether nothing more of its request will come: it has ended, or is as long as it may be.
    pub(super) fn has_ended(&self) -> bool {
        self.is_deaf || self.input.len() >= self.kind.terms().request
    }

    /// Takes the next request away; `None` if it is none.
    pub(super) fn take_request(&mut self) -> Option<Vec<u8>> {
        let request = match self.kind {
            Kind::Control => {
                let end = self.input.iter().position(|byte| *byte == 0)?;
                let mut request: Vec<u8> = self.input.drain(..=end).collect();
                request.pop();
                request
            }
            Kind::Metrics | Kind::Agent => std::mem::take(&mut self.input),
        };
        self.is_whole = self.has_whole();
        Some(request)
    }

    /// Throws away what it has said.
    pub(super) fn forget(&mut self) {
        self.input.clear();
        self.is_whole = false;
    }

    /// Whether its next request is to be looked at, or the next part of its answer to be made.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let is_free = self.output.is_empty() && !self.is_closing;
        is_free
            && match &self.stream {
                Some(Stream::Changes(at, _)) => at.is_none_or(|at| at + CHANGES_INTERVAL <= now),
                Some(_) => true,
                None => self.has_request(),
            }
    }

    /// Whether it has said something that can be answered, or can never be.
    pub(super) fn has_request(&self) -> bool {
        self.is_whole || self.kind == Kind::Agent || self.has_ended() // of an agent check, that it is here is the question
    }

    fn has_whole(&self) -> bool {
        match self.kind {
            Kind::Control => self.input.contains(&0),
            Kind::Metrics => {
                let request = self.input.iter().position(|byte| !b"\r\n".contains(byte));
                let request = request.map_or(&[][..], |start| &self.input[start..]);
                request.windows(2).any(|end| end == b"\n\n") || request.windows(3).any(|end| end == b"\n\r\n")
            }
            Kind::Agent => false,
        }
    }

    /// Whether it waits for nothing: its last request is answered, and the next one has not begun.
    pub(super) fn is_idle(&self) -> bool {
        self.output.is_empty() && self.stream.is_none() && self.input.is_empty()
    }

    /// When it is closed, unless it does something: in the middle of a request or of an answer. One that is idle may stay, as long as
    /// there is room, but only after its first request.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let patience = self.kind.terms().patience;
        match &self.stream {
            Some(_) if self.output.is_empty() => None,
            _ => Some(self.since + if self.is_idle() && self.has_asked { patience * 60 } else { patience }),
        }
    }

    /// When there is something to do for it.
    pub(super) fn next_work(&self, now: Instant) -> Option<Instant> {
        match &self.stream {
            _ if self.is_due(now) => Some(now),
            Some(Stream::Changes(Some(at), _)) if self.output.is_empty() => Some(*at + CHANGES_INTERVAL),
            _ => None,
        }
    }

    /// Takes what it has said. `false`: it has gone.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        let room = self.kind.terms().request.saturating_sub(self.input.len());
        // It is not listened to, so what has happened is that it has left: only calls without replies (oneway) are still for somebody.
        if room == 0 || self.is_deaf {
            return self.is_whole && self.stream.is_none();
        }
        let mut buffer = [0; 4096];
        let part = room.min(buffer.len());
        match receive(&self.fd, &mut buffer[..part], false) {
            Ok(Received::Bytes(0)) => {
                self.fd.ended();
                self.is_deaf = true;
                !self.is_idle() && !self.is_closing
            }
            Ok(Received::Bytes(_)) if self.is_closing => true,
            Ok(Received::Bytes(got)) => {
                // A request has its time from its first byte on: one byte every now and then is no progress.
                if self.input.is_empty() {
                    self.since = now;
                }
                self.input.extend_from_slice(&buffer[..got]);
                self.is_whole = self.has_whole();
                true
            }
            Ok(Received::Loaded) => false,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Sends what it takes. `false`: it has gone, or has all that it is to get.
    pub(super) fn send(&mut self, now: Instant) -> bool {
        const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
        while !self.output.is_empty() {
            match send(self.fd.as_raw_fd(), &self.output, FLAGS) {
                Ok(sent) => {
                    self.output.drain(..sent);
                    self.since = now;
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => return true,
                Err(_) => return false,
            }
        }
        if self.is_closing {
            // What has come unread would make of a close a reset, which may overtake the answer (RFC 9112, 9.6).
            return shutdown(self.fd.as_raw_fd(), Shutdown::Write).is_ok() && !self.is_deaf;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_request_is_whole_with_its_last_byte_and_not_before() {
        for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\n\n", "\r\n\nGET / HTTP/1.0\r\nA: b\n\r\n"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let connection = Connection::restored(ClientFd::new(ours.into(), false), 0, 0).unwrap();
            let now = Instant::now();
            let mut asker = Asker::new(now, Kind::Metrics, connection, &Insiders::Unknown);
            for (nth, byte) in request.bytes().enumerate() {
                assert!(!asker.is_due(now), "after {nth} of {request:?}");
                theirs.write_all(&[byte]).unwrap();
                assert!(asker.hear(now));
            }
            assert!(asker.is_due(now));
            assert_eq!(asker.take_request(), Some(request.into()));
        }
    }
}
