//! Commands: their words and environment, their start, and which of them are running.
#![forbid(unsafe_code)]

pub mod adopted;
pub mod attributes;
pub mod cgroup;
pub mod cgroups;
pub mod commands;
pub mod environment;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod ledger;
mod oom;
pub mod pressure;
pub mod proc;
pub mod program;
pub mod rlimit;
pub mod running;
pub mod signals;
pub mod strays;
pub mod survivors;
pub mod template;
pub mod times;
pub mod victim;
pub mod watched;

use crate::peer::Peer;
use crate::sys::socket::Address;

/// All that a command's words may tell about its connection.
#[derive(Debug)]
pub struct ConnectionInfo<'a> {
    /// Number of the connection since the daemon's start, from 1.
    pub id: u64,
    /// Name of the listener.
    pub listener: &'a str,
    /// Its name too, but no other listener's.
    pub label: &'a str,
    /// The client.
    pub peer: &'a Peer,
    /// Our end.
    pub local: &'a Address,
    /// SO_COOKIE, if the kernel told.
    pub cookie: Option<u64>,
    /// Connections of the same source that are being served, this one included.
    pub of_source: u32,
}
