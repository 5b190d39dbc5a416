//! The other end of a connection: plain data that `listen` finds out, `child` passes on and `observe` tells.
#![forbid(unsafe_code)]

use crate::policy::source::Source;
use crate::sys::socket::Address;
use std::fmt;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address as accept(2) gave it.
    pub address: Address,
    /// Process, user and group of a UNIX peer when it connected.
    pub credentials: Option<(i32, u32, u32)>,
}

impl Peer {
    /// Nobody knows who it is.
    pub const UNKNOWN: Peer = Peer { address: Address::Other, credentials: None };

    /// The key to count it by.
    pub fn source(&self) -> Source {
        match (&self.address, self.credentials) {
            (Address::Ip(at), _) => Source::ip(at.ip()),
            (Address::Vsock { cid, .. }, _) => Source::Cid(*cid),
            (_, Some((_, uid, _))) => Source::Uid(uid),
            _ => Source::Unknown,
        }
    }
}

impl fmt::Display for Peer {
    /// `192.0.2.1 port 873`: a bare address, for tools that match log lines.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (&self.address, self.credentials) {
            (Address::Ip(at), _) => write!(f, "{} port {}", at.ip(), at.port()),
            (Address::Vsock { cid, port }, _) => write!(f, "vsock {cid} port {port}"),
            (_, Some((pid, uid, _))) => write!(f, "uid {uid} pid {pid}"),
            _ => f.write_str("an unknown peer"),
        }
    }
}
