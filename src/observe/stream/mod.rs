//! `--stderr stream`: each line that a command writes to its standard error is an entry of its own, with the number of its connection.
//!
//! A stream to journald has no such field (systemd-journald.service(8), `StandardError=journal`), so the lines are sent as native entries.
//! Who reads them is neither the loop nor anything in the daemon's process, but one process beside it, the collector: a command that floods
//! its standard error, or a journal that is stuck, costs the daemon nothing; no descriptor of a running command is in the daemon; and the
//! collector outlives it, so that a restart, an upgrade or a crash breaks no command's standard error.
//!
//! ```text
//!  daemon    link.rs        a pipe per command: the write end goes to the command, the read end to the collector
//!  collector collector.rs   reads all pipes in turn;  lines.rs cuts lines;  quota.rs counts them;  record.rs writes entries
//! ```
//!
//! The collector ends by itself once the daemon has closed its end of the link and every pipe is at its end.
#![forbid(unsafe_code)]

pub mod collector;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lines;
pub mod link;
mod quota;
mod record;

/// Name of the collector's process.
const NAME: &std::ffi::CStr = c"sockcap-stderr";
/// The first argument of a program that is to be a collector. It is no option: nobody but the daemon starts one.
const WAY_IN: &str = "--internal-collect-stderr";
/// Room for what the daemon says of a connection: more than names, an address and a path of a UNIX socket together can have.
const MAX_HEAD: usize = 4096;
