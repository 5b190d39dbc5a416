//! Commands that outlive their daemon: whatever became of it, the next one counts those that run, and nothing else.

use crate::common::*;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// At most so many, and each start and end told.
fn capped(max: u32) -> Start {
    sockcap(&["--verbose", "--max-connections", &max.to_string()])
}

/// A client that has been served already.
fn served(manager: &Manager, nth: usize) -> TcpStream {
    let mut stream = connect(manager.addr(nth));
    echoes(&mut stream);
    stream
}

/// Whoever comes is served or told to come back, until somebody is served.
fn until_served(manager: &Manager) -> TcpStream {
    let mut last = None;
    until("a client that is served", || {
        let mut stream = connect(manager.addr(0));
        let (_, mut first) = (stream.write_all(b"x"), [0]);
        let is_served = matches!(stream.read(&mut first), Ok(1)) && first == *b"x";
        last = is_served.then_some(stream);
        last.is_some()
    });
    last.expect("a client")
}

/// As a login shell's is: two logins are two commands, not four.
#[test]
fn a_session_that_a_command_starts_is_not_counted_after_a_crash() {
    let Some(mut manager) = Manager::new("sessions of commands", &["web"]) else { return };
    manager.stores = false;
    let command = ["/bin/sh", "-c", "setsid -w env -i /bin/cat; :"];
    let daemon = manager.start(capped(3).run(&command));
    let mut clients = [served(&manager, 0), served(&manager, 0)];
    manager.end(daemon, Signal::SIGKILL);
    let mut daemon = manager.start(capped(3).run(&command));
    daemon.wait_text(": 2 commands running");
    clients.iter_mut().for_each(echoes);
    let third = served(&manager, 0);
    refused(connect(manager.addr(0)));
    drop(third);
}

/// No descriptor, no memory, or a filter that forbids it: a pidfd that cannot be had is no end.
#[test]
fn a_command_without_a_pidfd_counts_until_it_ends() {
    let Some(mut manager) = Manager::new("commands without a pidfd", &["web"]) else { return };
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("commands without a pidfd", "strace is not installed or may not trace");
    }
    manager.stores = false;
    let daemon = manager.start(capped(2));
    let clients = [served(&manager, 0), served(&manager, 0)];
    manager.end(daemon, Signal::SIGKILL);
    for errno in ["EPERM", "EMFILE", "ENOMEM"] {
        let inject = format!("inject=pidfd_open:error={errno}");
        let mut daemon = manager.start(capped(2).wrap(&["strace", "-D", "-o", "/dev/null", "-e", &inject]));
        daemon.wait_text(": 2 commands running");
        refused(connect(manager.addr(0)));
        manager.end(daemon, Signal::SIGKILL);
    }
    let inject = "inject=pidfd_open:error=EPERM";
    let _daemon = manager.start(capped(2).wrap(&["strace", "-D", "-o", "/dev/null", "-e", inject]));
    drop(clients);
    let mut two = [until_served(&manager), until_served(&manager)];
    two.iter_mut().for_each(echoes);
}
