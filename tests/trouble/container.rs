//! As PID 1 of a container: a namespace of processes whose first one is sockcap, with nobody above it. docs/containers.md promises it.

use crate::common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Command;
use std::time::Duration;

/// What makes the rest of a command line PID 1. It ends with us.
const ALONE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// `None`, and said so, where no such namespace can be had.
fn alone(what: &str) -> Option<[&'static str; 5]> {
    let made = is_root() && Command::new(ALONE[0]).args(&ALONE[1..]).arg("true").status().is_ok_and(|s| s.success());
    if !made {
        skip(what, "no namespace of processes for us (root, unshare)");
        return None;
    }
    Some(ALONE)
}

/// sockcap itself, which is the only child of unshare(1), and the first in its namespace.
fn inner(daemon: &Daemon) -> Pid {
    daemon.commands()[0]
}

/// One that has lost its parents is a child of PID 1 from then on. It has no slot, is waited for when it ends, and its end is nobody's.
#[test]
fn an_orphan_is_no_connection() {
    let Some(alone) = alone("orphans") else { return };
    let folder = ControlFolder::new("container-orphan");
    let control = format!("--control={}", folder.socket().display());
    let leave = "(setsid sh -c 'exec sleep 100000' </dev/null >/dev/null 2>&1 &); echo $$; exec cat";
    let args = ["--listen=127.0.0.1:0", "--max-connections=1", "--verbose", &control];
    let mut daemon = sockcap(&args).wrap(&alone).run(&["/bin/sh", "-c", leave]).start();
    let pid_1 = inner(&daemon);
    let mut client = daemon.connect();
    let pid = line(&mut client);
    until("the orphan is PID 1's", || children(pid_1).len() == 2);
    drop(client);
    daemon.wait_text(&format!("connection 1 ended: pid {pid} exited with status 0"));
    until("the command is reaped", || children(pid_1).len() == 1);
    let orphan = children(pid_1)[0];
    assert_eq!(Control::connect(&folder.socket()).runtime()["active"], 0);
    let mut next = daemon.connect();
    assert_ne!(line(&mut next), pid);
    kill(orphan, Signal::SIGKILL).expect("kill");
    until("the orphan is reaped", || !children(pid_1).contains(&orphan));
    echoes(&mut next);
    drop(next);
    daemon.wait_text("connection 2 ended: ");
    kill(pid_1, Signal::SIGTERM).expect("kill");
    assert_eq!(daemon.totals().served, 2);
}

/// A signal that PID 1 has no handler for is dropped by the kernel (pid_namespaces(7)), unless it is blocked, and then it waits to be read.
/// It comes here while the program is still beginning.
#[test]
fn a_stop_is_heard_from_the_beginning() {
    let Some(alone) = alone("an early stop") else { return };
    let inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=close_range", "-e"];
    let inject = [&inject[..], &["inject=close_range:signal=SIGTERM:when=1"], &alone].concat();
    if !Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("an early stop", "strace is not installed or may not trace");
    }
    let mut daemon = sockcap(&["--listen=127.0.0.1:0"]).wrap(&inject).start();
    daemon.wait_text("SIGTERM: accepting no more connections");
    assert_eq!(daemon.totals(), Totals::default());
}

/// `docker stop` sends SIGTERM, and SIGKILL ten seconds later: with these settings the end comes by itself, also of a command that does not
/// listen.
#[test]
fn a_stop_ends_by_itself() {
    let Some(alone) = alone("a stop") else { return };
    let args = ["--listen=127.0.0.1:0", "--drain-timeout=100ms", "--kill-grace=100ms"];
    let stubborn =
        "trap '' TERM; (setsid sleep 100000 </dev/null >/dev/null 2>&1 &); echo; while :; do sleep 100; done";
    let mut daemon = sockcap(&args).wrap(&alone).run(&["/bin/sh", "-c", stubborn]).start();
    let mut client = daemon.connect();
    line(&mut client);
    kill(inner(&daemon), Signal::SIGTERM).expect("kill");
    for words in ["waiting up to 0.1 s for 1 command", "sending SIGTERM to 1 command", "sending SIGKILL to 1 command"] {
        daemon.wait_text(words);
    }
    assert_eq!(daemon.totals().served, 1, "and nobody holds its standard error any more");
}

/// Everybody ends with PID 1, so that whoever passes lines on has to be waited for. It is behind here, as on a busy machine; for two seconds,
/// or else the last lines are given up.
#[test]
fn the_last_lines_of_a_command_come() {
    let Some(alone) = alone("last lines") else { return };
    unless_stalled(Duration::from_secs(2), || {
        let args = ["--listen=127.0.0.1:0", "--stderr=stream", "--drain-timeout=0s"];
        let mut daemon = sockcap(&args).wrap(&alone).run(&["/bin/sh", "-c", "echo; cat; echo last words >&2"]).start();
        let mut client = daemon.connect();
        line(&mut client);
        let name = |pid: &Pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let collector = children(inner(&daemon)).into_iter().find(|pid| name(pid) == "sockcap-stderr\n");
        let collector = collector.expect("a collector");
        kill(collector, Signal::SIGSTOP).expect("kill");
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        to_end(client);
        let pid_1 = inner(&daemon);
        kill(pid_1, Signal::SIGTERM).expect("kill");
        daemon.wait_text("stopped: 1 accepted, 1 served");
        let threads = || std::fs::read_dir(format!("/proc/{pid_1}/task")).map_or(0, Iterator::count);
        let sleeps = || std::fs::read_to_string(format!("/proc/{pid_1}/stat")).is_ok_and(|stat| stat.contains(") S "));
        until("it waits, or has ended", || !children(daemon.pid()).contains(&pid_1) || (threads() == 1 && sleeps()));
        let _ = kill(collector, Signal::SIGCONT);
        daemon.wait_text("[1] last words");
        assert_eq!(daemon.totals().served, 1);
    });
}

/// What reads a container's output knows no sd-daemon(3).
#[test]
fn lines_are_plain_unless_priorities_are_asked_for() {
    for (target, is_plain) in [("auto", true), ("journal", true), ("stderr", false)] {
        let args = ["--listen=127.0.0.1:0", "--log-target", target, "--stderr=stream"];
        let own = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"];
        let start = sockcap(&args).run(&["/bin/sh", "-c", "echo from a command >&2"]);
        let can_mount =
            is_root() && Command::new(own[0]).args(&own[1..]).arg("true").status().is_ok_and(|s| s.success());
        let mut daemon = if can_mount { start.wrap(&own).start() } else { start.start() };
        to_end(daemon.connect());
        daemon.wait_text("[1] from a command");
        daemon.signal(Signal::SIGTERM);
        daemon.totals();
        let log = daemon.log();
        assert!(log.len() > 3 && log.iter().all(|line| line.priority.is_none() == is_plain), "{target}: {log:?}");
    }
}

/// A user without any privilege, who sees nobody else's processes; a probe of the same user, as `docker exec` makes it.
#[test]
fn a_user_without_privileges_and_proc_hidden() {
    let what = "an unprivileged container";
    let (Some(alone), Some(user)) = (alone(what), another_user(what)) else { return };
    let dir = TempDir::new();
    std::os::unix::fs::chown(dir.path(), Some(61874), Some(61874)).expect("chown");
    let socket = dir.join("control.sock");
    let control = format!("--control={socket}");
    let hide = ["sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"", "sh"];
    let drop = ["--bounding-set=-all", "--no-new-privs"];
    let words = [&alone[..], &hide, &user, &drop].concat();
    let args = ["--listen=127.0.0.1:0", "--max-connections=1", "--isolate=-signals", &control];
    let mut daemon = sockcap(&args).wrap(&words).start();
    let mut client = daemon.connect();
    echoes(&mut client);
    let pid_1 = inner(&daemon);
    let probe = || {
        let enter = ["nsenter", "--pid", "--mount", "--target", &pid_1.to_string()].map(str::to_owned);
        let probe =
            Command::new(&enter[0]).args(&enter[1..]).args(user).arg(ctl_binary()).args(["ready", &socket]).output();
        let probe = probe.expect("nsenter");
        (probe.status.code(), String::from_utf8_lossy(&probe.stderr).into_owned())
    };
    let (code, said) = probe();
    assert!(code == Some(1) && said.contains("is not ready: 1/1 commands run"), "{code:?} {said}");
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    to_end(client);
    until("the slot is free", || probe().0 == Some(0));
    kill(pid_1, Signal::SIGTERM).expect("kill");
    assert_eq!(daemon.totals().served, 1);
}
