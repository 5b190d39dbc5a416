//! Limits that change while the gate works: from then on it behaves as its rules written out over plain lists.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::network::Prefixes;
use proptest::collection::vec;
use proptest::prelude::*;

/// Limits, with spans in seconds.
#[derive(Clone, Copy, Debug)]
struct Terms {
    max: u32,
    each: [u32; 2],
    per_source: u32,
    load: Option<u32>,
    /// From one connection to the next, and how many at once.
    rate: Option<(u32, u32)>,
    source_rate: Option<(u32, u32)>,
    max_wait: Option<u32>,
    max_waiting: u32,
}

const CAPACITY: u32 = 3;

fn rate((interval, burst): (u32, u32)) -> Rate {
    Rate::new(1, SECOND * interval, Some(burst)).unwrap()
}

impl Terms {
    fn rules(&self) -> Rules {
        Rules {
            max_connections: self.max,
            max_per_listener: self.each.to_vec(),
            max_per_source: if self.per_source > 0 { vec![(self.per_source, Prefixes::default())] } else { vec![] },
            load_average: self.load.map(f64::from),
            max_rate: self.rate.map(rate),
            max_rate_per_source: self.source_rate.map(rate),
            max_sources: 3,
            ..Rules::default()
        }
    }

    fn hold(&self) -> Hold {
        let max_wait = self.max_wait.map(|most| SECOND * most);
        Hold { max_wait, max_waiting: self.max_waiting, capacity: CAPACITY, ..Hold::default() }
    }
}

fn terms() -> impl Strategy<Value = Terms> {
    let rate = || prop::option::of((prop::sample::select(vec![1, 2, 4]), 1..4u32));
    let limits = (0..5u32, [0..4u32, 0..4u32], 0..4u32, prop::option::of(1..3u32));
    (limits, rate(), rate(), prop::option::of(1..6u32), 0..4u32).prop_map(
        |((max, each, per_source, load), rate, source_rate, max_wait, max_waiting)| Terms {
            max,
            each,
            per_source,
            load,
            rate,
            source_rate,
            max_wait,
            max_waiting,
        },
    )
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(usize),
    End(usize),
    Leave(usize),
    Load(u32),
    Pass(u32),
    Set(Terms),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        8 => (0..2usize).prop_map(Step::Arrive),
        5 => (0..99usize).prop_map(Step::End),
        1 => (0..99usize).prop_map(Step::Leave),
        1 => (0..4u32).prop_map(Step::Load),
        3 => (0..3u32).prop_map(Step::Pass),
        3 => terms().prop_map(Step::Set),
    ];
    vec(one, 0..80)
}

/// Nanoseconds.
const NS: u64 = 1_000_000_000;

struct Model {
    terms: Terms,
    wait: bool,
    clock: u64,
    load: u32,
    running: Vec<(usize, Ticket)>,
    /// In order, with the second in which each came.
    held: Vec<(usize, Ticket, u64)>,
    /// When what is owed is paid.
    paid: u64,
    source_paid: HashMap<Source, u64>,
}

impl Model {
    fn now(&self) -> u64 {
        self.clock * NS
    }

    fn is_over(&self, paid: u64, rate: Option<(u32, u32)>) -> bool {
        rate.is_some_and(|(interval, burst)| paid > self.now() + u64::from(interval * (burst - 1)) * NS)
    }

    fn may_enter(&self, source: Source) -> bool {
        let of_source = |ticket: &Ticket| source_of(*ticket) == source;
        let running = self.running.iter().filter(|(_, ticket)| of_source(ticket)).count();
        let held = self.held.iter().filter(|(_, ticket, _)| of_source(ticket)).count();
        let is_full = self.terms.per_source > 0 && (running + held) as u32 >= self.terms.per_source;
        let paid = self.source_paid.get(&source).copied().unwrap_or(0);
        !is_full && !self.is_over(paid, self.terms.source_rate)
    }

    fn is_full(&self, listener: usize) -> bool {
        let Terms { max, each, load, rate, .. } = self.terms;
        let here = self.running.iter().filter(|(other, _)| *other == listener).count() as u32;
        (max > 0 && self.running.len() as u32 >= max)
            || (each[listener] > 0 && here >= each[listener])
            || (load.is_some_and(|below| self.load >= below) && !self.running.is_empty())
            || self.is_over(self.paid, rate)
    }

    fn owe(paid: &mut u64, now: u64, rate: Option<(u32, u32)>) {
        rate.into_iter().for_each(|(interval, _)| *paid = now.max(*paid) + u64::from(interval) * NS);
    }

    fn enter(&mut self, source: Source) {
        let now = self.now();
        Model::owe(self.source_paid.entry(source).or_default(), now, self.terms.source_rate);
    }

    fn start(&mut self, listener: usize, ticket: Ticket) {
        let now = self.now();
        Model::owe(&mut self.paid, now, self.terms.rate);
        self.running.push((listener, ticket));
    }

    /// Who is admitted and who is refused now.
    fn settle(&mut self, is_tick: bool) -> (Vec<Ticket>, Vec<Ticket>) {
        let (mut admitted, mut late) = (vec![], vec![]);
        loop {
            while let Some(at) = (0..self.held.len()).find(|at| !self.is_full(self.held[*at].0)) {
                let (listener, ticket, _) = self.held.remove(at);
                self.start(listener, ticket);
                admitted.push(ticket);
            }
            let is_late = |since: u64| self.terms.max_wait.is_some_and(|most| since + u64::from(most) <= self.clock);
            let Some(at) = (0..self.held.len()).find(|at| is_tick && is_late(self.held[*at].2)) else {
                return (admitted, late);
            };
            let (_, ticket, _) = self.held.remove(at);
            if let (Some((interval, _)), Some(paid)) =
                (self.terms.source_rate, self.source_paid.get_mut(&source_of(ticket)))
            {
                *paid = paid.saturating_sub(u64::from(interval) * NS);
            }
            late.push(ticket);
        }
    }

    /// As many connections are owed as before, and none that were made while there was no such limit.
    fn set(&mut self, terms: Terms) {
        let now = self.now();
        let change = |paid: u64, before: Option<(u32, u32)>, after: Option<(u32, u32)>| match (before, after) {
            (Some((before, _)), Some((after, _))) => {
                now + (paid.saturating_sub(now) * u64::from(after)).div_ceil(u64::from(before))
            }
            _ => 0,
        };
        self.paid = change(self.paid, self.terms.rate, terms.rate);
        self.source_paid.values_mut().for_each(|paid| *paid = change(*paid, self.terms.source_rate, terms.source_rate));
        self.terms = terms;
    }
}

proptest! {
    #[test]
    fn like_a_naive_model_with_the_new_rules(terms in terms(), wait in any::<bool>(), steps in steps()) {
        let when_full = if wait { WhenFull::Wait } else { WhenFull::Refuse };
        let mut gate = Gate::new(&terms.rules(), when_full, terms.hold(), 2);
        let (running, held, source_paid) = (vec![], vec![], HashMap::new());
        let mut model = Model { terms, wait, clock: 100, load: 0, running, held, paid: 0, source_paid };
        let (t0, mut next, mut slots) = (any_time(), 0, HashMap::new());
        for step in steps {
            let now = t0 + SECOND * model.clock as u32;
            let (mut admits, mut refuses, mut out) = (vec![], vec![], VecDeque::new());
            let (mut admitted, mut refused) = (vec![], vec![]);
            match step {
                // It stays in the kernel's queue.
                Step::Arrive(listener) if gate.is_paused(listener) => continue,
                Step::Arrive(listener) => {
                    next += 1;
                    let who = Arrival { ticket: next, listener, source: source_of(next), is_exempt: false, since: now };
                    let waiting = model.held.len() as u32;
                    let Terms { max_waiting, .. } = model.terms;
                    if !model.may_enter(who.source) {
                        refuses.push(next);
                    } else if !model.is_full(listener) {
                        model.enter(who.source);
                        model.start(listener, next);
                        admits.push(next);
                    } else if !wait || (max_waiting > 0 && waiting >= max_waiting) {
                        refuses.push(next);
                    } else {
                        model.enter(who.source);
                        model.held.push((listener, next, model.clock));
                    }
                    match gate.arrive(now, who, &mut out) {
                        Verdict::Admit(slot) => {
                            admitted.push(next);
                            slots.insert(next, slot);
                        }
                        Verdict::Refuse(_) => refused.push(next),
                        Verdict::Hold => {}
                    }
                }
                Step::End(_) if model.running.is_empty() => continue,
                Step::End(nth) => {
                    let (_, ticket) = model.running.swap_remove(nth % model.running.len());
                    gate.ended(now, slots.remove(&ticket).unwrap(), END, &mut out);
                }
                Step::Leave(_) if model.held.is_empty() => continue,
                Step::Leave(nth) => {
                    let (listener, ticket, since) = model.held.remove(nth % model.held.len());
                    let (source, since) = (source_of(ticket), t0 + SECOND * since as u32);
                    gate.left(now, &Arrival { ticket, listener, source, is_exempt: false, since }, &mut out);
                }
                Step::Load(load) => {
                    model.load = load;
                    gate.read(now, Reading::Load(load.into()), &mut out);
                }
                Step::Pass(seconds) => {
                    model.clock += u64::from(seconds);
                    gate.tick(t0 + SECOND * model.clock as u32, &mut out);
                }
                Step::Set(terms) => {
                    let before = (gate.census().active, gate.queue().len());
                    model.set(terms);
                    gate.set(now, &terms.rules(), terms.hold(), &mut out);
                    if gate.limits().due_gauge(now).is_some() {
                        gate.read(now, Reading::Load(model.load.into()), &mut out);
                    }
                    prop_assert_eq!(gate.census().active + gate.queue().len(), before.0 + before.1, "nobody goes");
                }
            }
            let (let_in, late) = model.settle(matches!(step, Step::Pass(_)));
            admits.extend(let_in);
            refuses.extend(late);
            for action in out {
                match action {
                    Action::Admit(ticket, slot) => {
                        admitted.push(ticket);
                        slots.insert(ticket, slot);
                    }
                    Action::Refuse(ticket, _) => refused.push(ticket),
                    _ => {}
                }
            }
            prop_assert_eq!((admitted, refused), (admits, refuses), "{:?}", step);
            prop_assert_eq!(gate.queue().len() as usize, model.held.len());
            prop_assert_eq!(gate.census().active as usize, model.running.len());
            let Terms { max_waiting, per_source, .. } = model.terms;
            let has_place = (model.held.len() as u32) < CAPACITY || (max_waiting > 0 && max_waiting <= CAPACITY);
            for listener in 0..2 {
                prop_assert_eq!(gate.is_paused(listener), model.wait && model.is_full(listener) && !has_place);
            }
            prop_assert_eq!(gate.limits().has_gauges(), model.terms.load.is_some());
            prop_assert_eq!(gate.census().present.len(), usize::from(per_source > 0));
        }
        // What is counted by network, counted anew, is what was counted one by one.
        let again = Terms { per_source: 3, ..model.terms };
        gate.set(t0 + SECOND * model.clock as u32, &again.rules(), again.hold(), &mut VecDeque::new());
        for source in (0..3).map(Source::Uid) {
            let held = gate.queue().iter().filter(|who| who.source == source).count() as u32;
            let running = gate.census().per_source.count(source);
            prop_assert_eq!(gate.census().present[0].count(source).unwrap().1, running + held);
        }
    }
}

fn set(gate: &mut Gate, now: Instant, rules: &Rules) -> Vec<Action> {
    step(|out| gate.set(now, rules, Hold { capacity: 9, ..Hold::default() }, out))
}

/// One more, as many and one less than run.
#[test]
fn a_lowered_cap_ends_nobody_and_a_raised_one_admits_in_order() {
    for cap in [1, 2, 3] {
        let rules = |max_connections| Rules { max_connections, max_per_listener: vec![0], ..Rules::default() };
        let hold = Hold { capacity: 9, ..Hold::default() };
        let (mut gate, now) = (Gate::new(&rules(2), WhenFull::Wait, hold, 1), any_time());
        let mut slots: Vec<_> = (0..2).map(|ticket| admitted(&mut gate, now, arrival(0, ticket, now))).collect();
        for ticket in [2, 3] {
            assert_eq!(arrive(&mut gate, now, arrival(0, ticket, now)), (Verdict::Hold, vec![]));
        }
        let let_in = only_admitted(set(&mut gate, now, &rules(cap)));
        assert_eq!(
            let_in.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(),
            if cap == 3 { vec![2] } else { vec![] }
        );
        slots.extend(let_in.into_iter().map(|(_, slot)| slot));
        // From here on the new cap holds: the next comes in when fewer run.
        while gate.census().active > cap {
            assert_eq!(step(|out| gate.ended(now, slots.pop().unwrap(), END, out)), []);
        }
        let next = only_admitted(step(|out| gate.ended(now, slots.pop().unwrap(), END, out)));
        assert_eq!((next.len(), gate.census().active), (1, cap));
        slots.extend(next.into_iter().map(|(_, slot)| slot));
        let rest = only_admitted(set(&mut gate, now, &rules(0)));
        assert!(gate.queue().is_empty());
        slots.into_iter().chain(rest.into_iter().map(|(_, slot)| slot)).for_each(|slot| {
            gate.ended(now, slot, END, &mut VecDeque::new());
        });
        assert_eq!(gate.census().active, 0, "every slot comes back");
    }
}

#[test]
fn listeners_follow_the_new_cap() {
    let rules = |max_per_listener: [u32; 2]| Rules { max_per_listener: max_per_listener.into(), ..Rules::default() };
    let (mut gate, now) = (Gate::new(&rules([0, 0]), WhenFull::Wait, Hold::default(), 2), any_time());
    let _slot = admitted(&mut gate, now, arrival(0, 1, now));
    let set = |gate: &mut Gate, max| step(|out| gate.set(now, &rules(max), Hold::default(), out));
    assert_eq!(set(&mut gate, [1, 1]), [Action::Pause(0)]);
    assert_eq!(set(&mut gate, [1, 0]), []);
    assert_eq!(set(&mut gate, [2, 0]), [Action::Resume(0)]);
}

/// A penalty and a rate survive a set, and a drained gate stays one.
#[test]
fn what_is_remembered_stays() {
    let of = vec![Penalty { outcome: END.outcome, span: 20 * SECOND, always: false }];
    let before = Rules {
        max_per_listener: vec![0],
        penalties: Penalties { of, min: SECOND, max: 60 * SECOND },
        max_rate_per_source: Some(rate((10, 2))),
        max_sources: 9,
        ..Rules::default()
    };
    let (mut gate, now) = (Gate::new(&before, WhenFull::Refuse, Hold::default(), 1), any_time());
    let [first, second] = ["192.0.2.1", "192.0.2.2"].map(|source| source.parse::<Source>().unwrap());
    let slot = admitted(&mut gate, now, from(1, "192.0.2.1", false));
    gate.ended(now, slot, END, &mut VecDeque::new());
    let _slots = [2, 3].map(|ticket| admitted(&mut gate, now, from(ticket, "192.0.2.2", false)));
    assert_eq!(gate.standing(now, first), super::super::live::Standing { penalty: 20 * SECOND, rate: Duration::ZERO });
    assert_eq!(gate.standing(now, second), super::super::live::Standing { penalty: Duration::ZERO, rate: 10 * SECOND });
    assert_eq!((gate.remembered(), gate.penalised(now)), (3, 1));
    // Two connections are owed at any rate.
    for (interval, burst, left) in [(30, 2, 30), (30, 1, 60), (30, 3, 0), (10, 2, 10)] {
        let after = Rules { max_rate_per_source: Some(rate((interval, burst))), max_connections: 9, ..before.clone() };
        assert_eq!(set(&mut gate, now, &after), []);
        assert_eq!(gate.standing(now, second).rate, left * SECOND, "{interval} {burst}");
        assert_eq!(gate.standing(now, first).penalty, 20 * SECOND);
    }
    gate.set_drained(now, true, &mut VecDeque::new());
    let off = Rules { max_rate_per_source: None, ..before.clone() };
    assert_eq!(set(&mut gate, now, &off), []);
    assert!(gate.is_drained());
    gate.set_drained(now, false, &mut VecDeque::new());
    assert_eq!((gate.standing(now, second).rate, gate.remembered()), (Duration::ZERO, 1), "a limit that is off");
    assert_eq!(set(&mut gate, now, &before), []);
    assert_eq!(gate.standing(now, second).rate, Duration::ZERO, "it begins without debts");
    assert_eq!(
        (gate.penalised(now + 20 * SECOND - Duration::from_nanos(1)), gate.penalised(now + 20 * SECOND)),
        (1, 0)
    );
}
