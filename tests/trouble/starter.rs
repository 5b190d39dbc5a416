//! Whoever starts sockcap: what it leaves to it (ignored signals, children that are not its own, a socket in the wrong place), and
//! what it is told of a start that fails.

use crate::common::*;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

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

/// Whoever started it can see how it is without a client having come.
#[test]
fn the_status_is_there_from_the_start() {
    let mut notify = Notify::new();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", notify.path()).start();
    notify.wait("STATUS=0/100 active, 0 waiting, 0 refused, 0 served");
    // The first client does not wait for its line until it may be sent again.
    let mut client = daemon.connect();
    echoes(&mut client);
    notify.wait("STATUS=1/100 active, 0 waiting, 0 refused, 0 served");
    drop(client);
    assert_eq!(daemon.stop().served, 1);
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

const NO_SOCKETS: &str =
    "no listening sockets were passed and no --listen was given: start the .socket unit, or give --listen";

/// `systemctl status` shows it, also while the service waits for its next start.
#[test]
fn an_error_at_the_start_is_the_status() {
    let mut notify = Notify::new();
    let line = sockcap::<&str>(&[]).env("NOTIFY_SOCKET", notify.path()).output().mistake();
    assert_eq!(line, format!("sockcap: {NO_SOCKETS}"));
    assert_eq!(notify.next(FUSE), Some(format!("STATUS={NO_SOCKETS}\n")));

    let dir = TempDir::new();
    let path = dir.join("a\nREADY=1");
    let line =
        sockcap(&["--listen", &path, "--listen", &path]).env("NOTIFY_SOCKET", notify.path()).output().one_line(&[1]);
    let status = notify.next(FUSE).expect("a status");
    assert_eq!(status, format!("STATUS={}\n", line.strip_prefix("sockcap: ").expect("the name")));
    assert!(status.contains("a?READY=1"), "{status}");
}

/// With priority and MESSAGE_ID, wherever stderr goes; and only for a service.
#[test]
fn an_error_at_the_start_is_in_the_journal() {
    let Some(journal) = Journal::new("entries of a start that fails") else { return };
    let start = |args: &[&str]| sockcap(args).wrap(&journal.around());
    let entry = || String::from_utf8_lossy(&journal.datagram()).into_owned();
    let id = "MESSAGE_ID=5c1cbd7bcb154a4b9f7e0b4d4b1d0b18\nPRIORITY=3\nSYSLOG_IDENTIFIER=sockcap\n";
    assert_eq!(start(&[]).output().mistake(), format!("sockcap: {NO_SOCKETS}"));

    let line = start(&["--no-such-option"]).env("INVOCATION_ID", "1").output().mistake();
    assert_eq!(line, "sockcap: unexpected argument '--no-such-option' found; --help lists the options");
    // The first entry is this one: without a service there was none.
    assert_eq!(
        entry(),
        format!("MESSAGE=unexpected argument '--no-such-option' found; --help lists the options\n{id}")
    );

    // stderr is the journal, too: one entry is enough
    let (ours, stderr) = UnixStream::pair().expect("pair");
    let mut failed = start(&[]).env("INVOCATION_ID", "1").stderr(stderr.into()).spawn();
    assert_eq!(failed.finish().code(), Some(2));
    assert_eq!(entry(), format!("MESSAGE={NO_SOCKETS}\n{id}"));
    assert_eq!(to_end(ours), "");
}

/// The journal is not there, but stderr leads to it: the priority is in front of the line (sd-daemon(3)).
#[test]
fn an_error_at_the_start_has_a_priority() {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let to = nix::sys::stat::fstat(&writer).expect("stat");
    let mut failed =
        sockcap::<&str>(&[]).env("JOURNAL_STREAM", format!("{}:{}", to.st_dev, to.st_ino)).stderr(writer).spawn();
    assert_eq!(failed.finish().code(), Some(2));
    assert_eq!(to_end(std::fs::File::from(reader)), format!("<3>sockcap: {NO_SOCKETS}\n"));
}

/// A line that is left over from Accept=yes: systemd passes the listening socket as all three streams, and no LISTEN_FDS.
#[test]
fn a_listening_socket_on_stdin_is_named() {
    let mut notify = Notify::new();
    let listener = tcp_listener("127.0.0.1:0", 8);
    let dup = || OwnedFd::from(listener.try_clone().expect("dup"));
    let mut failed = sockcap::<&str>(&[]).stdin(dup()).stderr(dup()).env("NOTIFY_SOCKET", notify.path()).spawn();
    assert_eq!(failed.finish().code(), Some(2));
    let status = notify.wait_for("a status", |m| m.starts_with("STATUS="));
    assert!(status.contains("StandardInput=socket") && status.contains("remove that line"), "{status}");

    let mut failed = sockcap::<&str>(&[]).stderr(dup()).env("NOTIFY_SOCKET", notify.path()).spawn();
    assert_eq!(failed.finish().code(), Some(2));
    notify.wait_for("a status", |m| m.contains("StandardError=socket"));

    let _client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (served, _) = listener.accept().expect("accept");
    let line = sockcap::<&str>(&[]).stdin(served).output().mistake();
    assert!(line.contains("Accept=no"), "{line}");
}
