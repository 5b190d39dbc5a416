//! Limits on sources, who is exempt of them, and what is only tried.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::network::Prefixes;

fn per_source(levels: &[(u32, u8, u8)]) -> Vec<(u32, Prefixes)> {
    levels.iter().map(|(max, v4, v6)| (*max, Prefixes { v4: Some(*v4), v6: Some(*v6) })).collect()
}

/// `--max-per-source` at its borders, by level; what ends, leaves or is refused is given back.
#[test]
fn borders_of_the_cap_on_a_source() {
    for max in [1, 2, 5] {
        let rules =
            Rules { max_per_listener: vec![0], max_per_source: per_source(&[(max, 32, 64)]), ..Rules::default() };
        let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
        let mut slots: Vec<_> = (0..max)
            .map(|nth| admitted(&mut gate, now, from(nth.into(), &format!("2001:db8::{nth}"), false)))
            .collect();
        let (Verdict::Refuse(refusal), _) = arrive(&mut gate, now, from(7, "2001:db8::7", false)) else { panic!() };
        assert_eq!(refusal.reason, named("source-limit"));
        let figures = refusal.grounds.figures;
        assert_eq!((figures.active(), figures.max()), (max, max));
        assert_eq!(figures.network().unwrap().to_string(), "2001:db8::/64");
        slots.push(admitted(&mut gate, now, from(8, "2001:db8:0:1::7", false)));
        for unknown in 9..20 {
            slots.push(admitted(&mut gate, now, from(unknown, "?", false)));
        }
        assert_eq!(step(|out| gate.ended(now, slots.remove(0), END, out)), []);
        slots.push(admitted(&mut gate, now, from(21, "2001:db8::7", false)));
        slots.into_iter().for_each(|slot| gate.ended(now, slot, END, &mut VecDeque::new()));
        assert!(gate.census().present.iter().all(Present::is_empty));
    }
}

#[test]
fn each_level_of_the_cap_on_a_source_holds() {
    let max_per_source = per_source(&[(2, 32, 64), (3, 24, 48)]);
    let rules = Rules { max_per_listener: vec![0], max_per_source, ..Rules::default() };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    let _slots: Vec<_> = [1, 1, 2]
        .into_iter()
        .map(|host| admitted(&mut gate, now, from(0, &format!("192.0.2.{host}"), false)))
        .collect();
    for (host, network, max) in [("192.0.2.1", "192.0.2.1/32", 2), ("192.0.2.9", "192.0.2.0/24", 3)] {
        let (Verdict::Refuse(refusal), _) = arrive(&mut gate, now, from(9, host, false)) else { panic!("{host}") };
        let figures = refusal.grounds.figures;
        assert_eq!((figures.network().unwrap().to_string(), figures.max()), (network.to_owned(), max));
    }
    let _slot = admitted(&mut gate, now, from(9, "192.0.3.1", false));
}

/// One source can neither fill the queue nor wait: it is told at once, and who is held counts.
#[test]
fn over_the_cap_on_a_source_nobody_waits() {
    let rules = Rules {
        max_connections: 1,
        max_per_listener: vec![0],
        max_per_source: per_source(&[(2, 32, 64)]),
        ..Rules::default()
    };
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 0, capacity: 10, ..Hold::default() };
    let (mut gate, t0) = (Gate::new(&rules, WhenFull::Wait, hold, 1), any_time());
    let at = |ticket, source: &str| Arrival { since: t0, ..from(ticket, source, false) };
    let slot = admitted(&mut gate, t0, at(0, "192.0.2.1"));
    assert_eq!(arrive(&mut gate, t0, at(1, "192.0.2.1")).0, Verdict::Hold, "N");
    assert_eq!(reason(&arrive(&mut gate, t0, at(2, "192.0.2.1")).0), Some(named("source-limit")), "N+1");
    assert_eq!(arrive(&mut gate, t0, at(3, "192.0.2.2")).0, Verdict::Hold);
    // Who has left, and who has waited too long, is not here any more.
    assert_eq!(step(|out| gate.left(t0, &at(1, "192.0.2.1"), out)), []);
    assert_eq!(arrive(&mut gate, t0, at(4, "192.0.2.1")).0, Verdict::Hold);
    let late = step(|out| gate.tick(t0 + 10 * SECOND, out));
    assert_eq!(refusals(&late).len(), 2, "{late:?}");
    assert_eq!(gate.census().present[0].count("192.0.2.1".parse().unwrap()).unwrap().1, 1);
    // Who comes back from an earlier daemon has entered already, and counts.
    for ticket in 5..8 {
        let who = Arrival { since: t0 + 10 * SECOND, ..at(ticket, "192.0.2.1") };
        assert_eq!(gate.come_back(t0 + 10 * SECOND, who, &mut VecDeque::new()), Verdict::Hold);
    }
    assert_eq!(gate.census().present[0].count("192.0.2.1".parse().unwrap()).unwrap().1, 4);
    gate.drain(t0, &mut VecDeque::new());
    gate.ended(t0, slot, END, &mut VecDeque::new());
    assert!(gate.census().present[0].is_empty());
}

#[test]
fn reserved_slots_are_for_the_exempt() {
    let rules = Rules {
        max_connections: 3,
        reserved: 1,
        max_per_listener: vec![0],
        max_per_source: per_source(&[(2, 32, 64)]),
        exempt: vec!["192.0.2.1".parse().unwrap()],
        ..Rules::default()
    };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    assert!(
        gate.limits().is_exempt("192.0.2.1".parse().unwrap()) && !gate.limits().is_exempt("192.0.2.2".parse().unwrap())
    );
    let mut slots: Vec<_> =
        (0..2).map(|nth| admitted(&mut gate, now, from(nth, &format!("192.0.2.{}", nth + 7), false))).collect();
    let told = arrive(&mut gate, now, from(3, "192.0.2.9", false));
    assert_eq!(told, (Verdict::Refuse(Refusal::count(named("total-limit"), 2, 2)), vec![]));
    slots.push(admitted(&mut gate, now, from(4, "192.0.2.1", true)));
    let told = arrive(&mut gate, now, from(5, "192.0.2.1", true));
    assert_eq!(told, (Verdict::Refuse(Refusal::count(named("total-limit"), 3, 3)), vec![]));
    slots.drain(..2).for_each(|slot| gate.ended(now, slot, END, &mut VecDeque::new()));
    // No limit on sources is for them.
    for ticket in 6..8 {
        slots.push(admitted(&mut gate, now, from(ticket, "192.0.2.1", true)));
    }
    assert_eq!(gate.census().active, 3);
}

/// With `wait` the exempt are let in past those who wait, and who cannot be held is told so.
#[test]
fn the_exempt_do_not_stand_behind_the_others() {
    let rules = Rules {
        max_connections: 2,
        reserved: 1,
        max_per_listener: vec![0],
        exempt: vec!["192.0.2.1".parse().unwrap()],
        ..Rules::default()
    };
    let hold = Hold { capacity: 1, ..Hold::default() };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Wait, hold, 1), any_time());
    let _slot = admitted(&mut gate, now, from(0, "192.0.2.2", false));
    assert_eq!(arrive(&mut gate, now, from(1, "192.0.2.3", false)), (Verdict::Hold, vec![]), "the listener stays open");
    assert_eq!(reason(&arrive(&mut gate, now, from(2, "192.0.2.3", false)).0), Some(Reason::QUEUE_FULL));
    let (verdict, actions) = arrive(&mut gate, now, from(3, "192.0.2.1", true));
    assert!(matches!(verdict, Verdict::Admit(_)));
    assert_eq!(actions, [Action::Pause(0)], "now nobody can come in");
}

#[test]
fn a_dry_run_judges_and_lets_in() {
    let rules = Rules {
        max_connections: 2,
        max_per_listener: vec![0],
        max_per_source: per_source(&[(1, 32, 64)]),
        dry_run: vec!["max-per-source"],
        ..Rules::default()
    };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    assert_eq!(gate.would_refuse(now, &from(0, "192.0.2.1", false)), None);
    let _first = admitted(&mut gate, now, from(0, "192.0.2.1", false));
    let (stage, refusal) = gate.would_refuse(now, &from(1, "192.0.2.1", false)).unwrap();
    assert_eq!((stage, refusal.reason), (Stage::Entry, named("source-limit")));
    assert_eq!(gate.would_refuse(now, &from(1, "192.0.2.2", false)), None);
    let _second = admitted(&mut gate, now, from(1, "192.0.2.1", false));
    assert_eq!(reason(&arrive(&mut gate, now, from(2, "192.0.2.2", false)).0), Some(named("total-limit")));
    assert_eq!(gate.census().present[0].count("192.0.2.1".parse().unwrap()).unwrap().1, 2, "they count");
    assert!(!gate.census().present[0].is_empty());
}
