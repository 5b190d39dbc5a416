//! A soak with all that can be on: each limit, metrics that are asked for again and again, and a million connections with
//! `--isolate=signals`; with a cgroup for each ten thousand, since the kernel takes its time for each that was removed (docs/options.md).
//!
//! Takes minutes and both processors, so it runs only when asked for; `SOCKCAP_SOAK=30000` makes it smaller:
//!
//!     cargo test --release --test apart soak -- --ignored --nocapture

use crate::common::*;
use crate::group::Group;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const LIMITS: &str = "--max-connections 8 --when-full wait --queue-order fair --max-wait 1h --max-waiting 1000 \
    --max-per-source 1000 --max-per-source 1000@24 --max-per-listener 1000 --max-rate 1000000/1s --max-rate-per-source 1000000/1s \
    --penalty 7=1s --exempt 192.0.2.1 --load-average 1000000 --max-pressure cpu=100,memory=100,io=100 --time-limit 1h";

/// Cgroups that the daemon has when nobody is served.
const AHEAD: usize = 8;

/// The metrics, as a scraper gets them.
fn scraped(from: SocketAddr) -> String {
    let mut stream = connect(from);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text
}

/// `share`: hundredths of a million.
fn everything(isolate: &str, share: u64) {
    let Some(group) = Group::new() else { return };
    let [service, metrics] = [(); 2].map(|()| tcp_listener("127.0.0.1:0", 128));
    let [to, from] = [&service, &metrics].map(|listener| listener.local_addr().expect("its address"));
    let limits: Vec<&str> = LIMITS.split_whitespace().collect();
    let start = sockcap(&[&format!("--isolate={isolate}")]).args(&limits).prelude(&group.enter()).run(&["/bin/true"]);
    let mut daemon = start.pass(service).pass(metrics).names("service:metrics").start();
    to_end(connect(to));
    let ahead = if isolate.contains("cgroup") { AHEAD } else { 0 };
    until("cgroups are made ahead", || group.ids().len() == ahead);
    let scrapes = AtomicU64::new(0);
    let scrape = || {
        scraped(from);
        scrapes.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20)); // a scraper leaves the processors to the clients
    };
    let fds = daemon.open_fds().len();
    // Not which: a cgroup that was made ahead is another one each time.
    let is_idle = || daemon.commands().is_empty() && daemon.open_fds().len() == fds;
    let (accepted, tally) = soak(&daemon, to, isolate, share, is_idle, Some(&scrape));
    let (accepted, served) = (accepted + 1, tally.served + 1);
    eprintln!("{isolate}: the metrics were read {} times meanwhile", scrapes.into_inner());
    let last = scraped(from);
    let counted = last.lines().find(|line| line.starts_with("sockcap_connections_accepted_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(&format!(" {accepted}"))), "{accepted}: {counted:?}");
    assert_eq!(daemon.stop(), Totals { accepted, served, ..Totals::default() });
    assert_eq!(group.ids().len(), 0, "cgroups are left");
}

#[test]
#[ignore = "takes minutes"]
fn a_million_with_everything_on() {
    everything("signals", 100);
}

#[test]
#[ignore = "takes a minute"]
fn ten_thousand_with_a_cgroup_each() {
    everything("signals,cgroup", 1);
}
