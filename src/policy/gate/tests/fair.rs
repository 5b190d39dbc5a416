//! Who is next where sources take turns.
#![forbid(unsafe_code)]

use super::model::FAIR;
use super::*;

/// One client beside one with fifty connections waits for one session at most, in whichever turn it comes.
#[test]
fn one_beside_fifty_has_one_of_the_next_two_slots() {
    for before in 0..8 {
        let hold = Hold { capacity: 100, order: FAIR, ..Hold::default() };
        let (mut gate, now) = (gate_of(10, &[0], None, WhenFull::Wait, hold), any_time());
        let from =
            |uid, ticket| Arrival { ticket, listener: 0, source: Source::Uid(uid), is_exempt: false, since: now };
        let mut slots: VecDeque<_> = (0..10).map(|ticket| admitted(&mut gate, now, from(1, ticket))).collect();
        (10..50).for_each(|ticket| assert_eq!(arrive(&mut gate, now, from(1, ticket)), (Verdict::Hold, vec![])));
        let mut end = |gate: &mut Gate| {
            let slot = slots.pop_front().unwrap();
            let (ticket, slot) = only_admitted(step(|out| gate.ended(now, slot, END, out))).remove(0);
            slots.push_back(slot);
            ticket
        };
        (0..before).for_each(|nth| assert_eq!(end(&mut gate), 10 + nth, "one source alone"));
        assert_eq!(arrive(&mut gate, now, from(2, 50)), (Verdict::Hold, vec![]));
        assert!([(); 2].map(|()| end(&mut gate)).contains(&50), "after {before} turns");
    }
}

/// A source that is served again and again leaves another one its eighth turn.
#[test]
fn the_eighth_turn_is_that_of_who_came_first() {
    let hold = Hold { capacity: 100, order: FAIR, ..Hold::default() };
    let (mut gate, now) = (gate_of(2, &[0], None, WhenFull::Wait, hold), any_time());
    let from = |uid, ticket| Arrival { ticket, listener: 0, source: Source::Uid(uid), is_exempt: false, since: now };
    // The one command of the source that came first never ends, and those of the others always do.
    let _endless = admitted(&mut gate, now, from(1, 0));
    let mut slot = admitted(&mut gate, now, from(2, 1));
    (2..4).for_each(|ticket| assert_eq!(arrive(&mut gate, now, from(1, ticket)), (Verdict::Hold, vec![])));
    (4..20).for_each(|ticket| assert_eq!(arrive(&mut gate, now, from(2, ticket)), (Verdict::Hold, vec![])));
    let order = [(); 8].map(|()| {
        let ended = std::mem::replace(&mut slot, Slot { listener: None, source: Source::Unknown, is_exempt: false });
        let (ticket, next) = only_admitted(step(|out| gate.ended(now, ended, END, out))).remove(0);
        slot = next;
        ticket
    });
    assert_eq!(order, [4, 5, 6, 7, 8, 9, 10, 2]);
}

/// With one slot, sources take turns, whoever came first and however many of it wait.
#[test]
fn with_one_slot_sources_take_turns() {
    let hold = Hold { capacity: 100, order: FAIR, ..Hold::default() };
    let (mut gate, now) = (gate_of(1, &[0], None, WhenFull::Wait, hold), any_time());
    let from = |uid, ticket| Arrival { ticket, listener: 0, source: Source::Uid(uid), is_exempt: false, since: now };
    let mut slot = admitted(&mut gate, now, from(1, 0));
    (1..13).for_each(|ticket| assert_eq!(arrive(&mut gate, now, from(1, ticket)), (Verdict::Hold, vec![])));
    (13..15).for_each(|ticket| assert_eq!(arrive(&mut gate, now, from(2, ticket)), (Verdict::Hold, vec![])));
    assert_eq!(arrive(&mut gate, now, from(3, 15)), (Verdict::Hold, vec![]));
    let order = [(); 6].map(|()| {
        let ended = std::mem::replace(&mut slot, Slot { listener: None, source: Source::Unknown, is_exempt: false });
        let (ticket, next) = only_admitted(step(|out| gate.ended(now, ended, END, out))).remove(0);
        slot = next;
        ticket
    });
    assert_eq!(order, [13, 15, 1, 14, 2, 3]);
}
