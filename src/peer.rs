//! The other end of a connection: plain data that `listen` finds out, `child` passes on and `observe` tells.
#![forbid(unsafe_code)]

use crate::policy::source::Source;
use crate::sys::socket::{Address, Ip};
use std::fmt;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address as accept(2) gave it; the name of a UNIX peer, which may be any bytes, as `escaped` has it.
    pub address: Address,
    /// Process, user and group of a UNIX peer when it connected.
    pub credentials: Option<(i32, u32, u32)>,
}

impl Peer {
    /// Nobody knows who it is.
    pub const UNKNOWN: Peer = Peer { address: Address::Other, credentials: None };

    /// At this address, with these credentials if it is a UNIX peer.
    pub fn new(address: Address, credentials: Option<(i32, u32, u32)>) -> Peer {
        let address = match address {
            Address::Unix(Some(name)) => Address::Unix(Some(escaped(&name))),
            other => other,
        };
        Peer { address, credentials }
    }

    /// The client that is counted for this source and came through this peer: the peer itself, or another that is known by its
    /// address alone (port 0).
    pub fn of_source(self, source: Source) -> Peer {
        match source {
            _ if self.source() == source => self,
            Source::Ip(ip) => Peer::new(Address::Ip((ip, 0).into()), None),
            _ => Peer::UNKNOWN,
        }
    }

    /// TCP or VSOCK port, or the process of a UNIX peer; 0 is not known.
    pub fn port(&self) -> u32 {
        match (&self.address, self.credentials) {
            (Address::Ip(at), _) => at.port().into(),
            (Address::Vsock { port, .. }, _) => *port,
            (_, Some((pid, ..))) => u32::try_from(pid).unwrap_or(0),
            _ => 0,
        }
    }

    /// The key to count it by.
    pub fn source(&self) -> Source {
        match (&self.address, self.credentials) {
            (Address::Ip(at), _) => Source::at(at),
            (Address::Vsock { cid, .. }, _) => Source::Cid(*cid),
            (_, Some((_, uid, _))) => Source::Uid(uid),
            _ => Source::Unknown,
        }
    }
}

/// A name that a client chose, safe to print and to pass on: escaped as systemd escapes `REMOTE_ADDR` (`cescape_length()`).
fn escaped(name: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            7 => out.extend(b"\\a"),
            8 => out.extend(b"\\b"),
            11 => out.extend(b"\\v"),
            12 => out.extend(b"\\f"),
            b'\\' | b'"' | b'\'' => out.extend([b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => out.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        }
    }
    out.into()
}

impl fmt::Display for Peer {
    /// `192.0.2.1 port 873`: a bare address, for tools that match log lines.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (&self.address, self.credentials) {
            (Address::Ip(at), _) => write!(f, "{} port {}", Ip(at), at.port()),
            (Address::Vsock { cid, port }, _) => write!(f, "vsock {cid} port {port}"),
            (_, Some((pid, uid, _))) => write!(f, "uid {uid} pid {pid}"),
            _ => f.write_str("an unknown peer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_s_port_or_process() {
        let unix = |pid| Peer::new(Address::Unix(None), Some((pid, 7, 7))).port();
        assert_eq!((unix(4242), unix(-1), unix(0)), (4242, 0, 0), "of another pid namespace it is 0");
        assert_eq!(Peer::new(Address::Ip("[2001:db8::1]:65535".parse().unwrap()), None).port(), 65535);
        assert_eq!(Peer::new(Address::Vsock { cid: 3, port: u32::MAX }, None).port(), u32::MAX);
        assert_eq!(Peer::UNKNOWN.port(), 0);
    }

    #[test]
    fn a_name_has_nothing_that_a_terminal_or_a_line_would_take_for_more() {
        let told = |name: &[u8]| String::from_utf8(escaped(name).into()).unwrap();
        assert_eq!(told(b"/run/a b-c~"), "/run/a b-c~");
        assert_eq!(told(b"@a\nb\x1b[2J\0\xc3\xa4\\\"'"), r#"@a\nb\033[2J\000\303\244\\\"\'"#);
    }
}
