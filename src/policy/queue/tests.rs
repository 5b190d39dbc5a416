//! The lines, alone: nothing keeps anybody from being started.
#![forbid(unsafe_code)]

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const FAIR: QueueOrder = QueueOrder::Fair(Prefixes { v4: Some(32), v6: Some(64) });

fn arrival(ticket: Ticket, source: Source) -> Arrival {
    Arrival { ticket, listener: ticket as usize % 2, source, is_exempt: false, since: Instant::now() }
}

/// Who is next of all, and leaves to be started.
fn next(queue: &mut Queue) -> Option<Ticket> {
    let who = queue.heads().min_by_key(|who| queue.rank(who)).copied()?;
    queue.admit(&who);
    queue.started(who.source);
    Some(who.ticket)
}

fn tickets<'a>(who: impl Iterator<Item = &'a Arrival>) -> Vec<Ticket> {
    who.map(|who| who.ticket).collect()
}

#[test]
fn a_line_per_listener_and_class_in_order_of_tickets() {
    for order in [QueueOrder::Fifo, FAIR] {
        let (mut queue, now) = (Queue::new(2, order), Instant::now());
        let arrival = |ticket, since| Arrival { since, ..arrival(ticket, Source::Unknown) };
        for ticket in [3, 5, 4] {
            queue.enter(arrival(ticket, now + Duration::from_secs(ticket)));
        }
        assert_eq!(tickets(queue.heads()), [4, 3]);
        assert_eq!(queue.longest(), Some(now + Duration::from_secs(3)));
        assert!(!queue.leave(&arrival(6, now)), "it does not wait");
        assert!(queue.leave(&arrival(3, now)));
        assert_eq!((queue.len(), tickets(queue.heads())), (2, vec![4, 5]));
        queue.enter(arrival(3, now));
        assert_eq!((tickets(queue.heads()), queue.longest()), (vec![4, 3], Some(now)), "back to the front");
        let exempt = Arrival { is_exempt: true, ..arrival(7, now - Duration::from_secs(1)) };
        queue.enter(exempt);
        assert_eq!((tickets(queue.heads()), tickets(queue.oldest())), (vec![4, 3, 7], vec![4, 3, 7]), "behind nobody");
        assert_eq!(queue.longest(), Some(exempt.since));
        assert!(queue.leave(&exempt) && !queue.leave(&exempt));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!((order, queue.is_empty()), (vec![3, 4, 5], true));
    }
}

#[test]
fn the_source_with_the_fewest_running_is_next_and_every_eighth_turn_is_the_oldest_s() {
    let [many, few] = [Source::Uid(1), Source::Uid(2)];
    let mut queue = Queue::new(2, FAIR);
    (0..3).for_each(|_| queue.started(many));
    (0..10).for_each(|ticket| queue.enter(arrival(ticket, many)));
    (10..20).for_each(|ticket| queue.enter(arrival(ticket, few)));
    // Three each after three turns; then by turns, of equals the one that was served longest ago.
    let order: Vec<_> = (0..8).filter_map(|_| next(&mut queue)).collect();
    assert_eq!(order, [10, 11, 12, 0, 13, 1, 14, 2], "the eighth is that of the oldest");
    (0..7).for_each(|_| queue.started(many));
    let order: Vec<_> = (0..8).filter_map(|_| next(&mut queue)).collect();
    assert_eq!(order, [15, 16, 17, 18, 19, 3, 4, 5], "all of the others first");
}

#[test]
fn an_end_brings_a_source_forward() {
    let mut queue = Queue::new(2, FAIR);
    let [first, second] = [Source::Uid(1), Source::Uid(2)];
    [first, second].into_iter().for_each(|source| queue.started(source));
    queue.enter(arrival(0, first));
    queue.enter(arrival(2, second));
    assert_eq!(tickets(queue.heads()), [0]);
    queue.ended(second);
    assert_eq!(tickets(queue.heads()), [2]);
    queue.leave(&arrival(2, second));
    assert_eq!(tickets(queue.heads()), [0]);
}

#[test]
fn addresses_of_one_network_are_one_source() {
    let source = |text: &str| text.parse::<Source>().unwrap();
    let mut queue = Queue::new(2, FAIR);
    queue.started(source("2001:db8::1"));
    queue.enter(arrival(0, source("2001:db8::2")));
    queue.enter(arrival(2, source("2001:db8:0:1::1")));
    assert_eq!(tickets(queue.heads()), [2]);
    let mut queue = Queue::new(2, QueueOrder::Fair(Prefixes { v4: Some(32), v6: Some(128) }));
    queue.started(source("2001:db8::1"));
    queue.enter(arrival(0, source("2001:db8::2")));
    queue.enter(arrival(2, source("2001:db8:0:1::1")));
    assert_eq!(tickets(queue.heads()), [0]);
}

/// Whoever is alone takes nobody's turn, so it does not bring that of the oldest nearer.
#[test]
fn a_turn_is_one_among_several() {
    let [many, few] = [Source::Uid(1), Source::Uid(2)];
    for alone in [0, 1, 7] {
        let mut queue = Queue::new(2, FAIR);
        for ticket in 0..alone {
            queue.enter(arrival(ticket, few));
            assert_eq!(next(&mut queue), Some(ticket));
            queue.ended(few);
        }
        (0..9).for_each(|_| queue.started(many));
        queue.enter(arrival(10, many));
        (11..20).for_each(|ticket| queue.enter(arrival(ticket, few)));
        let order: Vec<_> = (0..8).filter_map(|_| next(&mut queue)).collect();
        assert_eq!(order, [11, 12, 13, 14, 15, 16, 17, 10], "{alone}");
    }
}

#[test]
fn orders_by_their_names() {
    assert_eq!([QueueOrder::Fifo, FAIR].map(|order| order.to_string()), ["fifo", "fair"]);
}

proptest! {
    /// Who has p others before it in the order of coming is admitted within 8 (p + 1) admissions, whoever comes later, and after all of
    /// its source that came before it; what ends meanwhile changes neither.
    #[test]
    fn nobody_waits_for_ever(steps in vec((0..4u32, 0..3u8), 1..300)) {
        let mut queue = Queue::new(2, FAIR);
        // With the admissions within which each has to be admitted.
        let mut waiting: Vec<(Arrival, usize)> = Vec::new();
        let (mut running, mut admitted, mut ticket) = (Vec::new(), 0, 0);
        for (uid, what) in steps {
            match what {
                0 | 1 => {
                    let who = arrival(ticket, Source::Uid(uid));
                    ticket += 1;
                    queue.enter(who);
                    waiting.push((who, admitted + 8 * (waiting.len() + 1)));
                }
                _ if uid == 0 => running.pop().into_iter().for_each(|source| queue.ended(source)),
                _ => {
                    let Some(next) = next(&mut queue) else { continue };
                    admitted += 1;
                    let at = waiting.iter().position(|(who, _)| who.ticket == next).unwrap();
                    let (who, within) = waiting.remove(at);
                    running.push(who.source);
                    prop_assert!(admitted <= within);
                    prop_assert!(!waiting[..at].iter().any(|(before, _)| before.source == who.source), "in order within a source");
                }
            }
            prop_assert!(waiting.iter().all(|(_, within)| admitted < *within));
        }
    }

    /// One source alone is served first come, first served, over both listeners.
    #[test]
    fn one_source_knows_no_other_order(steps in vec(0..3u8, 1..200)) {
        let (mut fair, mut fifo) = (Queue::new(2, FAIR), Queue::new(2, QueueOrder::Fifo));
        for (ticket, what) in (0..).zip(steps) {
            match what {
                0 | 1 => [&mut fair, &mut fifo].map(|queue| queue.enter(arrival(ticket, Source::Uid(1)))),
                _ => { prop_assert_eq!(next(&mut fair), next(&mut fifo)); [(), ()] }
            };
        }
    }
}
