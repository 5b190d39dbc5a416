//! What is asked of a gate that works: to start nothing for a while, how sources stand, and to forget what they owe.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::network::{Network, Prefixes};

fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Refuse(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

/// One that runs goes on, and with one below, at and above the cap nobody new comes in, whoever it is.
#[test]
fn drained_it_refuses_everybody() {
    for running in [0, 1, 2] {
        let exempt = vec!["192.0.2.99".parse().unwrap()];
        let rules = Rules { max_connections: 2, reserved: 1, max_per_listener: vec![0], exempt, ..Rules::default() };
        let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
        let mut slots: Vec<_> =
            (0..running).map(|nth| admitted(&mut gate, now, from(nth, "192.0.2.99", true))).collect();
        assert!(!gate.is_drained());
        for _ in 0..2 {
            assert_eq!(step(|out| gate.set_drained(now, true, out)), [], "again changes nothing");
            assert!(gate.is_drained());
        }
        for (source, is_exempt) in [("192.0.2.1", false), ("192.0.2.99", true), ("?", false)] {
            let (verdict, actions) = arrive(&mut gate, now, from(7, source, is_exempt));
            assert_eq!((reason(&verdict), actions), (Some(Reason::DRAINED), vec![]));
            assert_eq!(words(&verdict), "the service is drained for maintenance");
        }
        assert_eq!((gate.census().active, gate.deadline()), (running as u32, None));
        slots.drain(..).for_each(|slot| assert_eq!(step(|out| gate.ended(now, slot, END, out)), []));
        for _ in 0..2 {
            assert_eq!(step(|out| gate.set_drained(now, false, out)), []);
            assert!(!gate.is_drained());
        }
        let _slot = admitted(&mut gate, now, from(8, "192.0.2.1", false));
    }
}

/// Who is told by a limit on its source is told that.
#[test]
fn drained_it_still_judges_sources_first() {
    let rules = Rules { max_per_listener: vec![0], max_per_source: vec![(1, Default::default())], ..Rules::default() };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    let _slot = admitted(&mut gate, now, from(0, "192.0.2.1", false));
    gate.set_drained(now, true, &mut VecDeque::new());
    assert_eq!(reason(&arrive(&mut gate, now, from(1, "192.0.2.1", false)).0), Some(named("source-limit")));
    assert_eq!(reason(&arrive(&mut gate, now, from(2, "192.0.2.2", false)).0), Some(Reason::DRAINED));
}

#[test]
fn drained_it_holds_who_may_wait_and_resumed_it_admits_them_in_order() {
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 3, capacity: 9, ..Hold::default() };
    let (mut gate, t0) = (gate_of(2, &[0], None, WhenFull::Wait, hold), Instant::now());
    assert_eq!(step(|out| gate.set_drained(t0, true, out)), []);
    for ticket in 1..=3 {
        let since = t0 + SECOND * ticket as u32;
        assert_eq!(arrive(&mut gate, since, arrival(0, ticket, since)), (Verdict::Hold, vec![]), "N-1 and N");
    }
    let fourth = arrive(&mut gate, t0 + 4 * SECOND, arrival(0, 5, t0 + 4 * SECOND)).0;
    assert_eq!(reason(&fourth), Some(Reason::QUEUE_FULL), "N+1");
    assert_eq!(words(&fourth), "queue full (3 waiting, 0 running)");
    // Their time goes on.
    assert_eq!(gate.deadline(), Some(t0 + 11 * SECOND));
    assert_eq!(refusals(&step(|out| gate.tick(t0 + 11 * SECOND, out))), [(1, Reason::WAITED_TOO_LONG)]);
    let who = arrival(0, 4, t0 + 11 * SECOND);
    assert_eq!(arrive(&mut gate, t0 + 11 * SECOND, who), (Verdict::Hold, vec![]));
    let admitted = only_admitted(step(|out| gate.set_drained(t0 + 11 * SECOND, false, out)));
    assert_eq!(admitted.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [2, 3], "up to the cap");
    assert_eq!(gate.queue().len(), 1);
}

#[test]
fn drained_it_leaves_clients_in_the_kernel_s_queue() {
    let (mut gate, now) = (gate(2, &[0, 0], None, WhenFull::Wait), Instant::now());
    assert_eq!(step(|out| gate.set_drained(now, true, out)), [Action::Pause(0), Action::Pause(1)]);
    assert_eq!((gate.is_anybody_waiting(), gate.deadline()), (true, None), "no turn for nothing");
    assert_eq!(step(|out| gate.set_drained(now, false, out)), [Action::Resume(0), Action::Resume(1)]);
}

/// A stop ends it all; and a drained gate that stops tells who waits that it stops.
#[test]
fn a_stop_comes_before_it() {
    let hold = Hold { capacity: 9, ..Hold::default() };
    let (mut gate, now) = (gate_of(0, &[0], None, WhenFull::Wait, hold), Instant::now());
    gate.set_drained(now, true, &mut VecDeque::new());
    assert_eq!(arrive(&mut gate, now, arrival(0, 1, now)).0, Verdict::Hold);
    assert_eq!(refusals(&step(|out| gate.drain(now, out))), [(1, Reason::STOPPING)]);
    assert_eq!(step(|out| gate.set_drained(now, false, out)), []);
    assert_eq!(reason(&arrive(&mut gate, now, arrival(0, 2, now)).0), Some(Reason::STOPPING));
}

#[test]
fn a_source_is_forgotten_by_its_address_or_a_network() {
    let of = vec![Penalty { outcome: END.outcome, span: 20 * SECOND, always: false }];
    let rules = Rules {
        max_per_listener: vec![0],
        penalties: Penalties { of, min: SECOND, max: 60 * SECOND },
        max_rate_per_source: Some(Rate::new(1, 10 * SECOND, None).unwrap()),
        max_sources: 9,
        ..Rules::default()
    };
    let sources = ["192.0.2.1", "192.0.3.1", "2001:db8::1", "uid=7", "cid=7", "fe80::1%3"];
    for (forgotten, left) in [
        ("192.0.2.1", "011111"),
        ("192.0.2.0/24", "011111"),
        ("192.0.2.0/23", "001111"),
        ("0.0.0.0/0", "001111"),
        ("2001:db8::99", "110111"),
        ("2001:db8::/32", "110111"),
        ("uid=7", "111011"),
        ("cid=7", "111101"),
        ("fe80::/10", "111110"),
        ("192.0.2.2", "111111"),
        ("uid=8", "111111"),
    ] {
        let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
        for source in sources {
            let slot = admitted(&mut gate, now, from(1, source, false));
            gate.ended(now, slot, END, &mut VecDeque::new());
        }
        let network: Network = forgotten.parse().unwrap();
        for is_known in [left.contains('0'), false] {
            let mut known = false;
            assert_eq!(step(|out| known = gate.forget_source(now, network, out)), []);
            assert_eq!(known, is_known, "{forgotten}");
        }
        for (source, left) in sources.into_iter().zip(left.bytes()) {
            let super::super::live::Standing { penalty, rate } = gate.standing(now, source.parse().unwrap());
            let owed = if left == b'1' { (20 * SECOND, 10 * SECOND) } else { Default::default() };
            assert_eq!((penalty, rate), owed, "{source} after {forgotten}");
        }
        assert_eq!(gate.remembered(), 2 * left.matches('1').count());
    }
}

#[test]
fn sources_with_most_commands_come_first() {
    let rules = Rules { max_connections: 4, max_per_listener: vec![0], ..Rules::default() };
    let hold = Hold { capacity: 9, ..Hold::default() };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Wait, hold, 1), any_time());
    let come = ["192.0.2.9", "2001:db8::1", "2001:db8::2", "?", "192.0.2.1", "192.0.2.1", "192.0.2.9", "uid=7"];
    for (ticket, source) in (0..).zip(come) {
        let _verdict = gate.arrive(now, from(ticket, source, false), &mut VecDeque::new());
    }
    let told = |count| {
        let all = gate.sources(Prefixes::default(), count).into_iter();
        all.map(|one| (one.network.map_or("?".into(), |of| of.to_string()), one.active, one.held)).collect::<Vec<_>>()
    };
    let all = [("2001:db8::/64", 2, 0), ("192.0.2.9/32", 1, 1), ("?", 1, 0), ("192.0.2.1/32", 0, 2), ("uid=7", 0, 1)];
    let all = all.map(|(source, active, held)| (source.to_owned(), active, held));
    for count in 0..=all.len() + 1 {
        assert_eq!(told(count), all[..count.min(all.len())], "{count}");
    }
    let most = gate.most(Prefixes::default(), 4).into_iter().map(|(network, count)| (network.to_string(), count));
    let known = [("192.0.2.1/32", 2), ("192.0.2.9/32", 2), ("2001:db8::/64", 2), ("uid=7", 1)];
    assert!(most.eq(known.map(|(network, count)| (network.to_owned(), count))));
    assert_eq!(gate.most(Prefixes { v4: Some(24), v6: Some(48) }, 1), [("192.0.2.0/24".parse().unwrap(), 4)]);
}

#[test]
fn whether_a_client_may_start_is_known_before_it_arrives() {
    let rules = Rules {
        max_connections: 2,
        max_per_listener: vec![0],
        max_per_source: vec![(1, Default::default())],
        ..Rules::default()
    };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    let may = |gate: &Gate, source: &str| gate.may(now, &from(9, source, false));
    assert_eq!(may(&gate, "192.0.2.1"), Ok(()));
    let first = admitted(&mut gate, now, from(0, "192.0.2.1", false));
    assert_eq!((may(&gate, "192.0.2.1"), may(&gate, "192.0.2.2")), (Err(Stage::Entry), Ok(())));
    let second = admitted(&mut gate, now, from(1, "192.0.2.2", false));
    assert_eq!((may(&gate, "192.0.2.1"), may(&gate, "192.0.2.3")), (Err(Stage::Entry), Err(Stage::Start)));
    for slot in [first, second] {
        gate.ended(now, slot, END, &mut VecDeque::new());
    }
    assert_eq!(may(&gate, "192.0.2.1"), Ok(()));
    gate.drain(now, &mut VecDeque::new());
    assert_eq!(may(&gate, "192.0.2.1"), Err(Stage::Start), "it stops");
}

/// An address of `--exempt` owes nothing for the network that it is in, and each network is listed once.
#[test]
fn the_limited_are_networks_and_none_of_the_exempt() {
    let of = vec![Penalty { outcome: END.outcome, span: 20 * SECOND, always: false }];
    let rules = Rules {
        max_per_listener: vec![0],
        penalties: Penalties { of, min: SECOND, max: 60 * SECOND },
        max_rate_per_source: Some(Rate::new(1, 10 * SECOND, None).unwrap()),
        max_sources: 9,
        exempt: vec!["2001:db8::99".parse().unwrap()],
        ..Rules::default()
    };
    let (mut gate, now) = (Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1), any_time());
    for source in ["2001:db8::1", "192.0.2.1"] {
        let slot = admitted(&mut gate, now, from(1, source, false));
        gate.ended(now, slot, END, &mut VecDeque::new());
    }
    let standing = |source: &str| {
        let super::super::live::Standing { penalty, rate } = gate.standing(now, source.parse().unwrap());
        (penalty, rate)
    };
    assert_eq!(standing("2001:db8::2"), (20 * SECOND, 10 * SECOND));
    assert_eq!(standing("2001:db8::99"), Default::default());
    let limited = |now, count| gate.limited(now, count).iter().map(Network::to_string).collect::<Vec<_>>();
    assert_eq!(limited(now, 9), ["192.0.2.1/32", "2001:db8::/64"]);
    assert_eq!((limited(now, 1).len(), limited(now, 0).len()), (1, 0));
    assert_eq!(limited(now + 10 * SECOND, 9).len(), 2, "one of two limits is enough");
    assert_eq!(limited(now + 20 * SECOND, 9).len(), 0);
}
