//! `--uid-pool`: a user of its own for each connection that lives.

use crate::common::*;
use crate::group::Group;
use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;

const FIRST: u32 = 761_000;

fn user(session: &Session) -> u32 {
    std::fs::metadata(format!("/proc/{}", session.pid)).expect("a process").uid()
}

/// As `PID_CAT`, and it does not keep the log of its daemon open, which is to have an heir.
const QUIET_CAT: &[&str] = &["/bin/sh", "-c", "exec 2>/dev/null; echo $$; exec /bin/cat"];

fn start(group: &Group, max: u32, port: &str) -> Start {
    let (pool, max) = (format!("{FIRST}-{}", FIRST + 2), max.to_string());
    let args = ["--listen", port, "--max-connections", &max, "--slot-until", "cgroup", "--uid-pool", &pool];
    group.sockcap(&args).run(QUIET_CAT)
}

#[test]
fn each_connection_has_one_as_long_as_it_lives() {
    let Some(group) = Group::new() else { return };
    let mut daemon = start(&group, 3, "127.0.0.1:0").start();
    let mut sessions: Vec<Session> = (0..3).map(|_| Session::open(daemon.addr(0))).collect();
    assert_eq!(sessions.iter().map(user).collect::<Vec<_>>(), [FIRST, FIRST + 1, FIRST + 2]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", sessions[1].pid)).expect("a process");
    let number = FIRST + 1;
    for field in ["Uid", "Gid"] {
        assert!(status.contains(&format!("{field}:\t{number}\t{number}\t{number}\t{number}\n")), "{status}");
    }
    assert!(status.contains("Groups:\t \n") || status.contains("Groups:\t\n"), "{status}");
    refused(daemon.connect());
    sessions.remove(1).leave();
    daemon.wait_text("connection 2 ended: ");
    let next = Session::open(daemon.addr(0));
    assert_eq!(user(&next), FIRST + 1);
    drop((sessions, next));
    assert_eq!(daemon.stop().served, 4);
}

#[test]
fn an_heir_gives_no_living_connections_user_again() {
    let Some(group) = Group::new() else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let mut first = start(&group, 3, &free.to_string()).start();
    let one = Session::open(free);
    let two = Session::open(free);
    one.leave();
    first.wait_text("connection 1 ended: ");
    first.signal(Signal::SIGKILL);
    first.finish();
    let mut heir = start(&group, 3, &free.to_string()).start();
    heir.wait_text("took over from the previous daemon: 1 command running");
    let (three, four) = (Session::open(free), Session::open(free));
    let mut users = [&two, &three, &four].map(user);
    users.sort_unstable();
    assert_eq!(users, [FIRST, FIRST + 1, FIRST + 2]);
    refused(connect(free));
}

#[test]
fn there_have_to_be_enough() {
    let Some(group) = Group::new() else { return };
    let line = start(&group, 4, "127.0.0.1:0").output().mistake();
    assert!(line.contains("--uid-pool: 3 users are not enough for 4 connections"), "{line}");
    let line = start(&group, 0, "127.0.0.1:0").output().mistake();
    assert!(line.contains("--uid-pool: 3 users are not enough for any number of connections"), "{line}");
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "3", "--uid-pool", "7000-7002"];
    let line = group.sockcap(&args).output().mistake();
    assert!(line.contains("--uid-pool needs --slot-until cgroup"), "{line}");
    let line = sockcap(&args).output().mistake();
    assert!(line.contains("--uid-pool needs a cgroup for each connection: add --isolate=cgroup"), "{line}");
}

#[test]
fn whoever_may_not_change_users_does_not_start() {
    let Some(group) = Group::new() else { return };
    let start = start(&group, 3, "127.0.0.1:0").wrap(&["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"]);
    let line = start.output().one_line(&[1]);
    assert!(line.contains("cannot give each connection a user (--uid-pool): that needs CAP_SETUID"), "{line}");
}
