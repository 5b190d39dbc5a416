//! A cgroup for each connection, made ahead, used once, and gone after it.

use crate::common::*;
use crate::group::{Group, cgroup_of};
use std::fs;

/// How many are ready for those who come.
const AHEAD: usize = 8;

#[test]
fn each_command_has_one_that_is_gone_after_it() {
    let Some(group) = Group::new() else { return };
    let daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    assert_eq!(cgroup_of(daemon.pid().as_raw()), format!("daemon-{}", daemon.pid()));
    let sessions: Vec<Session> = (0..3).map(|_| Session::open(daemon.addr(0))).collect();
    for (session, id) in sessions.iter().zip(1..) {
        assert_eq!(cgroup_of(session.pid.as_raw()), format!("conn-{id}"));
    }
    assert_eq!(group.living(), [1, 2, 3]);
    sessions.into_iter().for_each(Session::leave);
    until("none is left but those that are ready", || {
        let mut ids = group.ids();
        ids.sort_unstable();
        ids == (4..4 + AHEAD as u64).collect::<Vec<_>>()
    });
}

#[test]
fn a_burst_has_one_each() {
    let Some(group) = Group::new() else { return };
    let daemon = group.sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "40"]).run(PID_CAT).start();
    let streams: Vec<_> = (0..40).map(|_| daemon.connect()).collect();
    let sessions: Vec<Session> = streams.into_iter().map(Session::of).collect();
    let mut names: Vec<String> = sessions.iter().map(|session| cgroup_of(session.pid.as_raw())).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 40);
    assert_eq!(group.living(), (1..=40).collect::<Vec<u64>>());
    refused(daemon.connect());
    sessions.into_iter().for_each(Session::leave);
    until("those are gone", || group.ids().len() <= AHEAD);
}

/// Kernels from 5.14 to 6.18 kill at birth what is born of a process in a cgroup that was killed once, as a manager does it to a unit.
#[test]
fn one_that_was_killed_before_does_no_harm() {
    let Some(group) = Group::new() else { return };
    fs::write(group.path().join("cgroup.kill"), "1").expect("cgroup.kill");
    let mut daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    for _ in 0..20 {
        Session::open(daemon.addr(0)).leave();
    }
    assert_eq!(daemon.stop().served, 20);
}

#[test]
fn each_is_used_once() {
    let Some(group) = Group::new() else { return };
    let folder = ControlFolder::new("apart-once");
    let daemon = group.sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "20"]);
    let daemon = daemon.args(&["--control", &folder.socket().display().to_string()]).run(PID_CAT).start();
    let mut control = Control::connect(&folder.socket());
    for round in 0..3 {
        let sessions: Vec<Session> = (0..20).map(|_| Session::open(daemon.addr(0))).collect();
        for id in group.living() {
            control.call("Stop", serde_json::json!({ "id": id, "force": true }));
        }
        for session in sessions {
            to_end(session.stream);
        }
        until("their slots are free", || control.runtime()["active"] == 0);
        assert!(group.living().is_empty(), "round {round}");
    }
    until("those are gone", || group.ids().len() <= AHEAD);
}

#[test]
fn what_a_command_makes_below_its_own_goes_with_it() {
    let Some(group) = Group::new() else { return };
    let daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let session = Session::open(daemon.addr(0));
    let below = group.path().join("conn-1/a/b");
    fs::create_dir_all(&below).expect("cgroups");
    fs::write(below.join("cgroup.procs"), session.pid.to_string()).expect("to move it");
    assert!(group.is_populated(1));
    session.leave();
    until("it is gone", || !group.path().join("conn-1").exists());
}

#[test]
fn a_command_that_cannot_be_executed_leaves_none() {
    let Some(group) = Group::new() else { return };
    let folder = TempDir::new();
    let script = folder.join("script");
    write_program(&script, b"#!/bin/sh\nexit 0\n");
    let daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).run(&[script.as_str()]).start();
    assert_eq!(to_end(daemon.connect()), "");
    fs::remove_file(&script).expect("to remove it");
    for _ in 0..3 {
        assert_eq!(to_end(daemon.connect()), UNAVAILABLE);
    }
    group.until_empty();
    until("none is left but those that are ready", || group.ids().len() <= AHEAD);
}

#[test]
fn it_has_to_be_ours_alone() {
    let Some(group) = Group::new() else { return };
    let mut other = std::process::Command::new("sleep").arg("100000").spawn().expect("sleep");
    fs::write(group.path().join("cgroup.procs"), other.id().to_string()).expect("to move it");
    let line = group.sockcap(&["--listen", "127.0.0.1:0"]).output().one_line(&[1]);
    other.kill().expect("to end it");
    other.wait().expect("its end");
    assert!(line.contains("cannot give each connection a cgroup (--isolate=cgroup)"), "{line}");
    assert!(line.contains("other processes are in it"), "{line}");
}

#[test]
fn where_there_is_none_it_is_said_or_the_start_fails() {
    let Some(group) = Group::new() else { return };
    // Nobody may make one there.
    let start = |isolate: &str| {
        let start =
            sockcap(&["--listen", "127.0.0.1:0", isolate]).wrap(&["setpriv", "--reuid=65534", "--clear-groups"]);
        start.prelude(&format!("echo $$ >{}/cgroup.procs", group.path().display()))
    };
    let line = start("--isolate=cgroup").output().one_line(&[1]);
    assert!(line.contains("Permission denied (EACCES) (the unit needs Delegate=yes)"), "{line}");
    let mut daemon = start("--isolate=-cgroup").start();
    assert_eq!(daemon.count("commands run without --isolate=cgroup, which cannot be had here: "), 1);
    echoes(&mut daemon.connect());
    assert!(group.ids().is_empty());
}

/// Two daemons would take each other for what an earlier one has left.
#[test]
fn a_second_daemon_in_one_group_does_not_start() {
    let Some(group) = Group::new() else { return };
    let mut first = group.sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let session = Session::open(first.addr(0));
    let line = group.sockcap(&["--listen", "127.0.0.1:0"]).output().one_line(&[1]);
    let first_pid = first.pid().to_string();
    assert!(line.contains(&format!("process {first_pid}, another sockcap, makes cgroups in ")), "{line}");
    session.leave();
    Session::open(first.addr(0)).leave();
    assert_eq!(first.stop().served, 2);
    let left = fs::read_dir(group.path()).expect("its folder").flatten().filter(|entry| entry.path().is_dir());
    assert_eq!(
        left.map(|entry| entry.file_name()).collect::<Vec<_>>(),
        [""; 0],
        "of the one that ended, and the one that did not start"
    );
}
