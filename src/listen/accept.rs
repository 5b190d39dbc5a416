//! Accepting one connection: who it is, how long it waited, and what kind of trouble an error means.
#![forbid(unsafe_code)]

use super::Listener;
use super::proxy::{Header, MAX_V2};
use crate::peer::Peer;
use crate::policy::arrival::ListenerId;
use crate::policy::grounds::HeaderFault;
use crate::policy::source::Source;
use crate::sys::client_fd::ClientFd;
use crate::sys::receive::{self, Received};
use crate::sys::socket::{self, Address, TCP_CLOSE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// A connection that has been accepted and not yet been decided upon.
#[derive(Debug)]
pub struct Connection {
    /// The socket: blocking, close-on-exec.
    pub fd: ClientFd,
    /// Which listener it came from.
    pub listener: ListenerId,
    /// Whether TCP_INFO tells about it.
    is_tcp: bool,
    /// The client.
    pub peer: Peer,
    /// Microseconds between the end of the handshake and accept (1 ms steps), plus the time it was held; `None`
    /// where only TCP tells and it was not held.
    pub waited_usec: Option<u64>,
    /// The address that the client connected to, as its PROXY header says; else ours is it.
    pub local: Option<Address>,
    /// Bytes of a PROXY header that are still in front of the client's own.
    header: usize,
    /// Whether that names nobody: the proxy is the peer.
    is_nobody_s: bool,
}

impl Connection {
    fn new(fd: ClientFd, listener: ListenerId, is_tcp: bool, address: Address) -> Connection {
        let peer = peer_at(&fd, address);
        Connection { fd, listener, is_tcp, peer, waited_usec: None, local: None, header: 0, is_nobody_s: false }
    }

    /// Whom limits count it for. A proxy that names no client is nobody: its health checks, and all clients that it does not know, must
    /// not be refused for each other.
    pub fn source(&self) -> Source {
        if self.is_nobody_s { Source::Unknown } else { self.peer.source() }
    }

    /// Since when it has waited: the end of the handshake, where TCP tells; elsewhere accept, which is `now`.
    pub fn since(&self, now: Instant) -> Instant {
        let waited = Duration::from_micros(self.waited_usec.unwrap_or(0));
        now.checked_sub(waited).unwrap_or(now)
    }

    /// Whether the client gave up while it queued. Costs a system call: do it before spawning, not before refusing. The same call
    /// says how long it has waited, unless that is known.
    pub fn is_gone(&mut self) -> bool {
        if !self.is_tcp {
            return has_left(&self.fd, self.header);
        }
        tcp_wait(&self.fd).is_some_and(|(usec, state)| {
            self.waited_usec.get_or_insert(usec);
            state == TCP_CLOSE
        })
    }

    /// Whether the client has shut down its side and sent nothing that is still to be read.
    pub fn has_nothing_to_say(&self) -> bool {
        match self.header {
            0 => recv(self.fd.as_raw_fd(), &mut [0], PEEK) == Ok(0),
            header => receive::is_half_closed(self.fd.as_fd()) && says_nothing(&self.fd, header),
        }
    }

    /// It has waited so long since accept, where TCP does not tell for how long.
    pub fn has_waited(&mut self, span: Duration) {
        if !self.is_tcp {
            self.waited_usec.get_or_insert(span.as_micros() as u64);
        }
    }

    /// This header is in front of what the client says. Whom it names takes the proxy's place, without the proxy's credentials.
    pub fn comes_with(&mut self, header: Header) {
        self.header = header.length;
        self.is_nobody_s = header.ends.is_none();
        if let Some((from, to)) = header.ends {
            self.peer = Peer::new(from, None);
            self.local = Some(to);
        }
    }

    /// Whether its PROXY header, or some of it, is still to be read.
    pub fn is_headed(&self) -> bool {
        self.header > 0
    }

    /// Takes the PROXY header away, if there is one: what follows is the client's own.
    ///
    /// # Errors
    /// What is wrong with it; `None`: the client has gone.
    pub fn take_header(&mut self) -> Result<(), Option<HeaderFault>> {
        if self.header == 0 {
            return Ok(());
        }
        match receive::take(&self.fd, self.header) {
            Ok(Received::Bytes(_)) => self.header = 0,
            Ok(Received::Loaded) => return Err(Some(HeaderFault::Broken("descriptors passed with it"))),
            Err(_) => return Err(None),
        }
        Ok(())
    }
}

/// To look without taking, and without waiting.
pub(super) const PEEK: MsgFlags = MsgFlags::MSG_PEEK.union(MsgFlags::MSG_DONTWAIT);

/// Whether nothing is there to be read, or no more than a header of this length.
fn says_nothing(fd: impl AsFd, header: usize) -> bool {
    let mut buffer = [0; MAX_V2 + 1];
    let room = (header + 1).min(buffer.len());
    recv(fd.as_fd().as_raw_fd(), &mut buffer[..room], PEEK).map_or(true, |seen| seen <= header)
}

impl Connection {
    /// A connection that an earlier daemon accepted, and that had waited so long when that daemon ended.
    ///
    /// # Errors
    /// If the client has left.
    pub fn restored(fd: ClientFd, listener: ListenerId, waited_usec: u64) -> io::Result<Connection> {
        let address = socket::peer_address(fd.as_fd())?;
        // TCP still knows it better: nothing has been sent since the handshake.
        let wait = tcp_wait(&fd).map(|(usec, _)| usec);
        let connection = Connection::new(fd, listener, wait.is_some(), address);
        Ok(Connection { waited_usec: wait.or(Some(waited_usec)), ..connection })
    }
}

fn peer_at(fd: &ClientFd, address: Address) -> Peer {
    let credentials = match address {
        Address::Unix(_) => socket::peer_credentials(fd.as_fd()).ok(),
        _ => None,
    };
    Peer::new(address, credentials)
}

/// Who is at the other end of a connection that was accepted a while ago. TCP does not tell any more once it was reset.
pub fn peer(fd: &ClientFd) -> Peer {
    peer_at(fd, socket::peer_address(fd.as_fd()).unwrap_or(Address::Other))
}

/// How many microseconds ago the handshake of a connection that was sent nothing ended, and its TCP state; `None` where it is
/// not TCP.
pub fn tcp_wait(fd: &ClientFd) -> Option<(u64, u8)> {
    let info = socket::tcp_info(fd.as_fd()).ok()?;
    Some((u64::from(info.idle_ms) * 1000, info.state))
}

/// What came of one accept(2).
#[derive(Debug)]
pub enum Accepted {
    /// A client, which may have left again.
    Connection(Connection),
    /// A client that the network took away while it queued.
    PeerGone(io::Error),
    /// Nobody waits.
    Nothing,
    /// Out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`): the client still waits.
    Exhausted(io::Error),
    /// Forbidden for now, and at this listener alone: the client still waits, and the next try may find the same.
    Forbidden(io::Error),
    /// The listener itself is of no more use.
    Broken(io::Error),
}

/// Accepts the oldest waiting connection of `listener`.
pub fn accept(listener: &Listener, id: ListenerId) -> Accepted {
    match socket::accept(listener.fd.as_fd()) {
        Ok((fd, address)) => {
            let is_loadable = !matches!(address, Address::Ip(_) | Address::Vsock { .. });
            Accepted::Connection(Connection::new(ClientFd::new(fd, is_loadable), id, listener.is_tcp, address))
        }
        Err(error) => classify(error),
    }
}

/// A peer that closed both directions and left nothing to read. A mere half-close is a client that
/// waits for its answer. A PROXY header of this length is nothing that it says.
fn has_left(fd: impl AsFd, header: usize) -> bool {
    let mut asked = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    if poll(&mut asked, PollTimeout::ZERO).is_err() {
        return false;
    }
    let got = asked[0].revents().unwrap_or(PollFlags::empty());
    if got.contains(PollFlags::POLLERR) {
        return true;
    }
    got.contains(PollFlags::POLLHUP) && says_nothing(fd, header)
}

/// accept(2) "Error handling": what the network did to one connection comes back from accept and means
/// only that this one is gone.
fn classify(error: io::Error) -> Accepted {
    match error.raw_os_error().unwrap_or(0) {
        libc::EAGAIN | libc::EINTR => Accepted::Nothing,
        libc::ECONNABORTED
        | libc::ECONNRESET
        | libc::EPROTO
        | libc::ENETDOWN
        | libc::ENOPROTOOPT
        | libc::EHOSTDOWN
        | libc::ENONET
        | libc::EHOSTUNREACH
        | libc::EOPNOTSUPP
        | libc::ENETUNREACH
        | libc::ETIMEDOUT => Accepted::PeerGone(error),
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => Accepted::Exhausted(error),
        libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT => Accepted::Broken(error),
        // EPERM and EACCES of a firewall or a security module, whatever a seccomp filter returns: rules can change.
        _ => Accepted::Forbidden(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_classes() {
        let class = |errno| classify(io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS] {
            assert!(matches!(class(errno), Accepted::Exhausted(_)));
        }
        for errno in [libc::ECONNABORTED, libc::EPROTO] {
            assert!(matches!(class(errno), Accepted::PeerGone(_)));
        }
        assert!(matches!(class(libc::EAGAIN), Accepted::Nothing));
        for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
            assert!(matches!(class(errno), Accepted::Forbidden(_)));
        }
        assert!(matches!(class(libc::EBADF), Accepted::Broken(_)));
    }

    #[test]
    fn a_closed_unix_peer_has_left_and_a_half_closed_one_has_not() {
        use std::io::Write;
        use std::net::Shutdown;
        use std::os::unix::net::UnixStream;
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert!(!has_left(&ours, 0));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        drop(theirs);
        assert!(!has_left(&ours, 0), "what it sent is still to be served");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(has_left(&ours, 0));
    }
}
