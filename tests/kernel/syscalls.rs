//! The system call budget: what one connection may cost the daemon, so that a later change cannot quietly add a call.
//!
//! Counted by strace over 1,000 connections of which each is over before the next begins: the case in which nothing can be shared.

use crate::common::*;
use std::collections::BTreeMap;
use std::fs;

const CONNECTIONS: u32 = 1000;
/// Start and stop.
const SLACK: f64 = 0.2;

/// Calls of the daemon's main thread by name, over [`CONNECTIONS`] connections; `None` if strace cannot be had.
fn counted(listen: &str, options: &[&str]) -> Option<BTreeMap<String, f64>> {
    if !can_trace("the system call budget") {
        return None;
    }
    let dir = TempDir::new();
    let table = dir.join("strace");
    let mut daemon = sockcap(&["--listen", listen])
        .args(options)
        // -D: the tracer is the grandchild, so that the daemon's pid is the one we started.
        .wrap(&["strace", "-D", "-o", &table])
        .run(&["/bin/echo", "done"])
        .start();
    for _ in 0..CONNECTIONS {
        assert_eq!(to_end(daemon.connect()), "done\n");
    }
    daemon.stop();
    // The tracer writes the last of it after the tracee's end.
    until("strace has written all", || fs::read_to_string(&table).is_ok_and(|text| text.contains("+++ exited with ")));
    Some(costs(&fs::read_to_string(&table).unwrap()))
}

/// Calls by name for each connection, without what comes with time, of which a slow machine needs more: waits that a timer ended, and what
/// raises the score of a command that lives longer than a moment.
fn costs(text: &str) -> BTreeMap<String, f64> {
    let mut costs = BTreeMap::new();
    let mut is_raising = false;
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('(') else { continue };
        if rest.contains("/oom_score_adj\"") {
            is_raising = !rest.contains(" = -1 ");
        } else if is_raising {
            is_raising = name != "close";
        } else if usual_name(name) != "epoll_wait" || !is_timer(rest) {
            *costs.entry(usual_name(name).to_owned()).or_default() += 1.0 / f64::from(CONNECTIONS);
        }
    }
    costs
}

/// Whether a wait with these arguments and this result, such as `4, [], 64, 11) = 0`, was ended by its time. One that has none is a look
/// that the daemon might have saved.
fn is_timer(wait: &str) -> bool {
    wait.ends_with(" = 0") && wait.split(", ").nth(3).is_some_and(|time| !time.starts_with('0'))
}

/// What a command gets of its own, its child sees to.
const ATTRIBUTES: [&str; 12] =
    ["--stderr", "null", "--nice", "1", "--limit", "core=0", "--limit", "nofile=64", "--umask", "7", "--chdir", "/"];

#[test]
fn one_connection_costs_ten_calls() {
    [&[][..], &ATTRIBUTES].into_iter().for_each(ten_calls);
}

#[track_caller]
fn ten_calls(options: &[&str]) {
    let Some(counts) = counted("127.0.0.1:0", options) else { return };
    let budget = [
        ("accept4", 1.0),    // takes it, with the peer's address
        ("getsockopt", 2.0), // TCP_INFO: is it still there, how long did it wait; SO_COOKIE
        ("clone", 1.0),
        ("close", 1.0),      // our copy
        ("epoll_wait", 2.0), // for the connection, for its end
        ("read", 1.0),       // the signalfd
        ("wait4", 2.0),      // the one that ended; and, while another lives, that it still does
        // std looks before it closes, in debug builds.
        ("fcntl", if cfg!(debug_assertions) { 1.0 } else { 0.0 }),
    ];
    for (name, calls) in &counts {
        let allowed = budget.iter().find(|(known, _)| known == name).map_or(0.0, |(_, allowed)| *allowed);
        assert!(*calls <= allowed + SLACK, "{name}: {calls} calls for each connection, {allowed} allowed: {counts:?}");
    }
    assert!(counts["clone"] >= 1.0, "strace has counted something else: {counts:?}");
}

/// A wildcard listener must ask for the local address; that is all it may cost more.
#[test]
fn a_wildcard_costs_one_more() {
    let Some(counts) = counted("[::]:0", &[]) else { return };
    assert!(counts["getsockname"] <= 1.0 + SLACK, "{counts:?}");
    let checks = if cfg!(debug_assertions) { 1.0 } else { 0.0 };
    assert!(counts.values().sum::<f64>() <= 11.0 + checks + 2.0 * SLACK, "{counts:?}");
}

/// A pipe, which goes to the collector and to the command: nothing of it stays, and nothing else is done for it.
#[test]
fn a_stream_costs_four_more() {
    let Some(counts) = counted("127.0.0.1:0", &["--stderr", "stream"]) else { return };
    let checks = if cfg!(debug_assertions) { 1.0 } else { 0.0 };
    for (name, allowed) in [("pipe2", 1.0), ("sendmsg", 1.0), ("close", 3.0), ("fcntl", 3.0 * checks)] {
        let calls = counts.get(name).copied().unwrap_or_default();
        assert!(calls <= allowed + SLACK, "{name}: {calls} calls for each connection, {allowed} allowed: {counts:?}");
    }
    assert!(counts.values().sum::<f64>() <= 10.0 + 4.0 + 3.0 * checks + 2.0 * SLACK, "{counts:?}");
}

/// The calls between clone and exec of a command of a daemon with these options, in order; without those that wait for the parent.
fn calls_of_child(options: &[&str]) -> Vec<String> {
    let dir = TempDir::new();
    let prefix = dir.join("strace");
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"])
        .args(options)
        .wrap(&["prlimit", "--nofile=500:600", "strace", "-D", "-ff", "-o", &prefix])
        .run(&["/bin/echo", "done"])
        .start();
    assert_eq!(to_end(daemon.connect()), "done\n");
    daemon.stop();
    let read = || {
        let files = fs::read_dir(dir.path()).expect("its files").map(|entry| entry.expect("a file").path());
        files.map(|file| fs::read_to_string(file).expect("text")).collect::<Vec<_>>()
    };
    until("strace has written all", || read().iter().all(|text| text.contains("+++ exited with ")));
    // The daemon's own exec is its first call.
    let is_of_child = |text: &String| text.find("execve(\"/bin/echo\"").is_some_and(|at| at > 0);
    let traces = read();
    let trace = traces.iter().find(|text| is_of_child(text)).unwrap_or_else(|| panic!("no child in {traces:#?}"));
    let calls = trace.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| usual_name(name).to_owned());
    let until_exec = trace.lines().position(|line| line.starts_with("execve(")).expect("an exec");
    calls.take(until_exec + 1).filter(|name| name != "futex").collect()
}

/// Whoever asks for nothing pays for nothing.
#[test]
fn a_child_makes_the_calls_that_its_options_ask_for() {
    if !can_trace("the system calls of a child") {
        return;
    }
    // The first limit is the one that the daemon has raised for itself.
    let plain = ["setsid", "dup3", "dup3", "prlimit64", "rt_sigprocmask", "execve"];
    assert_eq!(calls_of_child(&[]), plain);
    let all = ["setsid", "dup3", "dup3", "dup3", "setpriority", "prlimit64", "prlimit64", "umask", "chdir"];
    assert_eq!(calls_of_child(&ATTRIBUTES), [&all[..], &plain[4..]].concat());
    for to in ["socket", "stream"] {
        assert_eq!(calls_of_child(&["--stderr", to]), [&plain[..1], &["dup3"], &plain[1..]].concat());
    }
}
