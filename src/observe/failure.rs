//! The last word of a program that cannot start or go on: one line on stderr, and, as a service, where its administrator looks:
//! an entry in the journal with priority and `MESSAGE_ID`, even if stderr goes elsewhere, and the status that
//! `systemctl status` shows.
#![forbid(unsafe_code)]

use super::event::Event;
use super::log::{IDENTIFIER, JOURNAL_SOCKET};
use super::notify::Notify;
use crate::sys::socket;
use nix::poll::{PollFd, PollFlags, poll};
use std::env;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

/// Milliseconds that a reader of stderr which is behind is waited for.
const PATIENCE: u16 = 500;
/// Bytes that a pipe which says that it has room takes without a wait for its reader (pipe(7)).
const AT_ONCE: usize = libc::PIPE_BUF;

/// Tells `line`. Waits for nobody, but for a few seconds for a manager that does not read its socket.
pub fn tell(line: String) {
    // A client's name or an argument must not forge a second line, field or variable.
    let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let is_service = is_service();
    if is_service {
        Notify::from_environment(Instant::now()).last_status(&line);
    }
    let is_in_journal = is_service && write_entry(&Event::Failed { line: line.clone() });
    if is_in_journal && is_socket(io::stderr()) {
        return; // the journal's again, or a client's, or one that listens
    }
    let prefix = if libsystemd::logging::connected_to_journal() { "<3>" } else { "" };
    // Nobody may be there to read it; the exit code says the same.
    let stderr = io::stderr();
    if poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], PATIENCE).is_ok_and(|ready| ready > 0) {
        let _ = (&stderr).write_all(bounded(format!("{prefix}sockcap: {line}")).as_bytes());
    }
}

/// With its end of line, in one piece: an argument that is named may be longer than what a pipe takes at once.
fn bounded(mut line: String) -> String {
    const CUT: &str = "...";
    if line.len() >= AT_ONCE {
        let most = AT_ONCE - CUT.len() - 1;
        let end = (0..=most).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
        line.push_str(CUT);
    }
    line + "\n"
}

/// Whether systemd started this process. A terminal's shell has these variables from the service that it is part of.
fn is_service() -> bool {
    let has_variable = ["INVOCATION_ID", "NOTIFY_SOCKET"].iter().any(|name| env::var_os(name).is_some());
    has_variable && !io::stdin().is_terminal() && !io::stderr().is_terminal()
}

fn is_socket(file: impl AsFd) -> bool {
    socket::domain(file.as_fd()).is_ok()
}

/// Writes an entry to the journal (systemd.io/JOURNAL_NATIVE_PROTOCOL). Whether it was taken.
fn write_entry(event: &Event) -> bool {
    let (id, priority) = (event.message_id(), event.severity().number());
    let entry = format!("MESSAGE={event}\nMESSAGE_ID={id}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER={IDENTIFIER}\n");
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(entry.as_bytes(), JOURNAL_SOCKET)
    };
    send().is_ok()
}
