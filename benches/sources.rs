//! The table of sources that rates and penalties keep: what it takes of memory, and of time for each connection.
//!
//! `cargo bench --bench sources`. First 65,536 sources that are all being limited, which is the default bound; then a million random
//! addresses of one IPv6 /32, each counted by itself. Figures of a shared machine drift; the memory does not.

use sockcap::policy::limit::debts::{Debts, Key, Terms};
use sockcap::policy::source::Source;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

const BOUND: u32 = 65_536;
const MILLION: u64 = 1_000_000;

/// Like `--max-rate-per-source 1/1h`: one connection, and the source is limited.
const TERMS: Terms = Terms { free: Duration::ZERO, most: Duration::MAX, until_paid: false };
/// Like `--max-rate-per-source 10/1h`: one connection, and it is not.
const PATIENT: Terms = Terms { free: Duration::from_secs(3240), most: Duration::MAX, until_paid: false };

fn megabytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let resident: f64 = pages.split(' ').nth(1).expect("resident").parse().expect("a number");
    resident * 4096.0 / 1e6
}

/// The nth of a series of addresses of 2001:db8::/32 that nobody foresees.
fn key(hash: &RandomState, nth: u64) -> Key {
    let bits = u128::from(hash.hash_one(nth)) << 64 | u128::from(hash.hash_one(!nth));
    let ip = Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits >> 32);
    Key::of(Source::Ip(ip.into())).expect("a key")
}

/// Nanoseconds of each call, in tens of calls, so that reading the clock does not count: median, 99.9 %, worst. `all` has been
/// allocated before, since what is freed between two measurements of memory would spoil the second.
fn times(all: &mut [f64], mut call: impl FnMut(u64)) -> [f64; 3] {
    for (round, time) in (0..).zip(all.iter_mut()) {
        let began = Instant::now();
        (round * 10..round * 10 + 10).for_each(&mut call);
        *time = began.elapsed().as_nanos() as f64 / 10.0;
    }
    all.sort_unstable_by(f64::total_cmp);
    [all[all.len() / 2], all[all.len() * 999 / 1000], all[all.len() - 1]]
}

fn keep<T>(value: T) {
    black_box(value);
}

fn tell(what: &str, [median, most, worst]: [f64; 3]) {
    println!("{what:<50} {median:>6.0} ns median {most:>6.0} ns at 99.9 % {worst:>8.0} ns worst of ten");
}

fn main() {
    let (hash, now) = (RandomState::new(), Instant::now());
    let mut all = vec![1.0; (MILLION / 10) as usize];
    tell("the measurement alone", times(&mut all, |nth| keep(key(&hash, nth))));
    for (name, terms, debt) in [("all limited", TERMS, 3600), ("none limited", PATIENT, 360)] {
        let debt = Duration::from_secs(debt);
        let before = megabytes();
        let mut debts = Debts::new(terms, BOUND);
        (0..u64::from(BOUND)).for_each(|nth| assert!(debts.owe(now, key(&hash, nth), debt)));
        println!("{} sources, {name}: {:.2} MB", debts.len(), megabytes() - before);
        tell(
            "  a look-up of one that is there",
            times(&mut all, |nth| keep(debts.limited_until(now, key(&hash, nth % u64::from(BOUND))))),
        );
        tell(
            "  a look-up of one that is not",
            times(&mut all, |nth| keep(debts.limited_until(now, key(&hash, nth + MILLION)))),
        );
        let mut entered = 0;
        tell(
            "  a million more",
            times(&mut all, |nth| entered += u64::from(debts.owe(now, key(&hash, nth + 2 * MILLION), debt))),
        );
        println!("  {} sources, {entered} entered: {:.2} MB", debts.len(), megabytes() - before);
    }
}
