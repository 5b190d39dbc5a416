//! Listening sockets: adopted from systemd or opened here, accepted from, and the refusal that lingers.
#![forbid(unsafe_code)]

pub mod accept;
pub mod adopt;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod linger;
pub mod listeners;
pub mod open;
pub mod path;
pub mod place;
pub mod preamble;
pub mod proxy;
pub mod queries;
pub mod refusals;
pub mod resolve;
pub mod waiting;

use crate::sys::client_fd::ClientFd;
use crate::sys::socket::{self, Address, Ip};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// One socket to accept from: listening, non-blocking, close-on-exec.
#[derive(Debug)]
pub struct Listener {
    /// The socket. systemd holds the same open file, so it is never shut down.
    pub fd: ClientFd,
    /// `FileDescriptorName=` (systemd.socket(5)), or the address as given to `--listen`.
    pub name: Arc<str>,
    /// Its name too, but no other listener's: by it the next daemon knows it.
    pub label: String,
    /// Where it is bound.
    pub local: Address,
    /// Whether TCP_INFO tells about it.
    pub is_tcp: bool,
    /// Whether each connection must be asked for its own local address, since this one is a wildcard.
    pub is_wildcard: bool,
    /// Whether we made it; systemd's are only borrowed.
    pub opened_here: bool,
    /// Its path, if it is a UNIX socket that we made; dropped as soon as nobody is accepted any more, so that the next daemon may
    /// have it.
    pub path: Option<path::OwnPath>,
}

/// Why a socket cannot be accepted from; the words follow "cannot adopt fd 3 'name': ".
#[derive(Debug)]
pub enum AdoptError {
    /// It is closed, or the kernel said so.
    Io(io::Error),
    /// It is something else.
    Not(&'static str),
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            AdoptError::Io(error) => f.write_str(&crate::sys::plain(error)),
            AdoptError::Not(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for AdoptError {
    fn from(error: io::Error) -> Self {
        AdoptError::Io(error)
    }
}

impl Listener {
    /// Checks that connections can be accepted from `fd`, and makes it non-blocking.
    ///
    /// # Errors
    /// What it is instead: no socket, a datagram socket, a connection, bound but not listening.
    pub fn new(fd: OwnedFd, name: String) -> Result<Listener, AdoptError> {
        let domain = socket::domain(fd.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOTSOCK) => AdoptError::Not("not a listening socket but a file, FIFO or device"),
            _ => AdoptError::Io(error),
        })?;
        if !matches!(socket::kind(fd.as_fd())?, libc::SOCK_STREAM | libc::SOCK_SEQPACKET) {
            return Err(AdoptError::Not(
                "not a listening socket but a datagram or raw one (ListenStream= or ListenSequentialPacket= is needed)",
            ));
        }
        if !socket::is_listening(fd.as_fd())? {
            return Err(AdoptError::Not(
                "not a listening socket but a connection or an unconnected one (Accept=no is needed)",
            ));
        }
        if !matches!(domain, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX | libc::AF_VSOCK) {
            return Err(AdoptError::Not("not a listening socket of TCP, UNIX or VSOCK"));
        }
        let local = socket::local_address(fd.as_fd())?;
        // Shared with systemd, which clears it at each start (NonBlocking=no), so it is ours to set.
        let flags = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL).map_err(io::Error::from)?;
        let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags)).map_err(io::Error::from)?;
        let is_wildcard = matches!(&local, Address::Ip(at) if at.ip().is_unspecified());
        let is_tcp = socket::tcp_info(fd.as_fd()).is_ok();
        let fd = ClientFd::new(fd, domain == libc::AF_UNIX);
        let (label, name) = (name.clone(), name.into());
        Ok(Listener { fd, name, label, local, is_tcp, is_wildcard, opened_here: false, path: None })
    }

    /// Connections that wait in the kernel's queue; `None` where only TCP would tell.
    pub fn queued(&self) -> Option<u32> {
        self.is_tcp.then(|| socket::tcp_info(self.fd.as_fd()).ok()).flatten().map(|info| info.queued)
    }
}

/// Writes an address for people: `127.0.0.1:873`, a path, `@name`, `vsock:2:873`.
pub struct DisplayAddr<'a>(pub &'a Address);

impl fmt::Display for DisplayAddr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Address::Ip(at @ SocketAddr::V6(_)) => write!(f, "[{}]:{}", Ip(at), at.port()),
            Address::Ip(at) => write!(f, "{at}"),
            Address::Unix(Some(name)) => f.write_str(&String::from_utf8_lossy(name)),
            Address::Unix(None) => f.write_str("an unnamed UNIX socket"),
            Address::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Address::Other => f.write_str("an unknown address"),
        }
    }
}
