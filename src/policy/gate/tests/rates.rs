//! Rates: of all starts, and of one source's connections.
#![forbid(unsafe_code)]

use super::*;

const NANO: Duration = Duration::from_nanos(1);

fn rate(count: u32, burst: u32) -> Option<Rate> {
    Some(Rate::new(count, SECOND * 60, Some(burst)).unwrap())
}

fn rules(max_rate: Option<Rate>, max_rate_per_source: Option<Rate>) -> Rules {
    Rules { max_per_listener: vec![0], max_rate, max_rate_per_source, max_sources: 2, ..Rules::default() }
}

fn refused(gate: &mut Gate, now: Instant, who: Arrival) -> (Reason, Option<Duration>) {
    match arrive(gate, now, who).0 {
        Verdict::Refuse(refusal) => (refusal.reason, refusal.retry),
        other => panic!("{other:?}"),
    }
}

/// The burst at once, then one in each interval: not a nanosecond too early, and told when.
#[test]
fn borders_of_the_rate() {
    for burst in [1, 2, 5] {
        for (rules, reason) in [(rules(rate(10, burst), None), "rate"), (rules(None, rate(10, burst)), "source-rate")] {
            let (mut gate, t0) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
            let mut slots = Vec::new();
            let who = |ticket: u32| from(ticket.into(), "192.0.2.1", false);
            for ticket in 0..burst {
                slots.push(admitted(&mut gate, t0, who(ticket)));
            }
            let six = 6 * SECOND;
            for (now, retry) in [(t0, six), (t0 + SECOND, 5 * SECOND), (t0 + six - NANO, NANO)] {
                assert_eq!(refused(&mut gate, now, who(9)), (named(reason), Some(retry)), "{burst}");
            }
            slots.push(admitted(&mut gate, t0 + six, who(10)));
            assert_eq!(refused(&mut gate, t0 + six, who(11)), (named(reason), Some(six)));
            for ticket in 12..12 + burst {
                slots.push(admitted(&mut gate, t0 + six * 100, who(ticket)));
            }
            assert_eq!(
                refused(&mut gate, t0 + six * 100, who(99)),
                (named(reason), Some(six)),
                "idle time is not saved up"
            );
        }
    }
}

#[test]
fn each_source_has_a_rate_of_its_own() {
    let (mut gate, t0) = (Gate::new(&rules(None, rate(1, 1)), WhenFull::Refuse, Hold::default(), 1), any_time());
    let mut slots = vec![admitted(&mut gate, t0, from(0, "2001:db8::1", false))];
    let (Verdict::Refuse(refusal), _) = arrive(&mut gate, t0, from(1, "2001:db8::2", false)) else { panic!() };
    let figures = refusal.grounds.figures;
    assert_eq!((figures.active(), figures.max()), (1, 0));
    assert_eq!(figures.network().unwrap().to_string(), "2001:db8::/64");
    assert_eq!(refusal.to_string(), "over the rate limit (1/1m) of this source");
    slots.push(admitted(&mut gate, t0, from(2, "2001:db8:0:1::2", false)));
    for unknown in 3..6 {
        slots.push(admitted(&mut gate, t0, from(unknown, "?", false)));
    }
}

#[test]
fn rates_spare_the_exempt() {
    let rules = Rules { exempt: vec!["192.0.2.1".parse().unwrap()], ..rules(rate(1, 1), rate(1, 1)) };
    let (mut gate, t0) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    let _slots: Vec<_> = (0..3).map(|ticket| admitted(&mut gate, t0, from(ticket, "192.0.2.1", true))).collect();
    let _slot = admitted(&mut gate, t0, from(3, "192.0.2.2", false));
    let (Verdict::Refuse(refusal), _) = arrive(&mut gate, t0, from(4, "192.0.2.3", false)) else { panic!() };
    assert_eq!((refusal.reason, refusal.to_string()), (named("rate"), "over the rate limit (1/1m)".into()));
}

/// With `wait` the listener is paused until the very instant.
#[test]
fn the_rate_pauses_listeners() {
    let (mut gate, t0) = (Gate::new(&rules(rate(10, 2), None), WhenFull::Wait, Hold::default(), 1), any_time());
    let _first = admitted(&mut gate, t0, from(0, "192.0.2.1", false));
    let (verdict, actions) = arrive(&mut gate, t0 + SECOND, from(1, "192.0.2.1", false));
    assert!(matches!(verdict, Verdict::Admit(_)));
    assert_eq!(actions, [Action::Pause(0)]);
    let then = t0 + 6 * SECOND;
    assert_eq!(gate.deadline(), Some(then));
    assert_eq!(step(|out| gate.tick(then - NANO, out)), []);
    assert_eq!(gate.deadline(), Some(then));
    assert_eq!(step(|out| gate.tick(then, out)), [Action::Resume(0)]);
    assert_eq!(gate.deadline(), None);
    let (verdict, actions) = arrive(&mut gate, then, from(2, "192.0.2.1", false));
    assert!(matches!(verdict, Verdict::Admit(_)));
    assert_eq!((actions, gate.deadline()), (vec![Action::Pause(0)], Some(then + 6 * SECOND)));
    assert_eq!(step(|out| gate.drain(then, out)), []);
    assert_eq!(gate.deadline(), None, "a stop waits for no rate");
}

/// With held clients one of them is started at each instant.
#[test]
fn the_rate_admits_who_is_held_one_by_one() {
    let hold = Hold { capacity: 10, ..Hold::default() };
    let (mut gate, t0) = (Gate::new(&rules(rate(60, 1), None), WhenFull::Wait, hold, 1), any_time());
    let _first = admitted(&mut gate, t0, from(0, "192.0.2.1", false));
    for ticket in 1..4 {
        assert_eq!(arrive(&mut gate, t0, from(ticket, "192.0.2.1", false)), (Verdict::Hold, vec![]));
    }
    for ticket in 1..4u32 {
        let then = t0 + SECOND * ticket;
        assert_eq!(gate.deadline(), Some(then));
        let out = step(|out| gate.tick(then, out));
        assert!(matches!(&out[..], [Action::Admit(admitted, _)] if *admitted == Ticket::from(ticket)), "{out:?}");
    }
}

/// What another limit refuses is no debt.
#[test]
fn whoever_is_refused_owes_nothing() {
    let rules = Rules { max_connections: 1, ..rules(rate(2, 2), rate(2, 2)) };
    let (mut gate, t0) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    let slot = admitted(&mut gate, t0, from(0, "192.0.2.1", false));
    for ticket in 1..9 {
        assert_eq!(refused(&mut gate, t0, from(ticket, "192.0.2.1", false)).0, named("total-limit"));
    }
    gate.ended(t0, slot, END, &mut VecDeque::new());
    let _slot = admitted(&mut gate, t0, from(9, "192.0.2.1", false));
    assert_eq!(refused(&mut gate, t0, from(10, "192.0.2.1", false)), (named("source-rate"), Some(30 * SECOND)));
    let _other = refused(&mut gate, t0, from(11, "192.0.2.2", false));
}

/// Who is held has entered. It gets that back if it is refused after all, and not if it leaves.
#[test]
fn who_waits_in_vain_gets_its_rate_back() {
    let rules = Rules { max_connections: 1, ..rules(None, rate(2, 2)) };
    let hold = Hold { max_wait: Some(SECOND), capacity: 10, ..Hold::default() };
    let (mut gate, t0) = (Gate::new(&rules, WhenFull::Wait, hold, 1), any_time());
    let at = |ticket, source: &str, since| Arrival { since, ..from(ticket, source, false) };
    let _slot = admitted(&mut gate, t0, at(0, "?", t0));
    for ticket in [1, 2] {
        assert_eq!(arrive(&mut gate, t0, at(ticket, "192.0.2.1", t0)).0, Verdict::Hold);
    }
    assert_eq!(
        refused(&mut gate, t0, at(3, "192.0.2.1", t0)),
        (named("source-rate"), Some(30 * SECOND)),
        "told at once"
    );
    assert_eq!(refusals(&step(|out| gate.tick(t0 + SECOND, out))).len(), 2, "waited too long");
    let now = t0 + SECOND;
    for ticket in [4, 5] {
        assert_eq!(arrive(&mut gate, now, at(ticket, "192.0.2.1", now)).0, Verdict::Hold);
        gate.left(now, &at(ticket, "192.0.2.1", now), &mut VecDeque::new());
    }
    assert_eq!(refused(&mut gate, now, at(6, "192.0.2.1", now)), (named("source-rate"), Some(30 * SECOND)));
}

/// `--max-sources` at its border: who is being limited is remembered, and whom there is no room for is told of.
#[test]
fn a_full_table_lets_new_sources_in_and_says_so() {
    let (mut gate, t0) = (Gate::new(&rules(None, rate(1, 1)), WhenFull::Refuse, Hold::default(), 1), any_time());
    let who = |host: u64| from(host, &format!("192.0.2.{host}"), false);
    for host in [1, 2] {
        let (verdict, actions) = arrive(&mut gate, t0, who(host));
        assert!(matches!(verdict, Verdict::Admit(_)) && actions.is_empty());
    }
    for host in [3, 3, 4] {
        let (verdict, actions) = arrive(&mut gate, t0, who(host));
        assert!(matches!(verdict, Verdict::Admit(_)));
        assert_eq!(actions, [Action::Untracked(named("source-rate"), 1)]);
    }
    for host in [1, 2] {
        assert_eq!(refused(&mut gate, t0, who(host)).0, named("source-rate"), "not forgotten");
    }
    let _slot = admitted(&mut gate, t0 + 60 * SECOND, who(5));
    assert_eq!(refused(&mut gate, t0 + 60 * SECOND, who(5)).0, named("source-rate"), "there is room again");
}

/// Whoever could not be started has used up nothing; only who has gone owes for having come.
#[test]
fn what_was_not_started_is_no_start() {
    let now = any_time();
    let who = |ticket, source| Arrival { since: now, ..from(ticket, source, false) };
    let gate = |when_full| {
        let hold = Hold { capacity: 9, ..Hold::default() };
        Gate::new(&rules(rate(1, 1), rate(1, 1)), when_full, hold, 1)
    };
    let (mut refusing, mut out) = (gate(WhenFull::Refuse), VecDeque::new());
    for ticket in 0..3 {
        let slot = admitted(&mut refusing, now, who(ticket, "192.0.2.1"));
        refusing.start_failed(now, slot, &mut out);
    }
    let slot = admitted(&mut refusing, now, who(3, "192.0.2.1"));
    refusing.not_started(now, slot, &mut out);
    assert_eq!(refused(&mut refusing, now, who(4, "192.0.2.1")).0, named("source-rate"));
    let _slot = admitted(&mut refusing, now, who(5, "192.0.2.2"));
    assert_eq!(refused(&mut refusing, now, who(6, "192.0.2.3")).0, named("rate"));
    let mut waiting = gate(WhenFull::Wait);
    let slot = admitted(&mut waiting, now, who(7, "192.0.2.1"));
    waiting.postponed(now, who(7, "192.0.2.1"), slot, &mut out);
    out.clear();
    waiting.try_again(now, &mut out);
    assert!(matches!(out.pop_front(), Some(Action::Admit(7, _))), "{out:?}");
}

/// One that is only tried counts as if whom it would refuse had not come.
#[test]
fn who_would_be_refused_owes_nothing() {
    for (option, rules) in [("max-rate", rules(rate(1, 1), None)), ("max-rate-per-source", rules(None, rate(1, 1)))] {
        let rules = Rules { dry_run: vec![option], ..rules };
        let (mut gate, t0) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
        let would_be_refused = |gate: &Gate, now| gate.would_refuse(now, &from(9, "192.0.2.1", false)).is_some();
        for (now, is_over) in [(t0, false), (t0, true), (t0 + 60 * SECOND, false), (t0 + 60 * SECOND, true)] {
            assert_eq!(would_be_refused(&gate, now), is_over, "{option}");
            let _slot = admitted(&mut gate, now, from(1, "192.0.2.1", false));
        }
    }
}
