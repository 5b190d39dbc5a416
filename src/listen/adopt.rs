//! Sockets from systemd: LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID, LISTEN_PIDFDID (sd_listen_fds(3)).
//!
//! All or nothing: the first descriptor that cannot be accepted from is named, and nothing is adopted.
#![forbid(unsafe_code)]

use super::Listener;
use crate::sys::{process, socket};
use std::env;
use std::os::fd::IntoRawFd;

/// First passed descriptor (`SD_LISTEN_FDS_START`).
const START: i32 = 3;
/// More than any manager passes; larger numbers would make the library allocate by them.
const MOST: usize = 65_536;

/// The sockets passed to this process; empty if none were. Call it once, before threads exist.
///
/// # Errors
/// One line that names the variable or the descriptor.
pub fn from_environment() -> Result<Vec<Listener>, String> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    let for_us = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
    let same_process = env::var("LISTEN_PIDFDID").map_or(true, |id| match process::own_pidfd_inode() {
        Some(own) => id.parse() == Ok(own),
        None => true,
    });
    if !for_us || !same_process {
        return Ok(Vec::new());
    }
    let number: usize = count
        .parse()
        .ok()
        .filter(|n| *n <= MOST)
        .ok_or_else(|| format!("cannot adopt sockets: LISTEN_FDS={count} is not a number from 0 to {MOST}"))?;
    let mut names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    if number > 0 && names.is_empty() {
        names = "unknown".into();
    }
    let mut names = names.split(':');
    let mut name = || names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
    let all: Vec<(i32, String)> = (0..number).map(|i| (START + i as i32, name())).collect();
    for (fd, name) in &all {
        // Asked of each before any is owned, so that a hole is named and not just counted.
        if std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
            return Err(format!("cannot adopt fd {fd} '{name}': LISTEN_FDS={count}, but it is closed"));
        }
    }
    let received = libsystemd::activation::receive_descriptors(false)
        .map_err(|error| format!("cannot adopt the {count} sockets of LISTEN_FDS: {error}"))?;
    let mut listeners = Vec::with_capacity(number);
    for (passed, (fd, name)) in received.into_iter().zip(all) {
        let unfit = |why: super::Unfit| format!("cannot adopt fd {fd} '{name}': {why}");
        let owned = socket::adopt(passed.into_raw_fd()).map_err(|error| unfit(error.into()))?;
        listeners.push(Listener::new(owned, name.clone()).map_err(unfit)?);
    }
    Ok(listeners)
}
