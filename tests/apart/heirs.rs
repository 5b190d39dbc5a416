//! A new daemon finds who lives by the names of cgroups, which commands cannot write.

use crate::common::*;
use crate::group::{Group, cgroup_of};
use nix::sys::signal::Signal;
use std::fs;

/// As `PID_CAT`, and it does not keep the log of its daemon open, which is to have an heir.
const QUIET_CAT: &[&str] = &["/bin/sh", "-c", "exec 2>/dev/null; echo $$; exec /bin/cat"];

/// The port of a daemon that is to have an heir.
fn port() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    free.to_string()
}

fn killed(mut daemon: Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.finish();
}

#[test]
fn whoever_has_wiped_its_environment_is_found() {
    let Some(group) = Group::new() else { return };
    let port = port();
    let args = ["--listen", &port, "--max-connections", "2"];
    let wiped = ["/bin/sh", "-c", "exec 2>/dev/null; echo $$; exec env -i SOCKCAP_CONNECTION=\"99 web $$\" cat"];
    let first = group.sockcap(&args).run(&wiped).start();
    let (old, address) = (first.pid(), first.addr(0));
    let sessions = [Session::open(address), Session::open(address)];
    until("their programs run", || {
        let name = |session: &Session| fs::read_to_string(format!("/proc/{}/comm", session.pid)).unwrap_or_default();
        sessions.iter().all(|session| name(session) == "cat\n")
    });
    killed(first);
    let mut heir = group.sockcap(&args).run(&wiped).start();
    heir.wait_text("took over from the previous daemon: 2 commands running");
    refused(heir.connect());
    assert!(!group.path().join(format!("daemon-{old}")).exists(), "the leaf of a dead daemon");
    let [one, two] = sessions;
    one.leave();
    heir.wait_text("connection 1 ended: ");
    let third = Session::open(address);
    assert_eq!(cgroup_of(third.pid.as_raw()), "conn-3", "no number is given twice");
    two.leave();
    heir.wait_text("connection 2 ended: ");
    third.leave();
    until("their cgroups are gone", || group.ids().iter().all(|id| *id > 3));
}

/// With `--slot-until cgroup` a connection is counted whose command has ended long ago.
#[test]
fn whoever_has_outlived_its_command_is_found() {
    let Some(group) = Group::new() else { return };
    let port = port();
    let args = ["--listen", &port, "--max-connections", "1", "--slot-until", "cgroup", "--drain-timeout", "0s"];
    let command = ["/bin/sh", "-c", "exec 2>/dev/null; (setsid sleep 100000 </dev/null >/dev/null 2>&1 &); echo left"];
    let first = group.sockcap(&args).run(&command).start();
    assert_eq!(to_end(first.connect()), "left\n");
    until("its command has ended", || group.members(1).len() == 1);
    killed(first);
    let mut heir = group.sockcap(&args).run(&command).start();
    heir.wait_text("took over from the previous daemon: 1 command running");
    refused(heir.connect());
    fs::write(group.path().join("conn-1/cgroup.kill"), "1").expect("cgroup.kill");
    heir.wait_text("connection 1 ended: ");
    assert_eq!(to_end(heir.connect()), "left\n");
    heir.stop();
}

/// From a daemon that made no cgroups to one that does, and back.
#[test]
fn with_and_without() {
    let Some(group) = Group::new() else { return };
    let port = port();
    let plain = || {
        let enter = format!("echo $$ >{}/cgroup.procs; export SYSTEMD_EXEC_PID=$$", group.path().display());
        sockcap(&["--listen", &port, "--verbose", "--max-connections", "1"]).prelude(&enter).run(QUIET_CAT)
    };
    let apart = || {
        let start = group.sockcap(&["--listen", &port, "--max-connections", "1"]);
        start.prelude("export SYSTEMD_EXEC_PID=$$").run(QUIET_CAT)
    };
    let first = plain().start();
    let session = Session::open(first.addr(0));
    killed(first);
    let mut second = apart().start();
    let heir = second.wait_text("took over from the previous daemon: ").text;
    assert!(heir.contains("1 command running"), "{heir}");
    refused(second.connect());
    assert!(cgroup_of(session.pid.as_raw()).starts_with("before-"));
    session.leave();
    second.wait_text(" ended: ");
    let session = Session::open(second.addr(0));
    killed(second);
    // Nobody may be where a manager would put it, until what is on there is off.
    let mut third = plain().start();
    third.wait_text("took over from the previous daemon: 1 command running");
    refused(third.connect());
    session.leave();
    third.wait_text(" ended: ");
}
