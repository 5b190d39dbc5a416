//! The gate against its rules written out over plain lists: every step of a long random history has to agree.
#![forbid(unsafe_code)]

use super::memory::{Memory, memories};
use super::*;
use crate::policy::network::Prefixes;
use crate::policy::queue::QueueOrder;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(usize, u32),
    Adopt(Option<usize>),
    End(usize),
    Fail(usize),
    Retry,
    Leave(usize),
    Load(f64),
    Pass(u32),
    Drained(bool),
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = || any::<prop::sample::Index>().prop_map(|i| i.index(1 << 16));
    let one = prop_oneof![
        12 => (0..3usize, 0..4u32).prop_map(|(listener, waited)| Step::Arrive(listener, waited)),
        1 => prop::option::of(0..3usize).prop_map(Step::Adopt),
        8 => any().prop_map(Step::End),
        2 => any().prop_map(Step::Fail),
        2 => Just(Step::Retry),
        2 => any().prop_map(Step::Leave),
        2 => (0..8u32).prop_map(|half| Step::Load(f64::from(half) / 2.0)),
        2 => (0..3u32).prop_map(Step::Pass),
        1 => proptest::bool::ANY.prop_map(Step::Drained),
    ];
    // A stop in the middle of every fourth run or so.
    (vec(one, 0..200), 0..800usize).prop_map(|(mut steps, stop)| {
        if stop < steps.len() {
            steps.insert(stop, Step::Drain);
        }
        steps
    })
}

/// A command that runs, for the model: its slot is what the gate gave.
struct Living {
    listener: Option<usize>,
    ticket: Ticket,
    source: Source,
    is_exempt: bool,
    is_adopted: bool,
}

/// The rules written out, over plain lists.
struct Model {
    max: u32,
    each: Vec<u32>,
    load: Option<f64>,
    hold: Hold,
    wait: bool,
    memory: Memory,
    /// Seconds from one start of a source to its next: a limit on clients, with a memory.
    every: Option<u32>,
    last_start: HashMap<Source, u32>,
    living: Vec<Living>,
    /// In order of tickets: listener, ticket, seconds of the start of its wait.
    held: Vec<(usize, Ticket, u32)>,
    /// The last start of each source that runs or waits, by number.
    served: HashMap<Source, usize>,
    starts: usize,
    /// Turns that clients which were held have had, each beside others.
    turns: u32,
    last_load: f64,
    postponed: bool,
    drained: bool,
    draining: bool,
}

impl Model {
    fn here(&self, listener: usize) -> u32 {
        self.living.iter().filter(|living| living.listener == Some(listener)).count() as u32
    }

    fn is_full(&self, listener: usize, clock: u32) -> bool {
        self.is_full_at_any_time(listener) || self.memory.start_due() > clock
    }

    fn is_full_at_any_time(&self, listener: usize) -> bool {
        self.postponed
            || self.draining
            || self.drained
            || (self.max > 0 && self.living.len() as u32 >= self.max)
            || (self.each[listener] > 0 && self.here(listener) >= self.each[listener])
            || (self.load.is_some_and(|below| self.last_load >= below) && !self.living.is_empty())
    }

    /// When this source may start again, as far as it is a matter of time.
    fn due(&self, source: Source) -> u32 {
        self.last_start.get(&source).zip(self.every).map_or(0, |(last, every)| last + every)
    }

    fn may(&self, listener: usize, ticket: Ticket, clock: u32) -> bool {
        !self.is_full(listener, clock) && self.due(source_of(ticket)) <= clock
    }

    fn start(&mut self, listener: usize, ticket: Ticket, clock: u32) {
        self.last_start.insert(source_of(ticket), clock);
        self.memory.start(clock);
        let (source, is_exempt) = (source_of(ticket), is_exempt(ticket));
        self.live(Living { listener: Some(listener), ticket, source, is_exempt, is_adopted: false });
    }

    fn live(&mut self, living: Living) {
        self.starts += 1;
        self.served.insert(living.source, self.starts);
        self.living.push(living);
    }

    fn die(&mut self, at: usize) {
        let Living { source, .. } = self.living.swap_remove(at);
        self.forget(source);
    }

    fn forget(&mut self, source: Source) {
        let is_here = self.living.iter().any(|living| living.source == source)
            || self.held.iter().any(|(_, ticket, _)| source_of(*ticket) == source);
        if !is_here {
            self.served.remove(&source);
        }
    }

    fn hold(&mut self, listener: usize, ticket: Ticket, since: u32) {
        self.held.push((listener, ticket, since));
        self.held.sort_by_key(|(_, ticket, _)| *ticket);
    }

    /// Where the first of each line is, by age or else in the order of the queue.
    fn heads(&self, by_age: bool) -> Vec<usize> {
        let is_fair = self.hold.order != QueueOrder::Fifo && self.turns % 8 != 7 && !by_age;
        let running = |source| self.living.iter().filter(|living| living.source == source).count();
        let standing = |source| (running(source), self.served.get(&source).copied().unwrap_or(0));
        let rank = |at: usize| {
            let ticket = self.held[at].1;
            (if is_fair { standing(source_of(ticket)) } else { (0, 0) }, ticket)
        };
        let line = |at: usize| (self.held[at].0, is_exempt(self.held[at].1));
        let all = 0..self.held.len();
        let is_head = |at: &usize| !all.clone().any(|other| line(other) == line(*at) && rank(other) < rank(*at));
        let mut heads: Vec<_> = all.clone().filter(is_head).collect();
        heads.sort_by_key(|at| rank(*at));
        heads
    }

    /// Who is admitted and who is refused now, in order.
    fn settle(&mut self, clock: u32, is_tick: bool) -> (Vec<Ticket>, Vec<Ticket>) {
        let (mut admitted, mut late) = (Vec::new(), Vec::new());
        if self.draining {
            self.held.sort_by_key(|(listener, ticket, _)| (*listener, is_exempt(*ticket), *ticket));
            return (admitted, self.held.drain(..).map(|(_, ticket, _)| ticket).collect());
        }
        let most = self.hold.max_wait.map(|most| most.as_secs() as u32);
        loop {
            let may = |model: &Model, at: &usize| model.may(model.held[*at].0, model.held[*at].1, clock);
            while let Some(at) = self.heads(false).into_iter().find(|at| may(self, at)) {
                self.turns += u32::from(self.held.len() > 1);
                let (listener, ticket, _) = self.held.remove(at);
                self.start(listener, ticket, clock);
                admitted.push(ticket);
            }
            // The first of a line decides: who came after it is not told before it.
            let is_late = |at: &usize| is_tick && most.is_some_and(|most| self.held[*at].2 + most <= clock);
            match self.heads(true).into_iter().find(is_late) {
                Some(at) => {
                    let (_, ticket, _) = self.held.remove(at);
                    self.forget(source_of(ticket));
                    self.memory.give_back(source_of(ticket));
                    late.push(ticket);
                }
                None => break,
            }
        }
        (admitted, late)
    }
}

pub(super) const FAIR: QueueOrder = QueueOrder::Fair(Prefixes { v4: Some(32), v6: Some(64) });

/// A gate under test, with the slots that it gave, by ticket.
struct Tried {
    gate: Gate,
    slots: HashMap<Ticket, Slot>,
    paused: [bool; 3],
}

/// What one step came to: admitted, refused and held, each in order.
type Outcome = (Vec<Ticket>, Vec<Ticket>, Vec<Ticket>);

impl Tried {
    fn take(&mut self, step: Step, now: Instant, who: Option<Arrival>) -> Outcome {
        let (mut admits, mut refuses, mut holds) = Outcome::default();
        let mut out = VecDeque::new();
        let Tried { gate, slots, paused } = self;
        let slot_of =
            |slots: &mut HashMap<Ticket, Slot>| slots.remove(&who.unwrap().ticket).expect("a slot for each command");
        match step {
            Step::Arrive(..) => {
                let who = who.unwrap();
                match gate.arrive(now, who, &mut out) {
                    Verdict::Admit(slot) => {
                        admits.push(who.ticket);
                        slots.insert(who.ticket, slot);
                    }
                    Verdict::Hold => holds.push(who.ticket),
                    Verdict::Refuse(_) => refuses.push(who.ticket),
                }
            }
            Step::Adopt(listener) => {
                let who = who.unwrap();
                slots.insert(who.ticket, gate.adopt(now, listener, who.source, &mut out));
            }
            Step::End(_) => gate.ended(now, slot_of(slots), END, &mut out),
            Step::Fail(_) => gate.postponed(now, who.unwrap(), slot_of(slots), &mut out),
            Step::Retry => gate.try_again(now, &mut out),
            Step::Leave(_) => gate.left(now, &who.unwrap(), &mut out),
            Step::Load(load) => gate.read(now, Reading::Load(load), &mut out),
            Step::Pass(_) => gate.tick(now, &mut out),
            Step::Drained(is_drained) => gate.set_drained(now, is_drained, &mut out),
            Step::Drain => gate.drain(now, &mut out),
        }
        for action in out {
            match action {
                Action::Admit(ticket, slot) => {
                    admits.push(ticket);
                    assert_eq!((slot.source(), slots.insert(ticket, slot)), (source_of(ticket), None));
                }
                Action::Refuse(ticket, _) => refuses.push(ticket),
                Action::Pause(listener) => assert!(!std::mem::replace(&mut paused[listener], true), "only the edge"),
                Action::Untracked(..) => panic!("there is room for all"),
                Action::Resume(listener) => assert!(std::mem::replace(&mut paused[listener], false), "only the edge"),
            }
        }
        (admits, refuses, holds)
    }
}

proptest! {
    #[test]
    fn like_a_naive_model(
        max in 0..6u32, each in vec(0..4u32, 3), load in prop::option::of((1..6u32).prop_map(|half| f64::from(half) / 2.0)),
        wait in any::<bool>(), max_wait in prop::option::of(1..6u32), max_waiting in 0..5u32, capacity in 0..5u32,
        every in prop::option::of(1..4u32), is_fair in any::<bool>(), memory in memories(), steps in steps(),
    ) {
        let when_full = if wait { WhenFull::Wait } else { WhenFull::Refuse };
        let order = if is_fair { FAIR } else { QueueOrder::Fifo };
        let hold = Hold { max_wait: max_wait.map(|most| SECOND * most), max_waiting, capacity, order };
        let rules = Rules { max_connections: max, max_per_listener: each.clone(), load_average: load, ..memory.rules() };
        let limits = || every.map(|every| Every::limit(SECOND * every)).into_iter().chain(limits(&rules)).collect();
        let tried = || Tried { gate: with_limits(limits(), when_full, hold, 3), slots: HashMap::new(), paused: [false; 3] };
        let (mut tried, mut twin) = (tried(), tried());
        let mut model = Model {
            max, each: each.clone(), load, hold, wait, memory, every, last_start: HashMap::new(), living: vec![], held: vec![], served: HashMap::new(), starts: 0, turns: 0, last_load: 0.0, postponed: false, drained: false, draining: false,
        };
        let (t0, mut clock, mut next) = (any_time(), 100, 0);
        let (mut arrived, mut adopted, mut ended, mut refused, mut gone) = (0, 0, 0, 0, 0);
        for step in steps {
            let (mut admits, mut refuses, mut holds) = Outcome::default();
            let at = |second: u32| t0 + SECOND * second;
            let mut who = None;
            match step {
                // It stays in the kernel's queue. A paused listener can still give one, while the poll set lags behind.
                Step::Arrive(listener, _) if tried.paused[listener] && !model.draining => continue,
                Step::Arrive(listener, waited) => {
                    (arrived, next) = (arrived + 1, next + 1);
                    let since = clock - waited;
                    who = Some(arrival(listener, next, at(since)));
                    let may_enter = model.memory.may_enter(source_of(next), clock);
                    if may_enter && model.may(listener, next, clock) {
                        model.memory.enter(source_of(next), clock);
                        model.start(listener, next, clock);
                        admits.push(next);
                    } else if !may_enter || model.draining || !model.wait || max_wait.is_some_and(|most| waited >= most)
                        || (max_waiting > 0 && model.held.len() as u32 >= max_waiting)
                        || (model.held.len() as u32 >= capacity && !model.is_full(listener, clock)) {
                        refuses.push(next);
                    } else {
                        model.memory.enter(source_of(next), clock);
                        model.hold(listener, next, since);
                        holds.push(next);
                    }
                }
                Step::Adopt(listener) => {
                    (adopted, next) = (adopted + 1, next + 1);
                    who = Some(arrival(listener.unwrap_or(0), next, at(clock)));
                    let source = source_of(next);
                    let adopted = Living { listener, ticket: next, source, is_exempt: false, is_adopted: true };
                    model.live(adopted);
                }
                Step::End(_) | Step::Fail(_) if model.living.is_empty() => continue,
                Step::End(i) | Step::Fail(i) => {
                    let at_index = i % model.living.len();
                    let Living { listener, ticket, source, is_exempt, is_adopted } = model.living[at_index];
                    who = Some(arrival(listener.unwrap_or(0), ticket, at(clock)));
                    let failed = match (step, listener) {
                        (Step::Fail(_), _) if is_adopted => continue, // nobody adopted is started
                        (Step::Fail(_), None) => continue,
                        (Step::Fail(_), _) if !wait => continue,
                        (Step::Fail(_), Some(listener)) => {
                            model.postponed = true;
                            model.memory.not_started();
                            Some(listener)
                        }
                        _ => {
                            ended += 1;
                            if !is_exempt {
                                model.memory.ended(source, clock);
                            }
                            None
                        }
                    };
                    model.die(at_index);
                    failed.into_iter().for_each(|listener| model.hold(listener, ticket, clock));
                }
                Step::Retry => model.postponed = false,
                Step::Leave(_) if model.held.is_empty() => continue,
                Step::Leave(i) => {
                    gone += 1;
                    let (listener, ticket, _) = model.held.remove(i % model.held.len());
                    model.forget(source_of(ticket));
                    who = Some(arrival(listener, ticket, at(clock)));
                }
                Step::Load(load) => model.last_load = load,
                Step::Pass(seconds) => clock += seconds,
                Step::Drained(is_drained) => model.drained = is_drained,
                Step::Drain => model.draining = true,
            }
            let now = at(clock);
            let (admitted, late) = model.settle(clock, matches!(step, Step::Pass(_)));
            admits.extend(admitted);
            refuses.extend(late);
            refused += refuses.len();
            let outcome = tried.take(step, now, who);
            prop_assert_eq!(&outcome, &twin.take(step, now, who), "same input, same output");
            prop_assert_eq!(outcome, (admits, refuses, holds));
            let gate = &tried.gate;
            prop_assert_eq!(gate.queue().len() as usize, model.held.len());
            prop_assert_eq!(tried.slots.len(), model.living.len(), "as many slots as commands");
            prop_assert_eq!(gate.census().active as usize, model.living.len());
            prop_assert!(max == 0 || model.living.len() <= max as usize + adopted);
            for living in &model.living {
                let same = model.living.iter().filter(|other| other.source == living.source).count();
                prop_assert_eq!(gate.census().per_source.count(living.source) as usize, same);
            }
            let has_place = (model.held.len() as u32) < capacity || (max_waiting > 0 && max_waiting <= capacity);
            for (listener, max_here) in each.iter().enumerate() {
                let here = model.here(listener);
                prop_assert!(*max_here == 0 || here <= max_here + adopted as u32);
                prop_assert_eq!(gate.census().per_listener[listener], here);
                prop_assert_eq!(gate.is_paused(listener), tried.paused[listener]);
                prop_assert_eq!(tried.paused[listener], model.draining || (wait && model.is_full(listener, clock) && !has_place));
            }
            for (listener, ticket, _) in model.heads(false).into_iter().map(|at| model.held[at]) {
                prop_assert!(!model.may(listener, ticket, clock), "never a free slot with somebody waiting");
                let then = at(model.due(source_of(ticket)).max(model.memory.start_due()));
                let is_time = !model.is_full_at_any_time(listener);
                prop_assert!(!is_time || gate.deadline().is_some_and(|at| at <= then), "nobody is forgotten");
            }
            prop_assert_eq!(gate.is_drained(), model.drained);
            prop_assert!(gate.next_yes.is_none_or(|at| at > now), "no turn for nothing");
            prop_assert_eq!(
                arrived + adopted, ended + refused + gone + model.living.len() + model.held.len(), "each is accounted for once"
            );
        }
        let drained = tried.take(Step::Drain, t0 + SECOND * clock, None);
        prop_assert_eq!((drained.0.len(), drained.1.len()), (0, model.held.len()));
        for (_, slot) in tried.slots { tried.gate.ended(t0, slot, END, &mut VecDeque::new()); }
        prop_assert_eq!(tried.gate.census().active, 0, "everything is given back");
        prop_assert!(tried.gate.census().per_source.is_empty() && tried.gate.census().per_listener == [0; 3]);
    }
}
