//! The gate against rules written out over plain lists, and its borders one by one.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::reason::Reason;
use proptest::collection::vec;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn gate_of(max: u32, per_listener: &[u32], load: Option<f64>, when_full: WhenFull, hold: Hold) -> Gate {
    let rules = Rules { max_connections: max, max_per_listener: per_listener.to_vec(), load_average: load };
    Gate::new(&rules, when_full, hold, per_listener.len())
}

fn gate(max: u32, per_listener: &[u32], load: Option<f64>, when_full: WhenFull) -> Gate {
    gate_of(max, per_listener, load, when_full, Hold::default())
}

fn step(gate: &mut Gate, now: Instant, event: Event) -> Vec<Action> {
    let mut out = VecDeque::new();
    gate.handle(now, event, &mut out);
    out.into()
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
        for nth in 0..max.into() {
            assert_eq!(step(&mut gate, now, Event::Arrive(0, nth, now)), [Action::Admit(nth)]);
        }
        let refusal = Refusal::count(Reason::TotalLimit, max, max);
        assert_eq!(step(&mut gate, now, Event::Arrive(0, 7, now)), [Action::Refuse(7, refusal)]);
        assert_eq!(step(&mut gate, now, Event::Ended(0)), []);
        assert_eq!(step(&mut gate, now, Event::Arrive(0, 8, now)), [Action::Admit(8)]);
    }
}

#[test]
fn only_the_edge_pauses_and_resumes() {
    let (mut gate, now) = (gate(2, &[1, 0], None, WhenFull::Wait), Instant::now());
    assert_eq!(step(&mut gate, now, Event::Arrive(0, 1, now)), [Action::Admit(1), Action::Pause(0)]);
    assert_eq!(step(&mut gate, now, Event::Arrive(1, 2, now)), [Action::Admit(2), Action::Pause(1)]);
    assert_eq!(step(&mut gate, now, Event::Ended(1)), [Action::Resume(1)]);
    assert_eq!(step(&mut gate, now, Event::Ended(0)), [Action::Resume(0)]);
    assert_eq!(step(&mut gate, now, Event::Drain), [Action::Pause(0), Action::Pause(1)]);
}

#[test]
fn load_lets_one_run_and_is_looked_at_again() {
    let (mut gate, t0) = (gate(0, &[0], Some(2.0), WhenFull::Wait), Instant::now());
    assert!(gate.load_is_due(t0));
    assert_eq!(step(&mut gate, t0, Event::Load(2.0)), [], "with nothing running the load does not matter");
    assert_eq!(gate.deadline(), None);
    assert_eq!(step(&mut gate, t0, Event::Arrive(0, 1, t0)), [Action::Admit(1), Action::Pause(0)]);
    assert_eq!(gate.deadline(), Some(t0 + LOAD_INTERVAL));
    let t1 = t0 + LOAD_INTERVAL;
    assert!(gate.load_is_due(t1));
    assert_eq!(step(&mut gate, t1, Event::Load(1.99)), [Action::Resume(0)]);
    assert_eq!(gate.deadline(), None);
}

#[test]
fn the_held_are_admitted_in_order_or_refused_in_time() {
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 3, places: 100 };
    let (mut gate, t0) = (gate_of(1, &[0], None, WhenFull::Wait, hold), Instant::now());
    step(&mut gate, t0, Event::Arrive(0, 0, t0));
    for ticket in 1..=3 {
        let since = t0 + SECOND * ticket as u32;
        assert_eq!(step(&mut gate, since, Event::Arrive(0, ticket, since)), [Action::Hold(ticket)], "N-1 and N");
    }
    assert_eq!(refusals(&step(&mut gate, t0, Event::Arrive(0, 4, t0))), [(4, Reason::QueueFull)], "N+1");
    assert_eq!(step(&mut gate, t0, Event::Ended(0)), [Action::Admit(1)]);
    assert_eq!(gate.deadline(), Some(t0 + 12 * SECOND));
    let before = t0 + 12 * SECOND - Duration::from_millis(1);
    assert_eq!(step(&mut gate, before, Event::Tick), []);
    assert_eq!(refusals(&step(&mut gate, t0 + 12 * SECOND, Event::Tick)), [(2, Reason::WaitedTooLong)]);
    let late = step(&mut gate, t0 + 12 * SECOND, Event::Arrive(0, 5, t0 + 2 * SECOND));
    assert_eq!(refusals(&late), [(5, Reason::WaitedTooLong)], "its time was over in the kernel's queue");
    assert_eq!(
        step(&mut gate, t0 + 13 * SECOND, Event::Ended(0)),
        [Action::Admit(3)],
        "a free slot comes before the clock"
    );
    assert_eq!(gate.deadline(), None);
}

#[test]
fn beyond_its_places_the_kernel_holds() {
    let hold = Hold { max_wait: Some(10 * SECOND), max_waiting: 0, places: 2 };
    let (mut gate, now) = (gate_of(1, &[0], None, WhenFull::Wait, hold), Instant::now());
    assert_eq!(step(&mut gate, now, Event::Arrive(0, 0, now)), [Action::Admit(0)]);
    assert_eq!(step(&mut gate, now, Event::Arrive(0, 1, now)), [Action::Hold(1)]);
    assert_eq!(step(&mut gate, now, Event::Arrive(0, 2, now)), [Action::Hold(2), Action::Pause(0)]);
    assert_eq!(step(&mut gate, now, Event::Gone(0, 1)), [Action::Resume(0)]);
    assert_eq!(step(&mut gate, now, Event::Gone(0, 1)), [], "it has left already");
    assert_eq!(step(&mut gate, now, Event::Ended(0)), [Action::Admit(2)]);
}

#[test]
fn who_could_not_be_started_is_the_first_again() {
    for places in [0, 100] {
        let hold = Hold { places, ..Hold::default() };
        let (mut gate, now) = (gate_of(2, &[0], None, WhenFull::Wait, hold), Instant::now());
        step(&mut gate, now, Event::Arrive(0, 1, now));
        let postponed = step(&mut gate, now, Event::Postponed(0, 1, now));
        assert_eq!(postponed, if places == 0 { vec![Action::Pause(0)] } else { vec![] });
        assert_eq!(gate.census().active, 0);
        if places > 0 {
            assert_eq!(step(&mut gate, now, Event::Arrive(0, 2, now)), [Action::Hold(2)], "nobody overtakes");
        }
        let mut after = step(&mut gate, now, Event::Retry);
        after.retain(|action| matches!(action, Action::Admit(_)));
        assert_eq!(after[0], Action::Admit(1));
        assert_eq!(after.len(), if places == 0 { 1 } else { 2 });
    }
}

#[test]
fn who_ran_before_counts_even_over_a_lowered_limit() {
    let (mut gate, now) = (gate(2, &[0, 1], None, WhenFull::Refuse), Instant::now());
    for listener in [Some(0), Some(1), None] {
        assert_eq!(step(&mut gate, now, Event::Adopted(listener)), []);
    }
    assert_eq!((gate.census().active, &gate.census().per_listener[..]), (3, &[1, 1][..]));
    for (nth, (ended, reason)) in [(Some(0), Reason::TotalLimit), (None, Reason::ListenerLimit)].into_iter().enumerate()
    {
        step(&mut gate, now, Event::AdoptedEnded(ended));
        let ticket = nth as Ticket;
        assert_eq!(refusals(&step(&mut gate, now, Event::Arrive(1, ticket, now))), [(ticket, reason)]);
    }
    step(&mut gate, now, Event::AdoptedEnded(Some(1)));
    assert_eq!(step(&mut gate, now, Event::Arrive(1, 7, now)), [Action::Admit(7)]);
}

#[test]
fn a_stop_tells_all_that_wait() {
    let hold = Hold { places: 100, ..Hold::default() };
    let (mut gate, now) = (gate_of(1, &[0, 0], None, WhenFull::Wait, hold), Instant::now());
    for ticket in 0..4 {
        step(&mut gate, now, Event::Arrive(ticket as usize % 2, ticket, now));
    }
    let told = refusals(&step(&mut gate, now, Event::Drain));
    assert_eq!(told, [(2, Reason::Stopping), (1, Reason::Stopping), (3, Reason::Stopping)]);
    assert!(gate.queue().is_empty());
    assert_eq!(refusals(&step(&mut gate, now, Event::Postponed(0, 0, now))), [(0, Reason::Stopping)]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(usize, u32),
    End(usize),
    Fail(usize),
    Retry,
    Leave(usize),
    Load(f64),
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = || any::<prop::sample::Index>().prop_map(|i| i.index(1 << 16));
    let one = prop_oneof![
        6 => (0..3usize, 0..4u32).prop_map(|(listener, waited)| Step::Arrive(listener, waited)),
        4 => any().prop_map(Step::End),
        1 => any().prop_map(Step::Fail),
        1 => Just(Step::Retry),
        1 => any().prop_map(Step::Leave),
        1 => (0..8u32).prop_map(|half| Step::Load(f64::from(half) / 2.0)),
        1 => (0..3u32).prop_map(Step::Pass),
    ];
    vec(one, 0..200)
}

/// The rules written out, over plain lists.
struct Model {
    max: u32,
    each: Vec<u32>,
    load: Option<f64>,
    hold: Hold,
    wait: bool,
    living: Vec<(usize, Ticket)>,
    /// In order of tickets: listener, ticket, seconds of the start of its wait.
    held: Vec<(usize, Ticket, u32)>,
    last_load: f64,
    postponed: bool,
}

impl Model {
    fn is_full(&self, listener: usize) -> bool {
        let here = self.living.iter().filter(|(l, _)| *l == listener).count() as u32;
        self.postponed
            || (self.max > 0 && self.living.len() as u32 >= self.max)
            || (self.each[listener] > 0 && here >= self.each[listener])
            || (self.load.is_some_and(|below| self.last_load >= below) && !self.living.is_empty())
    }

    fn hold(&mut self, listener: usize, ticket: Ticket, since: u32) {
        self.held.push((listener, ticket, since));
        self.held.sort_by_key(|(_, ticket, _)| *ticket);
    }

    /// Who is admitted and who is refused now, in order.
    fn settle(&mut self, clock: u32) -> (Vec<Ticket>, Vec<Ticket>) {
        let mut admitted = Vec::new();
        while let Some(at) = (0..self.held.len()).find(|at| !self.is_full(self.held[*at].0)) {
            let (listener, ticket, _) = self.held.remove(at);
            self.living.push((listener, ticket));
            admitted.push(ticket);
        }
        // The first of a line decides: who came after it is not told before it.
        let most = self.hold.max_wait.map(|most| most.as_secs() as u32);
        let mut late = Vec::new();
        for listener in 0..3 {
            while let Some(at) = self.held.iter().position(|(l, _, _)| *l == listener) {
                if most.is_none_or(|most| self.held[at].2 + most > clock) {
                    break;
                }
                late.push(self.held.remove(at).1);
            }
        }
        (admitted, late)
    }
}

proptest! {
    #[test]
    fn like_a_naive_model(
        max in 0..6u32, each in vec(0..4u32, 3), load in prop::option::of((1..6u32).prop_map(|half| f64::from(half) / 2.0)),
        wait in any::<bool>(), max_wait in prop::option::of(1..6u32), max_waiting in 0..5u32, places in 0..5u32, steps in steps(),
    ) {
        let when_full = if wait { WhenFull::Wait } else { WhenFull::Refuse };
        let hold = Hold { max_wait: max_wait.map(|most| SECOND * most), max_waiting, places };
        let (mut gate, mut twin) = (gate_of(max, &each, load, when_full, hold), gate_of(max, &each, load, when_full, hold));
        let mut model = Model { max, each: each.clone(), load, hold, wait, living: vec![], held: vec![], last_load: 0.0, postponed: false };
        let (t0, mut clock, mut next, mut paused) = (Instant::now(), 100, 0, [false; 3]);
        let (mut arrived, mut ended, mut refused, mut gone) = (0, 0, 0, 0);
        for step_ in steps {
            let (mut admits, mut refuses, mut holds) = (Vec::new(), Vec::new(), Vec::new());
            let event = match step_ {
                Step::Arrive(listener, _) if paused[listener] => continue, // it stays in the kernel's queue
                Step::Arrive(listener, waited) => {
                    (arrived, next) = (arrived + 1, next + 1);
                    let since = clock - waited;
                    if !model.is_full(listener) {
                        model.living.push((listener, next));
                        admits.push(next);
                    } else if !model.wait || max_wait.is_some_and(|most| waited >= most)
                        || (max_waiting > 0 && model.held.len() as u32 >= max_waiting) {
                        refuses.push(next);
                    } else {
                        model.hold(listener, next, since);
                        holds.push(next);
                    }
                    Event::Arrive(listener, next, t0 + SECOND * since)
                }
                Step::End(_) | Step::Fail(_) if model.living.is_empty() => continue,
                Step::Fail(_) if !wait => continue,
                Step::End(i) => {
                    ended += 1;
                    Event::Ended(model.living.swap_remove(i % model.living.len()).0)
                }
                Step::Fail(i) => {
                    let (listener, ticket) = model.living.swap_remove(i % model.living.len());
                    model.postponed = true;
                    model.hold(listener, ticket, clock);
                    Event::Postponed(listener, ticket, t0 + SECOND * clock)
                }
                Step::Retry => { model.postponed = false; Event::Retry }
                Step::Leave(_) if model.held.is_empty() => continue,
                Step::Leave(i) => {
                    gone += 1;
                    let (listener, ticket, _) = model.held.remove(i % model.held.len());
                    Event::Gone(listener, ticket)
                }
                Step::Load(load) => { model.last_load = load; Event::Load(load) }
                Step::Pass(seconds) => { clock += seconds; Event::Tick }
            };
            let now = t0 + SECOND * clock;
            let (admitted, late) = model.settle(clock);
            admits.extend(admitted);
            refuses.extend(late);
            let actions = step(&mut gate, now, event);
            prop_assert_eq!(&actions, &step(&mut twin, now, event), "same input, same output");
            refused += refuses.len();
            let (mut did_admit, mut did_refuse, mut did_hold) = (Vec::new(), Vec::new(), Vec::new());
            for action in actions {
                match action {
                    Action::Admit(ticket) => did_admit.push(ticket),
                    Action::Refuse(ticket, _) => did_refuse.push(ticket),
                    Action::Hold(ticket) => did_hold.push(ticket),
                    Action::Pause(listener) => { prop_assert!(!paused[listener]); paused[listener] = true; }
                    Action::Resume(listener) => { prop_assert!(paused[listener]); paused[listener] = false; }
                }
            }
            prop_assert_eq!((did_admit, did_refuse, did_hold), (admits, refuses, holds));
            prop_assert_eq!(gate.queue().len() as usize, model.held.len());
            prop_assert!(max == 0 || model.living.len() as u32 <= max);
            let has_place = (model.held.len() as u32) < places || (max_waiting > 0 && max_waiting <= places);
            for listener in 0..3 {
                let here = model.living.iter().filter(|(l, _)| *l == listener).count() as u32;
                prop_assert!(each[listener] == 0 || here <= each[listener]);
                prop_assert_eq!(gate.census().per_listener[listener], here);
                prop_assert_eq!(paused[listener], wait && model.is_full(listener) && !has_place);
                let waits = model.held.iter().any(|(l, _, _)| *l == listener);
                prop_assert!(!waits || model.is_full(listener), "never a free slot with somebody waiting");
            }
            prop_assert_eq!(arrived, ended + refused + gone + model.living.len() + model.held.len(), "each is accounted for once");
        }
        let left = model.living.clone();
        let mut drained = step(&mut gate, t0 + SECOND * clock, Event::Drain);
        drained.retain(|action| matches!(action, Action::Refuse(..)));
        prop_assert_eq!(drained.len(), model.held.len());
        for (listener, _) in left { step(&mut gate, t0, Event::Ended(listener)); }
        prop_assert_eq!(gate.census().active, 0, "everything is given back");
    }
}
