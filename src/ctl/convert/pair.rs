//! What is converted, what comes of it, and what is worth a word.
#![forbid(unsafe_code)]

use super::names::Names;
use super::unit::Unit;
use std::net::SocketAddrV4;

/// A socket with Accept=yes and the template of its services, drop-ins included.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Before and after.
    pub names: Names,
    /// `FOO.socket`
    pub socket: Unit,
    /// `FOO@.service`
    pub service: Unit,
    /// The slice of the services, if there is a file for it.
    pub slice: Option<Unit>,
    /// Where all of it was read.
    pub files: Vec<String>,
    /// Whether they are units of a user's manager.
    pub is_user: bool,
}

/// Lines of a unit, by section.
pub type Lines = Vec<String>;

/// What will be different, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(pub Vec<String>);

impl Notes {
    /// Says something once.
    pub fn say(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

/// What the service has to know of its socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Addresses, as `ListenStream=` has them.
    pub listens: Vec<String>,
    /// `MaxConnections=`
    pub max_connections: u64,
    /// `MaxConnectionsPerSource=`, if it is a limit.
    pub max_per_source: Option<u64>,
    /// `Backlog=`
    pub backlog: Option<String>,
    /// `FileDescriptorName=` as it was, by which a command may know its connection.
    pub descriptor_name: Option<String>,
}

fn is_unix(listen: &str) -> bool {
    listen.starts_with(['/', '@', '%'])
}

fn is_tcp(listen: &str) -> bool {
    !is_unix(listen) && !listen.starts_with("vsock:")
}

impl Listening {
    /// Whether there are clients by UNIX sockets alone.
    pub fn is_unix(&self) -> bool {
        self.listens.iter().all(|listen| is_unix(listen))
    }

    /// Whether there are clients by TCP.
    pub fn is_tcp(&self) -> bool {
        self.listens.iter().any(|listen| is_tcp(listen))
    }

    /// Whether there may be clients by IPv6.
    pub fn may_be_ipv6(&self) -> bool {
        self.listens.iter().any(|listen| is_tcp(listen) && listen.parse::<SocketAddrV4>().is_err())
    }
}
