//! The harness: starts the real `sockcap`, hands it sockets, listens to what it says, and ends it.
//!
//! A test waits for events (a log line, bytes, an end of file, a pidfd); `FUSE` only bounds a test that would hang.
//! The one thing without an event is that nothing happens: `QUIET` is how long that is watched.
//! Every daemon belongs to one test and is ended with it, by pid, together with the commands it started.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part of this")]

mod calls;
mod client;
mod control;
mod daemon;
mod journal;
mod manager;
mod soak;
mod socket;
mod start;
mod system;

pub use calls::*;
pub use client::*;
pub use control::*;
pub use daemon::*;
pub use journal::*;
pub use manager::*;
pub use soak::*;
pub use socket::*;
pub use start::*;
pub use system::*;

use std::io::{self, Write};
use std::time::Duration;

use nix::poll::PollFlags;

/// No wait is longer than this; reaching it is a failure.
pub const FUSE: Duration = Duration::from_secs(60);
/// How long "nothing happens" is watched.
pub const QUIET: Duration = Duration::from_millis(300);
/// The other side has closed or shut down its sending half; nix has no name for it.
pub const HANGUP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
/// What a refused client reads.
pub const BUSY: &str = "server at capacity\n";
/// What a client reads whose command could not be started.
pub const UNAVAILABLE: &str = "service unavailable\n";
/// A command that says its pid and then echoes.
pub const PID_CAT: &[&str] = &["/bin/sh", "-c", "echo $$; exec /bin/cat"];

/// Tells of a test that could not run here. Goes past the test runner's capture, so that it is seen.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {what}: {why}");
}

/// Whether mounts, other users and resource limits of other processes are ours to change.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a process is ours to look into that is closed to others of its user (CAP_SYS_PTRACE, which root lacks in some containers).
pub fn sees_all() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << CAP_SYS_PTRACE) != 0)
}
