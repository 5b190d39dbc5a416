//! `--max-rate` and `--max-rate-per-source`: who is served, and when the others may come back.

use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::common::*;

/// Of an hour, seconds after which an interval is over, on a machine that may be slow.
const AN_HOUR: RangeInclusive<u64> = 3000..=3600;

fn from(daemon: &Daemon, host: u8) -> TcpStream {
    connect_from(&format!("127.0.0.{host}:0"), daemon.addr(0))
}

#[track_caller]
fn served(mut stream: TcpStream) -> TcpStream {
    echoes(&mut stream);
    stream
}

/// `{retry}` in the reply to who is refused.
#[track_caller]
fn retry(stream: TcpStream) -> u64 {
    let reply = to_end(stream);
    reply.trim_end().parse().unwrap_or_else(|_| panic!("not refused as it should be: {reply:?}"))
}

#[test]
fn each_source_has_its_burst_and_is_told_when_to_come_back() {
    let options = ["--listen", "127.0.0.1:0", "--max-rate-per-source", "3/3h", "--busy-message", "{retry}"];
    let mut daemon = sockcap(&options).start();
    (0..3).for_each(|_| drop(served(from(&daemon, 2))));
    for _ in 0..2 {
        let seconds = retry(from(&daemon, 2));
        assert!(AN_HOUR.contains(&seconds), "{seconds}");
    }
    drop(served(from(&daemon, 3)));
    let told = daemon.wait_text("rejected connection: over the rate limit (3/3h) of this source: 127.0.0.2 port ");
    assert_eq!(told.priority, Some(4));
    assert_eq!(daemon.stop().refused, 2);
}

#[test]
fn the_rate_of_all_is_told_in_the_words_of_http() {
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-rate", "2/2h", "--busy-reply", "http"]).start();
    [2, 3].into_iter().for_each(|host| drop(served(from(&daemon, host))));
    let mut refused = from(&daemon, 4);
    std::io::Write::write_all(&mut refused, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let reply = to_end(refused);
    let seconds = reply.lines().find_map(|line| line.strip_prefix("Retry-After: "));
    let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
    assert!(seconds.is_some_and(|seconds| AN_HOUR.contains(&seconds)), "{reply}");
    assert_eq!(daemon.stop().refused, 1);
}

/// Not a moment before its time, and without anything else that would wake the daemon.
#[test]
fn with_wait_the_next_command_starts_when_its_time_has_come() {
    let options = ["--listen", "127.0.0.1:0", "--when-full", "wait", "--max-rate", "1/700ms"];
    let mut daemon = sockcap(&options).start();
    let began = Instant::now();
    (0..3).for_each(|_| drop(served(daemon.connect())));
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
    assert_eq!(daemon.stop().refused, 0);
}

#[test]
fn with_wait_a_source_over_its_rate_is_told_at_once() {
    let options = ["--listen", "127.0.0.1:0", "--when-full", "wait", "--max-connections", "1"];
    let mut daemon = sockcap(&options).args(&["--max-rate-per-source", "2/1h"]).start();
    let first = served(from(&daemon, 2));
    let mut waiting = from(&daemon, 2);
    refused(from(&daemon, 2));
    drop(first);
    echoes(&mut waiting);
    drop(waiting);
    assert_eq!(daemon.stop().refused, 1);
}

/// A client that another limit has refused has not used up anything.
#[test]
fn what_another_limit_refuses_does_not_count() {
    let options = ["--listen", "127.0.0.1:0", "--max-connections", "1", "--max-rate-per-source", "2/1h"];
    let mut daemon = sockcap(&options).run(PID_CAT).start();
    let first = Session::of(from(&daemon, 2));
    for _ in 0..3 {
        refused(from(&daemon, 2));
    }
    first.leave();
    Session::of(from(&daemon, 2)).leave();
    refused(from(&daemon, 2));
    daemon.wait_text("over the rate limit (2/1h) of this source");
    assert_eq!(daemon.stop().refused, 4);
}

#[test]
fn rates_spare_the_exempt() {
    let options = ["--listen", "127.0.0.1:0", "--max-rate", "1/1h", "--max-rate-per-source", "1/1h"];
    let mut daemon = sockcap(&options).args(&["--exempt", "127.0.0.3"]).start();
    (0..3).for_each(|_| drop(served(from(&daemon, 3))));
    drop(served(from(&daemon, 2)));
    refused(from(&daemon, 2));
    assert_eq!(daemon.stop().refused, 1);
}

/// One place for a source, which is being limited: it is not forgotten for others, who are let in; and that is said once.
#[test]
fn a_full_table_of_sources_is_told_of_once() {
    let options = ["--listen", "127.0.0.1:0", "--max-rate-per-source", "1/1h", "--max-sources", "1"];
    let mut daemon = sockcap(&options).start();
    [2, 3, 4, 3].into_iter().for_each(|host| drop(served(from(&daemon, host))));
    refused(from(&daemon, 2));
    let totals = daemon.stop();
    assert_eq!((totals.served, totals.refused), (4, 1));
    assert_eq!(daemon.count("the source table of --max-rate-per-source is full"), 1);
}

#[test]
fn what_is_no_rate_is_a_mistake() {
    for (value, why) in [
        ("10", "expected N/DURATION[:BURST]"),
        ("0/1min", "N and BURST are at least 1"),
        ("1/2days", "DURATION is above 0 and at most one day"),
        ("2/1ns", "N is at most one in a nanosecond"),
    ] {
        for option in ["--max-rate", "--max-rate-per-source"] {
            let line = sockcap(&[option, value]).output().mistake();
            assert!(line.contains(option) && line.contains(why) && line.contains(value), "{line}");
        }
    }
    let line = sockcap(&["--max-sources", "0"]).output().mistake();
    assert!(line.contains("expected a number from 1 to "), "{line}");
}
