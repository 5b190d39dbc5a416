//! Limits that depend on what is read: when it is read, and what is told of them without asking for anybody.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::limit::rule::Gauge;
use crate::policy::resource::Resource;

const NANO: Duration = Duration::from_nanos(1);

fn rules(dry_run: &[&'static str]) -> Rules {
    let (load_average, max_pressure) = (Some(2.0), vec![(Resource::Cpu, 50.0)]);
    Rules { max_per_listener: vec![0], load_average, max_pressure, dry_run: dry_run.to_vec(), ..Rules::default() }
}

fn gate(dry_run: &[&'static str], when_full: WhenFull) -> Gate {
    Gate::new(&rules(dry_run), when_full, Hold::default(), 1)
}

fn both_read(gate: &mut Gate, now: Instant, load: f64, pressure: f64) {
    assert_eq!(step(|out| gate.read(now, Reading::Load(load), out)), []);
    assert_eq!(step(|out| gate.read(now, Reading::Pressure([Some(pressure); 3]), out)), []);
}

#[test]
fn each_is_read_at_first_and_then_when_its_reading_is_old() {
    let (mut gate, t0) = (gate(&[], WhenFull::Refuse), any_time());
    let due = |gate: &Gate, now| gate.limits().due_gauge(now);
    assert!(gate.limits().has_gauges());
    assert_eq!(due(&gate, t0), Some(Gauge::Load));
    gate.read(t0, Reading::Load(0.0), &mut VecDeque::new());
    assert_eq!(due(&gate, t0), Some(Gauge::Pressure));
    let t1 = t0 + READING_INTERVAL / 2;
    gate.read(t1, Reading::Pressure([None; 3]), &mut VecDeque::new());
    assert_eq!(gate.limits().next_reading(), Some(t0 + READING_INTERVAL));
    assert_eq!([t1, t0 + READING_INTERVAL - NANO].map(|now| due(&gate, now)), [None; 2]);
    assert_eq!(due(&gate, t0 + READING_INTERVAL), Some(Gauge::Load));
    gate.read(t0 + READING_INTERVAL, Reading::Load(0.0), &mut VecDeque::new());
    assert_eq!(due(&gate, t1 + READING_INTERVAL - NANO), None);
    assert_eq!(due(&gate, t1 + READING_INTERVAL), Some(Gauge::Pressure));
    let none = Rules { max_per_listener: vec![0], ..Rules::default() };
    let other = Gate::new(&none, WhenFull::Refuse, Hold::default(), 1);
    assert_eq!((other.limits().has_gauges(), due(&other, t0)), (false, None));
}

#[test]
fn what_is_closed_is_told_whoever_comes_but_not_of_what_is_only_tried() {
    let now = any_time();
    for (dry_run, load, pressure, closed) in [
        (&[][..], 1.99, 49.9, &[][..]),
        (&[], 2.0, 49.9, &["load"]),
        (&[], 1.99, 50.0, &["pressure"]),
        (&[], 2.0, 50.0, &["load", "pressure"]),
        (&["load-average"], 2.0, 50.0, &["pressure"]),
        (&["load-average", "max-pressure"], 2.0, 50.0, &[]),
    ] {
        let mut gate = gate(dry_run, WhenFull::Refuse);
        both_read(&mut gate, now, load, pressure);
        let slugs: Vec<_> = gate.limits().all_closed(now, 0).map(|refusal| refusal.reason.slug()).collect();
        assert_eq!(slugs, closed, "{dry_run:?} {load} {pressure}");
        assert_eq!(gate.limits().closed(now, 0).map(|refusal| refusal.reason.slug()), closed.first().copied());
        assert_eq!(gate.limits().dry_run(), dry_run);
    }
}

#[test]
fn the_words_have_the_reading_and_the_limit() {
    let (mut gate, now) = (gate(&[], WhenFull::Refuse), any_time());
    both_read(&mut gate, now, 2.25, 61.5);
    let words: Vec<_> = gate.limits().all_closed(now, 1).map(|refusal| refusal.to_string()).collect();
    assert_eq!(words, ["load average 2.25 is not below 2.00", "CPU pressure 61.5 % is not below 50.0 %"]);
}

/// What was read is still known when limits are set, and so is who is exempt.
#[test]
fn nothing_that_was_read_is_forgotten_by_a_set() {
    let rules = Rules { exempt: vec!["192.0.2.1".parse().unwrap()], ..rules(&[]) };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    both_read(&mut gate, now, 2.0, 50.0);
    gate.read(now + READING_INTERVAL / 2, Reading::Pressure([Some(50.0); 3]), &mut VecDeque::new());
    for later in [Duration::ZERO, READING_INTERVAL - NANO] {
        assert_eq!(step(|out| gate.set(now + later, &rules, Hold::default(), out)), []);
        assert_eq!(gate.limits().due_gauge(now + later), None);
        assert_eq!(gate.limits().due_gauge(now + READING_INTERVAL), Some(Gauge::Load), "the older reading");
        assert_eq!(gate.limits().all_closed(now + later, 1).count(), 2);
        assert!(gate.limits().is_exempt("192.0.2.1".parse().unwrap()));
        assert!(!gate.limits().is_exempt("192.0.2.2".parse().unwrap()));
    }
}

/// A client that waits for something else is not why a gauge would be read: with nothing running none of them holds.
#[test]
fn nothing_is_read_while_nothing_runs() {
    let (mut gate, now) = (gate(&[], WhenFull::Wait), any_time());
    both_read(&mut gate, now, 2.0, 0.0);
    assert_eq!(step(|out| gate.set_drained(now, true, out)), [Action::Pause(0)]);
    assert!(gate.is_anybody_waiting());
    assert_eq!(gate.deadline(), None);
    gate.set_drained(now, false, &mut VecDeque::new());
    let (Verdict::Admit(_slot), _) = arrive(&mut gate, now, arrival(0, 1, now)) else { panic!() };
    assert_eq!(gate.deadline(), Some(now + READING_INTERVAL));
}
