//! `--penalty`: sources are refused for how their commands ended.

use std::io::Write;
use std::net::TcpStream;

use crate::common::*;

/// Ends as its client says: with a status, or by a signal.
const AS_TOLD: &[&str] = &["/bin/sh", "-c", "read how; case $how in [0-9]*) exit $how;; *) kill -s $how $$;; esac"];

fn from(daemon: &Daemon, host: u8) -> TcpStream {
    connect_from(&format!("127.0.0.{host}:0"), daemon.addr(0))
}

/// A connection whose command ends like this; it is over when this returns. `number` is its own.
#[track_caller]
fn ends(daemon: &mut Daemon, host: u8, number: u32, how: &str) {
    let mut client = from(daemon, host);
    writeln!(client, "{how}").expect("a line");
    assert_eq!(to_end(client), "", "not served");
    daemon.wait_text(&format!("connection {number} ended: "));
}

/// `{retry}` in the reply to who is refused, in seconds.
#[track_caller]
fn retry(daemon: &Daemon, host: u8) -> u64 {
    let reply = to_end(from(daemon, host));
    reply.trim_end().parse().unwrap_or_else(|_| panic!("not refused as it should be: {reply:?}"))
}

fn penalized(penalty: &str, more: &[&str]) -> Start {
    let options = ["-v", "--listen", "127.0.0.1:0", "--busy-message", "{retry}", "--penalty-max", "1h", "--penalty"];
    sockcap(&[&options[..], &[penalty], more].concat())
}

#[test]
fn a_source_is_refused_for_its_commands_exit_status() {
    let mut daemon = penalized("7=2h", &[]).run(AS_TOLD).start();
    ends(&mut daemon, 2, 1, "0");
    ends(&mut daemon, 2, 2, "8");
    ends(&mut daemon, 2, 3, "7");
    let seconds = retry(&daemon, 2);
    assert!((3000..=3600).contains(&seconds), "no more than --penalty-max: {seconds}");
    let told = daemon.wait_text("rejected connection: penalty (");
    assert!(told.text.contains(" s left) of this source: 127.0.0.2 port "), "{told:?}");
    ends(&mut daemon, 3, 4, "0");
    let totals = daemon.stop();
    assert_eq!((totals.served, totals.refused), (4, 1));
}

#[test]
fn penalties_add_up_before_anything_happens() {
    let mut daemon = penalized("5=10min", &["--penalty-min", "25min"]).run(AS_TOLD).start();
    for number in 1..=3 {
        ends(&mut daemon, 2, number, "5");
    }
    let seconds = retry(&daemon, 2);
    assert!((1500..=1800).contains(&seconds), "{seconds}");
    daemon.stop();
}

#[test]
fn the_preset_of_sshd_and_a_price_of_ones_own() {
    // Two crashes are enough, or one of a price that is above --penalty-min.
    let mut daemon = penalized("sshd,255=1h", &[]).run(AS_TOLD).start();
    ends(&mut daemon, 2, 1, "4");
    assert!((1..=90).contains(&retry(&daemon, 2)));
    ends(&mut daemon, 3, 2, "255");
    assert!((3000..=3600).contains(&retry(&daemon, 3)));
    daemon.stop();
}

#[test]
fn a_signal_has_its_price() {
    let mut daemon = penalized("signal=1h", &[]).run(AS_TOLD).start();
    ends(&mut daemon, 2, 1, "1");
    ends(&mut daemon, 2, 2, "USR1");
    assert!((3000..=3600).contains(&retry(&daemon, 2)));
    daemon.stop();
}

/// Whatever the command does about SIGTERM, and at the price of a time limit alone.
#[test]
fn a_time_limit_has_its_price() {
    let limit = ["--time-limit", "300ms"];
    for command in ["exec sleep 1000", "trap 'exit 3' TERM; sleep 1000 & wait"] {
        let command = ["/bin/sh", "-c", command];
        let mut daemon = penalized("time-limit=1h", &limit).run(&command).start();
        let client = from(&daemon, 2);
        daemon.wait_text("connection 1 ended: ");
        drop(client);
        assert!((3000..=3600).contains(&retry(&daemon, 2)));
        daemon.stop();

        let mut daemon = penalized("signal=1h,3=1h", &limit).run(&command).start();
        for number in 1..=2 {
            let client = from(&daemon, 2);
            daemon.wait_text(&format!("connection {number} ended: "));
            drop(client);
        }
        assert_eq!(daemon.stop().refused, 0);
    }
}

#[test]
fn a_command_that_cannot_be_started_costs_nothing() {
    let dir = TempDir::new();
    let program = dir.join("program");
    std::fs::copy("/bin/true", &program).expect("a program");
    let mut daemon = penalized("0=1h,127=1h,signal=1h", &[]).run(&[&program]).start();
    std::fs::remove_file(&program).expect("remove");
    for _ in 0..2 {
        assert_ne!(to_end(from(&daemon, 2)), "");
    }
    let totals = daemon.stop();
    assert_eq!((totals.failed, totals.refused), (2, 0));
}

#[test]
fn what_is_no_penalty_is_a_mistake() {
    for value in ["1", "256=1s", "1=1s:never", "ssh", "sshd,"] {
        let line = sockcap(&["--penalty", value]).output().mistake();
        assert!(line.contains("--penalty") && line.contains("STATUS=DURATION[:always]"), "{line}");
    }
    let line = sockcap(&["--penalty", "1=1s", "--penalty-min", "2min", "--penalty-max", "1min"]).output().mistake();
    assert!(line.contains("--penalty-max") && line.contains("--penalty-min"), "{line}");
}
