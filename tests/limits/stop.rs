//! The end of a service: every process of its cgroup is ended within one deadline, whatever commands have left behind.

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::Write;

/// Leaves two processes behind.
const LEAVES_TWO: &[&str] =
    &["/bin/sh", "-c", "sleep 100000 <&- >&- & sleep 100000 <&- >&- & read -r word; echo $word"];

#[track_caller]
fn leaves_two(daemon: &Daemon) {
    let mut client = daemon.connect();
    client.write_all(b"left\n").expect("write");
    assert_eq!(to_end(client), "left\n");
}

/// Commands and what they have left behind are not the same, and each is called what it is.
#[test]
fn a_stop_says_what_it_ends() {
    let Some(mut manager) = Manager::new("the words of a stop", &["a"]) else { return };
    let mut daemon = manager.start(sockcap(&["--drain-timeout", "1min"]).run(LEAVES_TWO));
    leaves_two(&daemon);
    until("the command's end", || daemon.commands().is_empty());
    daemon.signal(Signal::SIGTERM);
    daemon.wait_text("SIGTERM: accepting no more connections; no commands are running");
    daemon.wait_text("sending SIGTERM to 2 processes left behind by commands");
    assert_eq!(daemon.totals().served, 1);
    assert_eq!(manager.processes(), []);

    let Some(mut manager) = Manager::new("the words of a stop", &["a"]) else { return };
    let mut daemon = manager.start(sockcap(&["--drain-timeout", "0"]).run(LEAVES_TWO));
    leaves_two(&daemon);
    until("the command's end", || daemon.commands().is_empty());
    let running = daemon.connect();
    until("the next one's two", || manager.processes().len() == 1 + 2 + 3);
    daemon.signal(Signal::SIGTERM);
    // Its own two are in its group.
    daemon.wait_text("sending SIGTERM to 1 command still running and 2 other processes of the service");
    assert_eq!(daemon.totals().served, 2);
    assert_eq!(to_end(running), "");
    assert_eq!(manager.processes(), []);
}

/// Each link ignores SIGTERM, starts the next in a session of its own, and ends. The stop has one deadline, and one line for each signal.
#[test]
fn a_chain_of_processes_does_not_prolong_a_stop() {
    let Some(mut manager) = Manager::new("a chain of processes", &["a"]) else { return };
    let dir = TempDir::new();
    let link = dir.join("link");
    // It is over when its file is gone.
    let script = b"#!/bin/sh\ntrap '' TERM\nexec >&- <&-\nsleep 0.05\nsetsid \"$0\" &\n";
    write_program(&link, script);
    let mut daemon = manager.start(sockcap(&["--drain-timeout", "1min", "--kill-grace", "1s"]).run(&[link]));
    assert_eq!(to_end(daemon.connect()), "");
    daemon.signal(Signal::SIGTERM);
    let totals = daemon.totals();
    assert_eq!(totals.served, 1);
    assert_eq!(manager.processes(), []);
    assert_eq!(daemon.count("sending SIGTERM to "), 1, "{:#?}", daemon.log());
    assert_eq!(daemon.count("sending SIGKILL to "), 1, "{:#?}", daemon.log());
}

/// What commands have left behind is ended by a stop of the service, and by nobody if that is not active any more.
#[test]
fn no_idle_exit_from_what_commands_have_left_behind() {
    let Some(mut manager) = Manager::new("an idle exit", &["a"]) else { return };
    let start = || sockcap(&["--idle-exit", "100ms"]).run(LEAVES_TWO);
    let mut daemon = manager.start(start());
    let of_daemon = pidfd(daemon.pid());
    leaves_two(&daemon);
    until("the command's end", || daemon.commands().is_empty());
    let left: Vec<Pid> = manager.processes().into_iter().filter(|pid| *pid != daemon.pid()).collect();
    assert_eq!(left.len(), 2);
    assert!(!ready(&of_daemon, PollFlags::POLLIN, QUIET), "it left them to nobody");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_text("sending SIGTERM to 2 processes left behind by commands");
    assert_eq!(daemon.totals().served, 1);
    assert_eq!(manager.processes(), []);

    // Once they have ended it is idle.
    let mut daemon = manager.start(start());
    leaves_two(&daemon);
    until("the command's end", || daemon.commands().is_empty());
    manager
        .processes()
        .into_iter()
        .filter(|pid| *pid != daemon.pid())
        .for_each(|pid| kill(pid, Signal::SIGKILL).expect("kill"));
    daemon.wait_text("idle for ");
    assert_eq!(daemon.totals().served, 1);
}

/// One that has left for a session of its own, and one in the command's group that ignores SIGTERM and holds the connection.
const LEAVES_ITS_GROUP: &[&str] = &[
    "/bin/sh",
    "-c",
    "setsid sleep 100000 <&- >&- 2>&- & echo $!; trap '' TERM; sleep 100000 2>&- & trap - TERM; exec sleep 100000 2>&-",
];

/// Without a cgroup of its own a command ends with its process group. Whoever has left that lives on, until the service is stopped; and
/// without a service manager then, too.
#[test]
fn who_has_left_its_group_is_ended_by_a_stop_of_the_service_alone() {
    let Some(mut manager) = Manager::new("who has left its group", &["a"]) else { return };
    let folder = ControlFolder::new("left");
    let socket = folder.socket().display().to_string();
    for is_managed in [true, false] {
        let args = ["--time-limit", "4s", "--kill-grace", "100ms", "--drain-timeout", "1min", "--control", &socket];
        let start = || sockcap(&args).run(LEAVES_ITS_GROUP);
        let mut daemon =
            if is_managed { manager.start(start()) } else { start().args(&["--listen", "127.0.0.1:0"]).start() };
        let mut left = Vec::new();
        for is_asked in [false, true] {
            let mut client = daemon.connect();
            let pid = Pid::from_raw(line(&mut client).parse().expect("a pid"));
            until("it has left", || nix::unistd::getsid(Some(pid)) == Ok(pid));
            left.push((pid, pidfd(pid)));
            if is_asked {
                Control::connect(&folder.socket()).call("Stop", serde_json::json!({ "id": 2 }));
            }
            assert_eq!(to_end(client), "", "its group is killed");
        }
        let is_over = |wait| left.iter().map(|(_, fd)| ready(fd, PollFlags::POLLIN, wait)).collect::<Vec<_>>();
        assert_eq!(is_over(std::time::Duration::ZERO), [false, false]);
        daemon.signal(Signal::SIGTERM);
        // How many it names depends on whether those that were killed are gone by now.
        assert_eq!(daemon.totals().served, 2);
        if !is_managed {
            assert_eq!(is_over(std::time::Duration::ZERO), [false, false]);
            left.iter().for_each(|(pid, _)| kill(*pid, Signal::SIGKILL).expect("kill"));
        }
        assert_eq!(is_over(FUSE), [true, true]);
    }
}
