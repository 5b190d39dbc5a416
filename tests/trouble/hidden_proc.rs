//! A sandbox that hides /proc (`InaccessiblePaths=/proc`, `TemporaryFileSystem=/:ro`): what is not known is said, and the rest goes on.

use crate::common::*;
use nix::sys::signal::Signal;
use std::process::Command;

/// What becomes sockcap in a mount namespace where /proc is empty.
const HIDDEN: [&str; 6] = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];

fn can_hide(what: &str) -> bool {
    let hidden = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/proc"]).output();
    let hidden = hidden.is_ok_and(|output| output.status.success());
    if !hidden {
        skip(what, "cannot mount");
    }
    hidden
}

/// Passed sockets are taken, the cap is exact, and nobody is lost at a hand-over.
#[test]
fn without_proc_a_service_starts_serves_and_hands_over() {
    let Some(mut manager) = Manager::new("a hidden /proc", &["web"]) else { return };
    if !can_hide("a hidden /proc") {
        return;
    }
    let start = || sockcap(&["--max-connections", "1", "--when-full", "wait", "--max-waiting", "1"]).wrap(&HIDDEN);
    let mut daemon = manager.start(start());
    let mut client = connect(manager.addr(0));
    echoes(&mut client);
    let busy = daemon.open_fds().len();
    let mut waits = connect(manager.addr(0));
    until("it is held", || daemon.open_fds().len() > busy);
    refused(connect(manager.addr(0)));
    assert_eq!(daemon.commands().len(), 1);
    daemon.wait_text("cannot search for processes of this service: ");
    assert_eq!(daemon.count("cannot search"), 1);
    manager.end(daemon, Signal::SIGUSR1);

    let mut daemon = manager.start(start());
    daemon.wait_text("took over from the previous daemon: 1 command running, 1 client ");
    echoes(&mut client);
    refused(connect(manager.addr(0)));
    assert_eq!(daemon.count("cannot search"), 1);
    drop(client);
    echoes(&mut waits);
    drop(waits);
    manager.end(daemon, Signal::SIGTERM);
}

/// A descriptor that is not there is named all the same.
#[test]
fn without_proc_a_closed_descriptor_is_named() {
    if !can_hide("a closed descriptor without /proc") {
        return;
    }
    let start = sockcap::<&str>(&[]).pass(tcp_listener("127.0.0.1:0", 16)).listen_fds("2").wrap(&HIDDEN);
    let line = start.output().mistake();
    assert!(line.contains("cannot adopt fd 4 'unknown': LISTEN_FDS=2, but it is closed"), "{line}");
}

/// `ProcSubset=pid` hides the load average, and a limit that is silently off is none.
#[test]
fn without_proc_the_load_is_known() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    if load.is_empty() || load.starts_with("0.0") {
        return skip("the load without /proc", "this machine has no load");
    }
    if !can_hide("the load without /proc") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--load-average", "0.001"]).wrap(&HIDDEN).start();
    let mut first = daemon.connect();
    echoes(&mut first);
    refused(daemon.connect());
    drop(first);
    daemon.stop();
}
