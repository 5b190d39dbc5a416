//! Very many connections, one after another from a few clients, and the memory of who serves them.

use super::*;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// Clients at once: twice the cap, so that somebody always waits or is refused.
const CLIENTS: u64 = 16;
/// Connections after which memory is looked at for the first time: every table and heap arena has its size by then.
const WARM_UP: u64 = 5_000;
/// kB by which memory that is the daemon's alone may differ afterwards: one arena's worth of rounding, not a leak, which
/// at one byte per connection would be 1,000.
const ROUNDING: u64 = 64;

/// How connections ended, as the clients saw it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub served: u64,
    pub refused: u64,
}

/// So many connections, by all clients together; meanwhile `aside` is done again and again, if it is to be.
fn load(to: SocketAddr, connections: u64, aside: Option<&(dyn Fn() + Sync)>) -> Tally {
    let client = || {
        let mut tally = Tally::default();
        let mut said = Vec::new();
        for _ in 0..connections / CLIENTS {
            let mut stream = connect(to);
            said.clear();
            stream.read_to_end(&mut said).expect("a clean end of file");
            match said.as_slice() {
                b"" => tally.served += 1,
                said if said == BUSY.as_bytes() => tally.refused += 1,
                said => panic!("neither served nor refused: {:?}", String::from_utf8_lossy(said)),
            }
            // Both ends are done; a reset spares the kernel a million TIME_WAITs.
            reset(stream);
        }
        tally
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        if let Some(aside) = aside {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    aside();
                }
            });
        }
        let ended = clients.into_iter().map(|client| client.join());
        let tallies: Vec<_> = ended.collect();
        is_over.store(true, Ordering::Relaxed);
        tallies.into_iter().map(|tally| tally.expect("a client failed")).fold(Tally::default(), |sum, one| Tally {
            served: sum.served + one.served,
            refused: sum.refused + one.refused,
        })
    })
}

/// PSS in kB: all of it, and what is anonymous.
fn memory(daemon: &Daemon) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", daemon.pid())).expect("smaps_rollup");
    let kb = |name: &str| -> u64 {
        let line =
            text.lines().find(|l| l.split(':').next() == Some(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        line.split_whitespace().nth(1).expect("a value").parse().expect("a number")
    };
    (kb("Pss"), kb("Pss_Anon"))
}

/// Some thousand connections, and then so many hundredths of a million, or of `SOCKCAP_SOAK`: after each the daemon is idle as `is_idle`
/// has it, which counts its descriptors, too, and afterwards its memory is the same. Says it all, under this name, and returns how many connections there were and how they ended.
#[track_caller]
pub fn soak(
    daemon: &Daemon,
    to: SocketAddr,
    name: &str,
    share: u64,
    is_idle: impl Fn() -> bool,
    aside: Option<&(dyn Fn() + Sync)>,
) -> (u64, Tally) {
    let all: u64 = std::env::var("SOCKCAP_SOAK").map_or(1_000_000, |n| n.parse().expect("SOCKCAP_SOAK is a number"));
    let connections = all * share / 100 / CLIENTS * CLIENTS;
    let warm = WARM_UP / CLIENTS * CLIENTS;
    let first = load(to, warm, aside);
    until("an idle daemon", &is_idle);
    let (pss, anonymous) = memory(daemon);

    let since = Instant::now();
    let then = load(to, connections, aside);
    let took = since.elapsed();
    until("an idle daemon, without stray descriptors", is_idle);
    let (pss_after, anonymous_after) = memory(daemon);
    eprintln!(
        "{name}: {connections} connections in {took:.1?} ({:.0}/s), {} served, {} refused; PSS {pss} kB before, \
         {pss_after} kB after (anonymous {anonymous}, {anonymous_after})",
        connections as f64 / took.as_secs_f64(),
        then.served,
        then.refused
    );
    assert!(anonymous_after <= anonymous + ROUNDING, "memory grows: {anonymous} kB, then {anonymous_after} kB");
    let tally = Tally { served: first.served + then.served, refused: first.refused + then.refused };
    assert_eq!(tally.served + tally.refused, warm + connections);
    (warm + connections, tally)
}
