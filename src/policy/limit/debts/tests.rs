#![forbid(unsafe_code)]

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const SECOND: Duration = Duration::from_secs(1);

/// Like a rate: what is above `free` limits.
fn rate(free: u32) -> Terms {
    Terms { free: SECOND * free, most: Duration::MAX, until_paid: false }
}

/// Like a penalty: who has owed more than `free` is limited until all is paid.
fn penalty(free: u32, most: u32) -> Terms {
    Terms { free: SECOND * free, most: SECOND * most, until_paid: true }
}

fn key(n: u32) -> Key {
    Key::of(Source::Uid(n)).unwrap()
}

impl Debts {
    fn left(&self, now: Instant, n: u32) -> Option<Duration> {
        self.limited_until(now, key(n)).map(|at| at - now)
    }
}

#[test]
fn each_source_has_a_key_of_its_own() {
    let sources = [
        "0.0.0.0",
        "0.0.0.7",
        "255.255.255.255",
        "::",
        "::7",
        "::1:0",
        "64:ff9b:1::7",
        "2001:db8::",
        "2001:db8:0:1::",
        "fe80::7",
        "fe80::7%1",
        "fe80::7%2",
        "fe80::%7",
        "fe80::1:0:0:0:7%1",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295",
        "uid=7",
        "uid=0",
        "uid=4294967295",
        "cid=7",
        "cid=0",
        "cid=4294967295",
        "ff02::1",
    ];
    let keys: HashSet<_> = sources.iter().map(|text| Key::of(text.parse().unwrap()).unwrap().0).collect();
    assert_eq!(keys.len(), sources.len());
    assert_eq!(Key::of(Source::Unknown), None);
    let mapped = Key::of("::ffff:0.0.0.7".parse().unwrap());
    assert_eq!(mapped, Key::of("0.0.0.7".parse().unwrap()));
    for text in sources {
        let source: Source = text.parse().unwrap();
        let of_key = match text {
            "ff02::1" => Source::Unknown,               // nobody comes from a multicast address
            _ if text.starts_with("febf:") => continue, // bits that are 0 in a link-local address are not kept
            _ => source,
        };
        assert_eq!(Key::of(source).unwrap().source(), of_key, "{text}");
    }
}

#[test]
fn of_those_who_can_go_the_one_goes_whose_debt_ends_first() {
    for soonest in 0..4 {
        let (t0, mut debts) = (Instant::now(), Debts::new(rate(100), 4));
        for n in 0..4 {
            assert!(debts.owe(t0, key(n), if n == soonest { SECOND } else { SECOND * (9 - n) }));
        }
        assert!(debts.owe(t0, key(9), SECOND * 50));
        let left: Vec<u32> = (0..10).filter(|n| debts.find(key(*n)).is_some()).collect();
        let expected: Vec<u32> = (0..4).filter(|n| *n != soonest).chain([9]).collect();
        assert_eq!(left, expected);
    }
}

#[test]
fn whoever_has_paid_owes_nothing_that_could_be_forgotten() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(0), 8));
    let ns = Duration::from_nanos(1);
    for (later, has_owed) in [(SECOND - ns, true), (SECOND, false), (SECOND + ns, false)] {
        assert!(debts.owe(t0, key(1), SECOND));
        assert!(!debts.is_empty());
        assert_eq!(debts.forget(t0 + later, |_| true), has_owed, "{later:?}");
        assert!(debts.is_empty());
    }
}

#[test]
fn an_entry_is_24_bytes_and_an_empty_table_has_none() {
    assert_eq!(size_of::<Entry>(), 24);
    let debts = Debts::new(rate(1), 65536);
    assert_eq!((debts.entries.capacity(), debts.index.capacity()), (0, 0));
    assert_eq!(debts.left(Instant::now(), 1), None);
}

#[test]
fn what_is_above_the_free_debt_limits_until_it_is_paid_off() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(2), 8));
    for left in [None, None, Some(SECOND), Some(SECOND * 2)] {
        assert!(debts.owe(t0, key(1), SECOND));
        assert_eq!(debts.left(t0, 1), left);
    }
    assert_eq!(debts.left(t0 + SECOND, 1), Some(SECOND));
    let ns = Duration::from_nanos(1);
    assert_eq!(debts.left(t0 + SECOND * 2 - ns, 1), Some(ns));
    assert_eq!(debts.left(t0 + SECOND * 2, 1), None);
    debts.forgive(key(1), SECOND);
    assert_eq!(debts.left(t0, 1), Some(SECOND));
    debts.forgive(key(1), SECOND * 100);
    debts.forgive(key(2), SECOND);
    assert_eq!(debts.left(t0, 1), None);
}

#[test]
fn a_penalty_holds_until_all_is_paid_and_never_exceeds_the_most() {
    let (t0, mut debts) = (Instant::now(), Debts::new(penalty(2, 5), 8));
    for left in [None, None, Some(3), Some(4), Some(5), Some(5)] {
        assert!(debts.owe(t0, key(1), SECOND));
        assert_eq!(debts.left(t0, 1), left.map(|left| SECOND * left));
    }
    assert_eq!(debts.left(t0 + SECOND * 4, 1), Some(SECOND), "less than what is free, and still held");
    assert!(debts.owe(t0 + SECOND * 4, key(1), SECOND));
    assert_eq!(debts.left(t0 + SECOND * 4, 1), Some(SECOND * 2), "still");
    assert_eq!(debts.left(t0 + SECOND * 6, 1), None, "paid");
    assert!(debts.owe(t0 + SECOND * 6, key(1), SECOND));
    assert_eq!(debts.left(t0 + SECOND * 6, 1), None, "from the beginning");
    assert!(debts.owe(t0 + SECOND * 6, key(1), Duration::MAX));
    assert_eq!(debts.left(t0 + SECOND * 6, 1), Some(SECOND * 5));
}

#[test]
fn a_full_table_lets_go_of_whoever_is_not_limited() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(2), 4));
    for n in 0..3 {
        assert!(debts.owe(t0, key(n), SECOND * 10));
        assert!(!debts.is_full());
    }
    assert!(debts.owe(t0, key(3), SECOND));
    assert!(debts.is_full());
    assert!(debts.owe(t0, key(4), SECOND * 2), "in the place of 3");
    assert!(debts.owe(t0, key(5), SECOND * 10), "in the place of 4");
    assert!(!debts.owe(t0, key(6), SECOND * 10), "all are limited");
    assert!(debts.owe(t0, key(5), SECOND), "no new one");
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6].map(|n| debts.left(t0, n).is_some()),
        [true, true, true, false, false, true, false]
    );
    assert_eq!(debts.len(), 4);
    let later = t0 + SECOND * 8;
    assert!(debts.owe(later, key(6), SECOND * 10), "0, 1 and 2 are not limited any longer");
    assert_eq!((debts.len(), debts.left(later, 5)), (4, Some(SECOND)));
}

#[test]
fn the_soonest_to_be_free_goes_first() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(100), 4));
    for n in [3, 1, 2, 4] {
        assert!(debts.owe(t0, key(n), SECOND * n));
    }
    assert!(debts.owe(t0, key(9), SECOND * 9));
    assert_eq!([1, 2, 3, 4, 9].map(|n| debts.find(key(n)).is_some()), [false, true, true, true, true]);
}

#[test]
fn it_grows_when_needed_and_shrinks_when_debts_are_paid() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(2), 10_000));
    for n in 0..10_001 {
        assert!(debts.owe(t0, key(n), SECOND));
        assert!(debts.entries.capacity() <= 10_000 && debts.index.capacity() <= 2 * 10_000);
    }
    assert_eq!((debts.len(), debts.is_full()), (10_000, true));
    for _ in 0..5_100 {
        assert!(debts.owe(t0 + SECOND, key(0), SECOND));
    }
    assert_eq!(debts.len(), 1);
    assert!(debts.entries.capacity() <= SMALL && debts.index.capacity() <= 2 * SMALL);
}

/// Its index is not larger for who has gone.
#[test]
fn those_who_come_and_go_take_no_more() {
    let (t0, mut debts) = (Instant::now(), Debts::new(rate(2), 4096));
    for n in 0..40_000 {
        assert!(debts.owe(t0, key(n), SECOND));
    }
    assert_eq!((debts.len(), debts.index.len(), debts.index.num_buckets()), (4096, 4096, 8192));
    assert!(debts.entries.iter().all(|entry| debts.find(entry.key).is_some()));
}

#[test]
fn a_clock_that_lags_and_times_without_end_change_nothing() {
    let (t0, mut debts) = (Instant::now() + SECOND * 100, Debts::new(rate(2), 8));
    assert!(debts.owe(t0, key(1), Duration::MAX));
    let left = debts.left(t0, 1);
    assert!(left > Some(SECOND * 3600 * 24 * 365 * 100));
    assert!(debts.owe(t0 - SECOND, key(1), SECOND));
    assert_eq!(debts.left(t0, 1), left);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Owe(u32, u32),
    Forgive(u32, u32),
    Pass(u32),
}

/// What a source owes, written out: when its debt ends, and whether it is held until then.
type Model = HashMap<u32, (u64, bool)>;

fn left(model: &Model, terms: Terms, n: u32, now: u64) -> u64 {
    let (until, is_held) = model.get(&n).copied().unwrap_or_default();
    let debt = until.saturating_sub(now);
    match terms.until_paid {
        true => debt * u64::from(is_held),
        false => debt.saturating_sub(terms.free.as_secs()),
    }
}

proptest! {
    /// Whoever is limited is never lost; whoever is not may be, and only if the table is full.
    #[test]
    fn like_a_map_without_bounds_as_far_as_it_matters(
        max in 0..9u32, free in 0..4u32, most in prop::option::of(1..12u32),
        steps in vec(prop_oneof![
            8 => (0..14u32, 0..6u32).prop_map(|(n, more)| Step::Owe(n, more)),
            1 => (0..14u32, 0..4u32).prop_map(|(n, less)| Step::Forgive(n, less)),
            2 => (0..4u32).prop_map(Step::Pass),
        ], 0..200),
    ) {
        let terms = most.map_or(rate(free), |most| penalty(free, most));
        let mut debts = Debts::new(terms, max);
        let (t0, mut clock, mut model) = (Instant::now(), 0u64, Model::new());
        for step in steps {
            let now = t0 + SECOND * clock as u32;
            match step {
                Step::Owe(n, more) => {
                    let was_full = debts.is_full();
                    let was_limited = left(&model, terms, n, clock) > 0;
                    let (until, _) = model.get(&n).copied().unwrap_or_default();
                    let most = most.map_or(u64::MAX, |most| clock + u64::from(most));
                    let until = (clock.max(until) + u64::from(more)).min(most).max(until);
                    let is_held = terms.until_paid && (was_limited || until.saturating_sub(clock) > u64::from(free));
                    match debts.owe(now, key(n), SECOND * more) {
                        true => { model.insert(n, (until, is_held)); }
                        false => {
                            prop_assert_eq!(debts.len(), max as usize, "there was room");
                            prop_assert!(debts.entries.iter().all(|entry| debts.limited_for(*entry, debts.since_origin(now)) > 0));
                        }
                    }
                    // Those whom it has let go.
                    let gone = |n: &u32| debts.find(key(*n)).is_none();
                    for (n, (until, _)) in model.iter().filter(|(n, _)| gone(n)) {
                        prop_assert_eq!(left(&model, terms, *n, clock), 0, "limited and lost");
                        prop_assert!(*until <= clock || was_full, "lost without need");
                    }
                    model.retain(|n, _| !gone(n));
                }
                Step::Forgive(n, less) => {
                    debts.forgive(key(n), SECOND * less);
                    model.entry(n).and_modify(|(until, _)| *until = until.saturating_sub(less.into()));
                }
                Step::Pass(seconds) => clock += u64::from(seconds),
            }
            let now = t0 + SECOND * clock as u32;
            for n in 0..14 {
                let expected = left(&model, terms, n, clock);
                prop_assert_eq!(debts.left(now, n).map_or(0, |left| left.as_secs()), expected);
            }
            prop_assert!(debts.len() <= max as usize && debts.entries.capacity() <= max as usize);
            prop_assert_eq!(debts.index.len(), debts.len());
        }
    }
}
