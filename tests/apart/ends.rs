//! Nothing of a connection outlives its end, whatever it has done with sessions and process groups.

use crate::common::*;
use crate::group::Group;
use nix::sys::signal::Signal;
use serde_json::json;

/// A process that no signal to a group or a session reaches, and that SIGTERM does not end; then echo.
const HIDES: &[&str] = &[
    "/bin/sh",
    "-c",
    r#"(setsid sh -c 'trap "" TERM HUP INT; (setsid sh -c "trap \"\" TERM HUP INT; while :; do sleep 1000; done" </dev/null >/dev/null 2>&1 &) ; exec sleep 100000' </dev/null >/dev/null 2>&1 &); echo $$; exec cat"#,
];

/// A client of such a command, once all of its processes are there.
fn hidden(daemon: &Daemon, group: &Group, id: u64) -> Session {
    let session = Session::open(daemon.addr(0));
    until("its processes are there", || group.members(id).len() >= 4);
    session
}

#[test]
fn of_a_time_limit() {
    let Some(group) = Group::new() else { return };
    let args = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--kill-grace", "100ms"];
    let mut daemon = group.sockcap(&args).run(HIDES).start();
    let session = hidden(&daemon, &group, 1);
    daemon.wait_text("connection 1 reached the time limit");
    to_end(session.stream);
    group.until_empty();
}

#[test]
fn of_a_stop_of_one() {
    let Some(group) = Group::new() else { return };
    let folder = ControlFolder::new("apart-stop");
    let socket = folder.socket().display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--kill-grace", "100ms", "--control", &socket];
    let daemon = group.sockcap(&args).run(HIDES).start();
    let mut control = Control::connect(&folder.socket());
    for (id, force) in [(1, false), (2, true)] {
        let session = hidden(&daemon, &group, id);
        control.call("Stop", json!({ "id": id, "force": force }));
        to_end(session.stream);
        group.until_empty();
    }
}

#[test]
fn of_a_stop_of_all() {
    let Some(group) = Group::new() else { return };
    let args = ["--listen", "127.0.0.1:0", "--drain-timeout", "0s", "--kill-grace", "100ms"];
    let mut daemon = group.sockcap(&args).run(HIDES).start();
    let sessions = [1, 2, 3].map(|id| hidden(&daemon, &group, id));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.finish().success());
    assert!(group.living().is_empty() && group.ids().is_empty(), "{:?}", group.ids());
    sessions.into_iter().for_each(|session| drop(to_end(session.stream)));
}

/// Whoever ends in time ends as it likes: SIGTERM reaches those who have hidden, too.
#[test]
fn everybody_is_asked_first() {
    let Some(group) = Group::new() else { return };
    let folder = TempDir::new();
    let file = folder.path().join("asked");
    let command = format!(
        r#"(setsid sh -c 'trap "echo asked >{}; exit" TERM; while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 &); echo $$; exec cat"#,
        file.display()
    );
    let args = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--kill-grace", "50s"];
    let daemon = group.sockcap(&args).run(&["/bin/sh", "-c", &command]).start();
    let session = Session::open(daemon.addr(0));
    to_end(session.stream);
    group.until_empty();
    assert_eq!(std::fs::read_to_string(&file).expect("its word"), "asked\n");
}
