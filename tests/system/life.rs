//! Start, stop, restart and trouble: what systemd does to the daemon, and what the daemon's clients notice of it.

use super::client::{Client, Transfer, refusal, rsync_ok};
use super::journal::Journal;
use super::rig::{FUSE, Rig, SERVICE, SOCKET, until};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub fn the_first_client_starts_it_and_status_tells(rig: &Rig) {
    assert_eq!(rig.show(SERVICE, "ActiveState"), "inactive");
    assert_eq!(rig.ok(&format!("systemctl is-enabled {SOCKET}")), "enabled");

    let held = Client::served(rig);
    // READY=1 came, or a service of Type=notify would still be activating.
    assert_eq!(rig.ok(&format!("systemctl is-active {SOCKET} {SERVICE}")), "active\nactive");
    rig.until_status("1/10 active, 0 waiting, 0 refused");
    held.finish_with_a_list();
    rig.until_status("0/10 active, 0 waiting, 0 refused");

    let journal = Journal::of_daemon(rig, "");
    let listening = journal.until(|e| e.message().starts_with("listening on "));
    assert!(listening.message().ends_with(" as 'rsync'"), "{}", listening.message());
    assert_eq!(listening.get("SYSLOG_IDENTIFIER"), "sockcap");
    let ready = journal.until(|e| e.message().starts_with("ready: "));
    assert_eq!(ready.get("PRIORITY"), "5");
    assert_eq!(ready.message(), "ready: at most 10 connections at once (wait when full), command /usr/bin/rsync");
}

pub fn stop_lets_transfers_finish(rig: &Rig) {
    let held = Client::served(rig);
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop --no-block {SOCKET} {SERVICE}"));
    rig.until_state(SERVICE, "deactivating");
    held.finish_with_a_list();
    rig.until_state(SERVICE, "inactive");
    assert_eq!(rig.show(SERVICE, "Result"), "success");
    let last = journal.until(|e| e.message().starts_with("stopped: "));
    assert!(last.message().starts_with("stopped: 1 accepted, 1 served, 0 refused"), "{}", last.message());
}

/// A rsync that has become another user gets its SIGTERM (which takes CAP_KILL); one that ignores SIGTERM gets SIGKILL. Each
/// time the daemon ends by itself, before systemd would lose patience.
pub fn stop_ends_those_that_do_not(rig: &Rig) {
    let short = "Environment=SOCKCAP_DRAIN_TIMEOUT=100ms\nEnvironment=SOCKCAP_KILL_GRACE=200ms\nTimeoutStopSec=15s";

    rig.edit(short);
    let transfer = Transfer::begin(rig);
    rig.ok(&format!("systemctl stop {SERVICE}"));
    assert_eq!(rig.show(SERVICE, "Result"), "success");
    let status = transfer.outcome();
    assert!(!status.success(), "the transfer was cut off, not completed");

    rig.write("/run/stubborn", "#!/bin/sh\ntrap '' TERM\necho here\nwhile :; do sleep 1000; done\n");
    rig.ok("chmod +x /run/stubborn");
    rig.edit(&format!("{short}\nExecStart=\nExecStart=/usr/bin/sockcap -- /run/stubborn"));
    let mut client = Client::to_rsync(rig);
    assert_eq!(client.line(), "here\n");
    let journal = Journal::of_daemon(rig, "");
    rig.ok(&format!("systemctl stop {SERVICE}"));
    assert_eq!(rig.show(SERVICE, "Result"), "success");
    assert_eq!(client.rest(), "");
    journal.until(|e| e.message().starts_with("stopped: 1 accepted, 1 served"));
}

/// With journald stopped and its socket's queue full, clients are served and refused as ever.
pub fn a_stopped_journald_delays_nobody(rig: &Rig) {
    // Verbose, so that each connection has lines; and a command that itself writes nothing to the log.
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=1\nExecStart=\nExecStart=/usr/bin/sockcap -v --when-full refuse --busy-reply rsync -- /bin/cat");
    let mut held = Client::to_rsync(rig);
    held.send("ping\n");
    assert_eq!(held.line(), "ping\n");
    let journald = rig.show("systemd-journald.service", "MainPID");
    rig.ok(&format!("kill -STOP {journald}"));

    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(Client::to_rsync(rig).rest(), refusal(1));
    }
    held.send("pong\n");
    assert_eq!(held.line(), "pong\n");
    drop(held);
    for n in 0..300 {
        // The place of the one before may not be free yet; a refusal is as quick an answer as any.
        let mut client = Client::to_rsync(rig);
        client.send("ping\n");
        let line = client.line();
        assert!(line == "ping\n" || line.starts_with("@RSYNCD"), "client {n}: {line:?}");
    }
    let took = start.elapsed();
    rig.ok(&format!("kill -CONT {journald}"));
    assert!(took < FUSE, "took {took:?}");
    rig.assert_unharmed();
}

/// Pings come as systemd wants them, with nothing else going on: two of them, and the daemon is the one it was.
pub fn the_watchdog_is_fed(rig: &Rig) {
    rig.unless_stalled(Duration::from_millis(1500), || {
        rig.edit("WatchdogSec=3s");
        rsync_ok(rig, &["rsync://127.0.0.1/files/"]);
        let pid = rig.show(SERVICE, "MainPID");
        let mut last = rig.show(SERVICE, "WatchdogTimestampMonotonic");
        for _ in 0..3 {
            let before = last.clone();
            last =
                until("a ping", || Some(rig.show(SERVICE, "WatchdogTimestampMonotonic")).filter(|now| *now != before));
        }
        assert_eq!(rig.show(SERVICE, "MainPID"), pid);
        rig.assert_unharmed();
    });
}

/// Stopped dead: the watchdog's time runs out. Killed: at once. Either way clients who come then wait a second, and none is
/// refused.
pub fn a_hung_or_killed_daemon_is_replaced(rig: &Rig) {
    rig.unless_stalled(Duration::from_millis(1500), || {
        rig.edit("WatchdogSec=3s");
        for (n, signal) in ["STOP", "KILL"].into_iter().enumerate() {
            drop(Client::served(rig));
            let pid = rig.show(SERVICE, "MainPID");
            rig.ok(&format!("kill -{signal} {pid}"));
            until("its end", || (rig.show(SERVICE, "MainPID") != pid).then_some(()));
            let mut client = Client::to_rsync(rig);
            client.await_greeting();
            client.finish_with_a_list();
            assert_eq!(rig.show(SERVICE, "NRestarts"), (n + 1).to_string(), "after SIG{signal}");
            assert_eq!(rig.show(SOCKET, "ActiveState"), "active");
        }
    });
}

/// A daemon that cannot start is tried again and again; the clients wait, and are served once the mistake is mended.
pub fn a_wrong_setting_keeps_the_socket_up(rig: &Rig) {
    rig.edit("Environment=SOCKCAP_MAX_CONNECTIONS=many\nRestartSec=50ms");
    let mut client = Client::to_rsync(rig);
    // systemd's own start limit, which the unit takes away, would end it after five.
    until("eight starts", || rig.show(SERVICE, "NRestarts").parse().is_ok_and(|n: u32| n >= 8).then_some(()));
    until("exit status 2", || (rig.show(SERVICE, "ExecMainStatus") == "2").then_some(()));
    // Where an administrator looks: the status, through all starts, and the entries of this priority.
    let mistake = "SOCKCAP_MAX_CONNECTIONS=many: ";
    until("its status", || rig.show(SERVICE, "StatusText").contains(mistake).then_some(()));
    rig.until_said("-t sockcap -p err MESSAGE_ID=5c1cbd7bcb154a4b9f7e0b4d4b1d0b18", mistake);
    assert_eq!(rig.show(SOCKET, "ActiveState"), "active");
    rig.edit("RestartSec=50ms");
    client.await_greeting();
    client.finish_with_a_list();
}

/// systemd passes the listening socket as stdin, stdout and stderr then, so the error has to find another way.
pub fn a_line_left_over_from_accept_yes_is_named(rig: &Rig) {
    rig.edit("StandardInput=socket\nRestartSec=50ms");
    let mut client = Client::to_rsync(rig);
    rig.until_said("-t sockcap -p err", "StandardInput=socket");
    until("the status", || rig.show(SERVICE, "StatusText").contains("StandardInput=socket").then_some(()));
    rig.edit("RestartSec=50ms");
    client.await_greeting();
    client.finish_with_a_list();
}

/// The signal of a restart comes before sockcap listens to signals. Something that never does stands for that moment.
pub fn a_restart_during_the_start_is_no_failure(rig: &Rig) {
    rig.edit("ExecStart=\nExecStart=/usr/bin/sleep infinity");
    rig.ok(&format!("systemctl start --no-block {SERVICE}"));
    until("a process", || (rig.show(SERVICE, "MainPID") != "0").then_some(()));
    assert_eq!(rig.show(SERVICE, "ActiveState"), "activating");
    let id = rig.show(SERVICE, "InvocationID");
    rig.ok(&format!("systemctl restart --no-block {SERVICE}"));
    let said = until("its end", || {
        let said = rig.ok(&format!("journalctl -q -b -o cat _PID=1 INVOCATION_ID={id}"));
        ["Deactivated successfully", "Failed with result"].iter().any(|words| said.contains(words)).then_some(said)
    });
    assert!(!said.contains("Failed"), "{said}");
}

/// From a line that a command has written to its client, and back, as docs/watching.md has it.
pub fn a_line_of_a_command_leads_to_its_client(rig: &Rig) {
    let command = "/bin/sh -c 'echo trouble of $$REMOTE_PORT >&2; echo $$SOCKCAP_CONNECTION; exec cat'";
    rig.edit(&format!(
        "ExecStart=\nExecStart=/usr/bin/sockcap --verbose -- {command}\nUnsetEnvironment=SOCKCAP_EXEMPT"
    ));
    let from = |host: u8| Client::from(rig, Ipv4Addr::new(127, 0, 0, host).into(), Ipv4Addr::LOCALHOST, 873);
    for (host, mut client) in [2, 3].map(|host| (host, from(host))) {
        let mark = client.line();
        let words: Vec<&str> = mark.split_whitespace().collect();
        let [number, _, pid] = words[..] else { panic!("{mark}") };
        let port = client.port().to_string();
        drop(client);

        let trouble = format!("trouble of {port}");
        let line = Journal::of_boot(rig, &format!("-t rsync 'MESSAGE={trouble}'")).next();
        assert_eq!(line.get("_PID"), pid);
        let journal = Journal::of_daemon(rig, &format!("SOCKCAP_PID={pid}"));
        let (start, end) = (journal.next(), journal.next());
        assert!(start.message().starts_with(&format!("serving connection {number} from ")), "{}", start.message());
        assert!(end.message().starts_with(&format!("connection {number} ended: ")), "{}", end.message());
        assert_eq!(start.get("SOCKCAP_PEER_PORT"), port);
        for entry in [&start, &end] {
            assert_eq!(entry.get("SOCKCAP_CONNECTION"), number);
            assert_eq!(entry.get("SOCKCAP_LISTENER"), "rsync");
            assert_eq!(entry.get("SOCKCAP_PEER_ADDR"), format!("127.0.0.{host}"));
        }
        assert_eq!(end.get("SOCKCAP_PEER"), format!("127.0.0.{host}"));
        let both = rig.ok(&format!("journalctl -q -b -o cat SOCKCAP_PID={pid} + _PID={pid}"));
        for message in [start.message(), &trouble, end.message()] {
            assert!(both.lines().any(|line| line == message), "no {message:?} in {both}");
        }
    }
}
