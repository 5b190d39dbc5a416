//! What whoever starts sockcap leaves to it: ignored signals, and children that are not its own.

use crate::common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// nohup(1) and a shell's background jobs start programs with signals ignored: the daemon goes on, and its commands have the
/// default action.
#[test]
fn what_was_ignored_at_the_start_stays_ignored() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"])
        .prelude("trap '' HUP INT")
        .run(&["/bin/sh", "-c", "grep SigIgn /proc/$$/status; exec /bin/cat"])
        .start();
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        daemon.signal(signal);
        // The signal is seen before the client, which came after it.
        let mut client = daemon.connect();
        let ignored = line(&mut client);
        assert_eq!(ignored.split_whitespace().last(), Some("0000000000000000"), "{ignored}");
        echoes(&mut client);
    }
    assert_eq!(daemon.stop().served, 2);
}

/// As PID 1 of a container: processes that a command leaves behind become children of the daemon, and are reaped when they end,
/// also if no command runs.
#[test]
fn orphans_are_reaped() {
    let leave = "for i in 1 2 3 4 5; do sleep 600 < /dev/null > /dev/null 2>&1 & echo $!; done";
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(&["/bin/sh", "-c", leave]).subreaper().start();
    let said = to_end(daemon.connect());
    let orphans: Vec<Pid> = said.lines().map(|pid| Pid::from_raw(pid.parse().expect("a pid"))).collect();
    assert_eq!(orphans.len(), 5, "{said:?}");
    let is_left = |pid: &Pid| orphans.contains(pid);
    until("the command is reaped, and what it left is the daemon's", || {
        let children = daemon.commands();
        children.len() == orphans.len() && children.iter().all(is_left)
    });
    for orphan in &orphans {
        kill(*orphan, Signal::SIGKILL).expect("kill");
    }
    until("no child is left", || daemon.commands().is_empty());
    assert_eq!(daemon.stop().served, 1);
}
