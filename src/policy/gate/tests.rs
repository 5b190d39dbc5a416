//! The gate's borders, one by one.
#![forbid(unsafe_code)]

use super::limits::Rule;
use super::*;
use crate::policy::limit::LIMITS;
use crate::policy::limit::gcra::Rate;
use crate::policy::limit::rule::{Kind, Limit, Outcome, Penalties, Penalty};
use crate::policy::queue::Ticket;
use crate::policy::reason::Reason;
use std::collections::HashMap;
use std::time::Duration;

mod changes;
mod fair;
mod gauges;
mod live;
mod memory;
mod model;
mod penalties;
mod rates;
mod sources;

/// The reason of this name.
fn named(slug: &str) -> Reason {
    Reason::ALL.into_iter().find(|reason| reason.slug() == slug).unwrap()
}

fn limits(rules: &Rules) -> Vec<Rule> {
    let build = |(reason, kind): (Reason, &Kind)| Some(rule(reason, kind.stage, kind.build(rules)?));
    Reason::ALL.into_iter().zip(&LIMITS).filter_map(build).collect()
}

fn rule(reason: Reason, stage: Stage, limit: Box<dyn Limit>) -> Rule {
    Rule { reason, stage, spares_exempt: false, is_dry: false, limit }
}

const END: Ending = Ending { outcome: Outcome::Status(0), lasted: Duration::ZERO };
const SECOND: Duration = Duration::from_secs(1);

fn with_limits(limits: Vec<Rule>, when_full: WhenFull, hold: Hold, listeners: usize) -> Gate {
    let census = Census { per_listener: vec![0; listeners], ..Census::default() };
    Gate::with_limits(Limits::of(limits), census, when_full, hold)
}

fn gate_of(max: u32, per_listener: &[u32], load: Option<f64>, when_full: WhenFull, hold: Hold) -> Gate {
    let (max_connections, max_per_listener) = (max, per_listener.to_vec());
    let rules = Rules { max_connections, max_per_listener, load_average: load, ..Rules::default() };
    Gate::new(&rules, when_full, hold, per_listener.len())
}

fn gate(max: u32, per_listener: &[u32], load: Option<f64>, when_full: WhenFull) -> Gate {
    gate_of(max, per_listener, load, when_full, Hold::default())
}

/// A limit with a memory: one start in so long for each source.
#[derive(Debug)]
struct Every {
    span: Duration,
    last: HashMap<Source, Instant>,
}

impl Every {
    /// Under the name of a limit that these tests do not use otherwise.
    fn limit(span: Duration) -> Rule {
        rule(named("load"), Stage::Start, Box::new(Every { span, last: HashMap::new() }))
    }
}

impl Limit for Every {
    fn ask(&self, now: Instant, census: &Census, who: Who) -> Result<(), No> {
        let Who::Client(who) = who else { return Ok(()) };
        match self.last.get(&who.source).map(|last| *last + self.span) {
            Some(then) if now < then => {
                let figures = Figures::Count { active: census.per_source.count(who.source), max: 1 };
                Err(No { figures, until: Until::Then(then) })
            }
            _ => Ok(()),
        }
    }

    fn charge(&mut self, now: Instant, who: &Arrival) {
        self.last.insert(who.source, now);
    }
}

fn arrival(listener: ListenerId, ticket: Ticket, since: Instant) -> Arrival {
    Arrival { ticket, listener, source: source_of(ticket), is_exempt: is_exempt(ticket), since }
}

/// A class of its own in the queue.
fn is_exempt(ticket: Ticket) -> bool {
    ticket % 5 == 4
}

fn source_of(ticket: Ticket) -> Source {
    Source::Uid(ticket as u32 % 3)
}

/// A client of a limit on sources.
fn from(ticket: Ticket, source: &str, is_exempt: bool) -> Arrival {
    Arrival { ticket, listener: 0, source: source.parse().unwrap(), is_exempt, since: any_time() }
}

fn any_time() -> Instant {
    Instant::now()
}

/// What a change leads to.
fn step(change: impl FnOnce(&mut VecDeque<Action>)) -> Vec<Action> {
    let mut out = VecDeque::new();
    change(&mut out);
    out.into()
}

fn arrive(gate: &mut Gate, now: Instant, who: Arrival) -> (Verdict, Vec<Action>) {
    let mut out = VecDeque::new();
    let verdict = gate.arrive(now, who, &mut out);
    (verdict, out.into())
}

/// One that is admitted, and nothing else is to be done.
fn admitted(gate: &mut Gate, now: Instant, who: Arrival) -> Slot {
    match arrive(gate, now, who) {
        (Verdict::Admit(slot), actions) if actions.is_empty() => slot,
        other => panic!("{other:?}"),
    }
}

/// Who is admitted of those that were held, with nothing else to be done.
fn only_admitted(actions: Vec<Action>) -> Vec<(Ticket, Slot)> {
    let slot = |action| match action {
        Action::Admit(ticket, slot) => (ticket, slot),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(slot).collect()
}

fn reason(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Refuse(refusal) => Some(refusal.reason),
        _ => None,
    }
}

/// What was refused, and why.
fn refusals(actions: &[Action]) -> Vec<(Ticket, Reason)> {
    let refusal = |action: &Action| match action {
        Action::Refuse(ticket, refusal) => Some((*ticket, refusal.reason)),
        _ => None,
    };
    actions.iter().filter_map(refusal).collect()
}

#[test]
fn borders_of_the_total_cap() {
    for max in [1, 2, 5] {
        let (mut gate, now) = (gate(max, &[0], None, WhenFull::Refuse), Instant::now());
        let mut slots: Vec<_> = (0..max.into()).map(|nth| admitted(&mut gate, now, arrival(0, nth, now))).collect();
        let refusal = Refusal::count(named("total-limit"), max, max);
        assert_eq!(arrive(&mut gate, now, arrival(0, 7, now)), (Verdict::Refuse(refusal), vec![]));
        assert_eq!(step(|out| gate.ended(now, slots.pop().unwrap(), END, out)), []);
        slots.push(admitted(&mut gate, now, arrival(0, 8, now)));
    }
}

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn a_limit_that_knows_until_when_says_so_to_the_moment() {
    let (span, t0) = (5 * SECOND, Instant::now());
    let mut gate = with_limits(vec![Every::limit(span)], WhenFull::Refuse, Hold::default(), 1);
    let from =
        |source, ticket| Arrival { ticket, listener: 0, source: Source::Uid(source), is_exempt: false, since: t0 };
    let _slot = admitted(&mut gate, t0, from(1, 0));
    let _other = admitted(&mut gate, t0, from(2, 1));
    for (now, retry) in [(t0, span), (t0 + SECOND, 4 * SECOND), (t0 + span - NANO, NANO)] {
        let (Verdict::Refuse(refusal), actions) = arrive(&mut gate, now, from(1, 2)) else { panic!() };
        assert_eq!((refusal.retry, actions), (Some(retry), vec![]));
    }
    assert_eq!(gate.deadline(), None, "nobody waits");
    let _slot = admitted(&mut gate, t0 + span, from(1, 3));
}

#[test]
fn who_waits_for_a_time_is_let_in_at_that_time() {
    let (span, t0, hold) = (5 * SECOND, Instant::now(), Hold { capacity: 10, ..Hold::default() });
    let mut gate = with_limits(vec![Every::limit(span)], WhenFull::Wait, hold, 1);
    let from = |ticket| Arrival { ticket, listener: 0, source: Source::Uid(1), is_exempt: false, since: t0 };
    let _slot = admitted(&mut gate, t0, from(0));
    for ticket in [1, 2] {
        assert_eq!(arrive(&mut gate, t0 + SECOND, from(ticket)), (Verdict::Hold, vec![]));
    }
    for nth in [1, 2] {
        let at = t0 + span * nth;
        assert_eq!(gate.deadline(), Some(at));
        assert_eq!(step(|out| gate.tick(at - NANO, out)), []);
        let admitted = only_admitted(step(|out| gate.tick(at, out)));
        assert_eq!((admitted.len(), admitted[0].0), (1, nth.into()), "that it was let in is remembered");
    }
    assert_eq!(gate.deadline(), None);
}

/// Behind a client that its source's limit keeps waiting stands one of another source: it is let in as soon as the first is told.
#[test]
fn who_stood_behind_a_client_that_waited_too_long_is_let_in_with_it() {
    let (t0, hold) = (Instant::now(), Hold { max_wait: Some(3 * SECOND), capacity: 10, ..Hold::default() });
    let mut gate = with_limits(vec![Every::limit(10 * SECOND)], WhenFull::Wait, hold, 1);
    let from = |source, ticket| Arrival {
        ticket,
        listener: 0,
        source: Source::Uid(source),
        is_exempt: false,
        since: t0 + SECOND * ticket as u32,
    };
    let slot = admitted(&mut gate, t0, from(1, 0));
    assert_eq!(step(|out| gate.postponed(t0, from(1, 0), slot, out)), []);
    assert_eq!(arrive(&mut gate, t0 + SECOND, from(2, 1)), (Verdict::Hold, vec![]));
    assert_eq!(step(|out| gate.try_again(t0 + SECOND, out)), []);
    let actions = step(|out| gate.tick(t0 + 3 * SECOND, out));
    assert!(
        matches!(&actions[..], [Action::Refuse(0, refusal), Action::Admit(1, _)] if refusal.reason == Reason::WAITED_TOO_LONG),
        "{actions:?}"
    );
}

#[test]
fn of_two_that_are_late_the_one_that_may_come_in_does() {
    let (t0, hold) = (Instant::now(), Hold { max_wait: Some(3 * SECOND), capacity: 10, ..Hold::default() });
    let mut gate = with_limits(vec![Every::limit(10 * SECOND)], WhenFull::Wait, hold, 1);
    let from =
        |source, ticket| Arrival { ticket, listener: 0, source: Source::Uid(source), is_exempt: false, since: t0 };
    let slot = admitted(&mut gate, t0, from(1, 0));
    assert_eq!(step(|out| gate.postponed(t0, from(1, 0), slot, out)), []);
    assert_eq!(arrive(&mut gate, t0, from(2, 1)), (Verdict::Hold, vec![]));
    assert_eq!(step(|out| gate.try_again(t0, out)), []);
    let actions = step(|out| gate.tick(t0 + 3 * SECOND, out));
    assert!(
        matches!(&actions[..], [Action::Refuse(0, _), Action::Admit(1, _)]),
        "a free slot comes before the clock: {actions:?}"
    );
}

/// Whichever limit says no, the others are none the poorer for it.
#[test]
fn all_limits_are_charged_or_none() {
    let (span, now) = (5 * SECOND, Instant::now());
    for is_last in [false, true] {
        let mut limits = limits(&Rules { max_connections: 1, ..Rules::default() });
        limits.insert(if is_last { 1 } else { 0 }, Every::limit(span));
        let mut gate = with_limits(limits, WhenFull::Refuse, Hold::default(), 1);
        let from =
            |source| Arrival { ticket: 0, listener: 0, source: Source::Uid(source), is_exempt: false, since: now };
        let slot = admitted(&mut gate, now, from(1));
        assert_eq!(reason(&arrive(&mut gate, now, from(2)).0), Some(named("total-limit")));
        assert_eq!(step(|out| gate.ended(now, slot, END, out)), []);
        assert_eq!(reason(&arrive(&mut gate, now, from(1)).0), Some(named("load")));
        assert_eq!(gate.census().active, 0);
        let _slot = admitted(&mut gate, now, from(2));
    }
}

#[test]
fn a_slot_knows_what_it_is_counted_for() {
    let (mut gate, now) = (gate(0, &[0, 0], None, WhenFull::Refuse), Instant::now());
    let uid = Source::Uid(7);
    let slot = admitted(&mut gate, now, Arrival { ticket: 1, listener: 1, source: uid, is_exempt: false, since: now });
    assert_eq!((slot.listener(), slot.source()), (Some(1), uid));
    let unknown = gate.adopt(now, None, uid, &mut VecDeque::new());
    assert_eq!((unknown.listener(), unknown.source()), (None, uid));
    assert_eq!((&gate.census().per_listener[..], gate.census().per_source.count(uid)), (&[0, 1][..], 2));
    assert_eq!(step(|out| gate.ended(now, slot, END, out)), []);
    assert_eq!((&gate.census().per_listener[..], gate.census().per_source.count(uid)), (&[0, 0][..], 1));
    assert_eq!(step(|out| gate.ended(now, unknown, END, out)), []);
    assert!(gate.census().active == 0 && gate.census().per_source.is_empty());
}

#[test]
fn only_the_edge_pauses_and_resumes() {
    let (mut gate, now) = (gate(2, &[1, 0], None, WhenFull::Wait), Instant::now());
    let (first, paused) = arrive(&mut gate, now, arrival(0, 1, now));
    assert_eq!(paused, [Action::Pause(0)]);
    let (second, paused) = arrive(&mut gate, now, arrival(1, 2, now));
    assert_eq!(paused, [Action::Pause(1)]);
    let (Verdict::Admit(first), Verdict::Admit(second)) = (first, second) else { panic!() };
    assert_eq!(step(|out| gate.ended(now, second, END, out)), [Action::Resume(1)]);
    assert_eq!(step(|out| gate.ended(now, first, END, out)), [Action::Resume(0)]);
    assert_eq!(step(|out| gate.drain(now, out)), [Action::Pause(0), Action::Pause(1)]);
}

#[test]
fn load_lets_one_run_and_is_looked_at_again() {
    let (mut gate, t0) = (gate(0, &[0], Some(2.0), WhenFull::Wait), Instant::now());
    assert!(gate.limits().due_gauge(t0).is_some());
    assert_eq!(step(|out| gate.read(t0, Reading::Load(2.0), out)), [], "with nothing running the load does not matter");
    assert_eq!(gate.deadline(), None);
    let (verdict, actions) = arrive(&mut gate, t0, arrival(0, 1, t0));
    assert!(matches!(verdict, Verdict::Admit(_)));
    assert_eq!(actions, [Action::Pause(0)]);
    assert_eq!(gate.deadline(), Some(t0 + READING_INTERVAL));
    let t1 = t0 + READING_INTERVAL;
    assert!(gate.limits().due_gauge(t1).is_some());
    assert_eq!(step(|out| gate.read(t1, Reading::Load(1.99), out)), [Action::Resume(0)]);
    assert_eq!(gate.deadline(), None);
}

#[test]
fn the_held_are_admitted_in_order_or_refused_in_time() {
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 3, capacity: 100, ..Hold::default() };
    let (mut gate, t0) = (gate_of(1, &[0], None, WhenFull::Wait, hold), Instant::now());
    let slot = admitted(&mut gate, t0, arrival(0, 0, t0));
    for ticket in 1..=3 {
        let since = t0 + SECOND * ticket as u32;
        assert_eq!(arrive(&mut gate, since, arrival(0, ticket, since)), (Verdict::Hold, vec![]), "N-1 and N");
    }
    assert_eq!(reason(&arrive(&mut gate, t0, arrival(0, 4, t0)).0), Some(Reason::QUEUE_FULL), "N+1");
    let (ticket, slot) = only_admitted(step(|out| gate.ended(t0, slot, END, out))).remove(0);
    assert_eq!(ticket, 1);
    assert_eq!(gate.deadline(), Some(t0 + 12 * SECOND));
    let before = t0 + 12 * SECOND - Duration::from_millis(1);
    assert_eq!(step(|out| gate.tick(before, out)), []);
    let late = step(|out| gate.tick(t0 + 12 * SECOND, out));
    assert_eq!(refusals(&late), [(2, Reason::WAITED_TOO_LONG)]);
    let late = arrive(&mut gate, t0 + 12 * SECOND, arrival(0, 5, t0 + 2 * SECOND));
    assert_eq!(reason(&late.0), Some(Reason::WAITED_TOO_LONG), "its time was over in the kernel's queue");
    let next = only_admitted(step(|out| gate.ended(t0 + 13 * SECOND, slot, END, out)));
    assert_eq!((next.len(), next[0].0), (1, 3), "a free slot comes before the clock");
    assert_eq!(gate.deadline(), None);
}

#[test]
fn beyond_its_places_the_kernel_holds() {
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 0, capacity: 2, ..Hold::default() };
    let (mut gate, now) = (gate_of(1, &[0], None, WhenFull::Wait, hold), Instant::now());
    let slot = admitted(&mut gate, now, arrival(0, 0, now));
    let first = arrival(0, 1, now);
    assert_eq!(arrive(&mut gate, now, first), (Verdict::Hold, vec![]));
    assert_eq!(arrive(&mut gate, now, arrival(0, 2, now)), (Verdict::Hold, vec![Action::Pause(0)]));
    assert_eq!(step(|out| gate.left(now, &first, out)), [Action::Resume(0)]);
    assert_eq!(step(|out| gate.left(now, &first, out)), [], "it has left already");
    assert_eq!(only_admitted(step(|out| gate.ended(now, slot, END, out)))[0].0, 2);
}

#[test]
fn who_could_not_be_started_is_the_first_again() {
    for capacity in [0, 100] {
        let hold = Hold { capacity, ..Hold::default() };
        let (mut gate, now) = (gate_of(2, &[0], None, WhenFull::Wait, hold), Instant::now());
        let first = arrival(0, 1, now);
        let slot = admitted(&mut gate, now, first);
        let postponed = step(|out| gate.postponed(now, first, slot, out));
        assert_eq!(postponed, if capacity == 0 { vec![Action::Pause(0)] } else { vec![] });
        assert_eq!(gate.census().active, 0);
        if capacity > 0 {
            assert_eq!(arrive(&mut gate, now, arrival(0, 2, now)).0, Verdict::Hold, "nobody overtakes");
        }
        let mut after = step(|out| gate.try_again(now, out));
        after.retain(|action| matches!(action, Action::Admit(..)));
        let tickets: Vec<_> = only_admitted(after).iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(tickets, if capacity == 0 { vec![1] } else { vec![1, 2] });
    }
}

#[test]
fn who_ran_before_counts_even_over_a_lowered_limit() {
    let (mut gate, now) = (gate(2, &[0, 1], None, WhenFull::Refuse), Instant::now());
    let mut slots = Vec::new();
    for listener in [Some(0), Some(1), None] {
        let none = step(|out| slots.push(gate.adopt(now, listener, Source::Unknown, out)));
        assert_eq!(none, []);
    }
    assert_eq!((gate.census().active, &gate.census().per_listener[..]), (3, &[1, 1][..]));
    for (ended, told) in [(0, named("total-limit")), (1, named("listener-limit"))] {
        let slot = slots.remove(ended);
        assert_eq!(step(|out| gate.ended(now, slot, END, out)), []);
        assert_eq!(reason(&arrive(&mut gate, now, arrival(1, 7, now)).0), Some(told));
    }
    assert_eq!(step(|out| gate.ended(now, slots.remove(0), END, out)), []);
    let _slot = admitted(&mut gate, now, arrival(1, 8, now));
}

#[test]
fn a_stop_tells_all_that_wait() {
    let hold = Hold { capacity: 100, ..Hold::default() };
    let (mut gate, now) = (gate_of(1, &[0, 0], None, WhenFull::Wait, hold), Instant::now());
    let first = arrival(0, 0, now);
    let slot = admitted(&mut gate, now, first);
    for ticket in 1..4 {
        assert_eq!(arrive(&mut gate, now, arrival(ticket as usize % 2, ticket, now)).0, Verdict::Hold);
    }
    let told = refusals(&step(|out| gate.drain(now, out)));
    assert_eq!(told, [(2, Reason::STOPPING), (1, Reason::STOPPING), (3, Reason::STOPPING)]);
    assert!(gate.queue().is_empty());
    let told = step(|out| gate.postponed(now, first, slot, out));
    assert_eq!(refusals(&told), [(0, Reason::STOPPING)]);
    assert_eq!(reason(&arrive(&mut gate, now, arrival(0, 4, now)).0), Some(Reason::STOPPING));
}
