//! The gate: events in, actions out; the same events always give the same actions.
//!
//! * never more running than any limit allows;
//! * with `refuse`, each arrival gets exactly one of [`Action::Admit`] and [`Action::Refuse`];
//! * with `wait`, a listener whose next arrival could not be admitted is paused, so that the kernel's
//!   queue is the queue; only the edge from full to not full resumes it.
#![forbid(unsafe_code)]

use super::limit::{self, Census, Limit, ListenerId, Rules};
use super::reason::Refusal;
use std::time::{Duration, Instant};

/// How long a load average stays good: the kernel itself renews it every 5 s, and a client that waits
/// for the load to fall should not wait much longer than that.
pub const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What happens to a connection that a limit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Accept, tell, close.
    Refuse,
    /// Leave it in the kernel's queue, in order.
    Wait,
}

impl std::fmt::Display for WhenFull {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            WhenFull::Refuse => "refuse",
            WhenFull::Wait => "wait",
        })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A connection was accepted from this listener and its client is still there.
    Arrive(ListenerId),
    /// A command of this listener has ended, or could not be started: its slot comes back.
    Ended(ListenerId),
    /// The 1-minute load average was read.
    Load(f64),
    /// The daemon is stopping: nothing more is admitted.
    Drain,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Start the command for the connection that has just arrived; its slot is charged already.
    Admit,
    /// Tell the client that has just arrived, and close.
    Refuse(Refusal),
    /// Take this listener out of the poll set.
    Pause(ListenerId),
    /// Put this listener back.
    Resume(ListenerId),
}

/// Decides, and keeps the only count that decisions are made from.
#[derive(Debug)]
pub struct Gate {
    limits: Vec<Box<dyn Limit>>,
    wants_load: bool,
    when_full: WhenFull,
    census: Census,
    load_read: Option<Instant>,
    paused: Vec<bool>,
    draining: bool,
}

impl Gate {
    /// A gate over `listeners` listeners, all open. `rules.max_per_listener` has one entry per listener.
    pub fn new(rules: &Rules, when_full: WhenFull, listeners: usize) -> Self {
        debug_assert_eq!(rules.max_per_listener.len(), listeners);
        Gate {
            limits: limit::from_rules(rules),
            wants_load: rules.load_average.is_some(),
            when_full,
            census: Census { active: 0, per_listener: vec![0; listeners], load: 0.0 },
            load_read: None,
            paused: vec![false; listeners],
            draining: false,
        }
    }

    /// Takes one event; what is to be done is appended to `out`, in order.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Arrive(listener) => match self.ask(listener) {
                None => {
                    self.census.active += 1;
                    self.census.per_listener[listener] += 1;
                    out.push(Action::Admit);
                }
                Some(refusal) => out.push(Action::Refuse(refusal)),
            },
            Event::Ended(listener) => {
                self.census.active -= 1;
                self.census.per_listener[listener] -= 1;
            }
            Event::Load(load) => {
                self.census.load = load;
                self.load_read = Some(now);
            }
            Event::Drain => self.draining = true,
        }
        self.edges(out);
    }

    /// Whether [`Event::Load`] is due before the next arrival is accepted: a load limit is set, and the last
    /// figure is old. Also with nothing running: what is admitted then decides about the next by it.
    pub fn load_is_due(&self, now: Instant) -> bool {
        self.wants_load && self.load_read.is_none_or(|at| at + LOAD_INTERVAL <= now)
    }

    /// When to wake even though nothing happened: while the load keeps a listener paused, it is looked
    /// at again, since no command's end may come for long.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.wants_load && self.census.active > 0 && !self.draining && self.paused.contains(&true);
        self.load_read.filter(|_| waits).map(|at| at + LOAD_INTERVAL)
    }

    /// What is running.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Whether this listener is out of the poll set.
    pub fn is_paused(&self, listener: ListenerId) -> bool {
        self.paused[listener]
    }

    /// Whether an arrival at this listener could not be admitted now.
    pub fn is_full(&self, listener: ListenerId) -> bool {
        self.ask(listener).is_some()
    }

    fn ask(&self, listener: ListenerId) -> Option<Refusal> {
        self.limits.iter().find_map(|limit| limit.ask(&self.census, listener))
    }

    fn edges(&mut self, out: &mut Vec<Action>) {
        for listener in 0..self.paused.len() {
            let closed = self.draining || (self.when_full == WhenFull::Wait && self.ask(listener).is_some());
            if closed != self.paused[listener] {
                self.paused[listener] = closed;
                out.push(if closed { Action::Pause(listener) } else { Action::Resume(listener) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::reason::Reason;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn gate(max: u32, per_listener: &[u32], load: Option<f64>, when_full: WhenFull) -> Gate {
        let rules = Rules { max_connections: max, max_per_listener: per_listener.to_vec(), load_average: load };
        Gate::new(&rules, when_full, per_listener.len())
    }

    fn step(gate: &mut Gate, now: Instant, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        gate.handle(now, event, &mut out);
        out
    }

    #[test]
    fn borders_of_the_total_cap() {
        for max in [1, 2, 5] {
            let (mut gate, now) = (gate(max, &[0], None, WhenFull::Refuse), Instant::now());
            for _ in 0..max {
                assert_eq!(step(&mut gate, now, Event::Arrive(0)), [Action::Admit]);
            }
            let refusal = Refusal::count(Reason::TotalLimit, max, max);
            assert_eq!(step(&mut gate, now, Event::Arrive(0)), [Action::Refuse(refusal)]);
            assert_eq!(step(&mut gate, now, Event::Ended(0)), []);
            assert_eq!(step(&mut gate, now, Event::Arrive(0)), [Action::Admit]);
        }
    }

    #[test]
    fn only_the_edge_pauses_and_resumes() {
        let (mut gate, now) = (gate(2, &[1, 0], None, WhenFull::Wait), Instant::now());
        assert_eq!(step(&mut gate, now, Event::Arrive(0)), [Action::Admit, Action::Pause(0)]);
        assert_eq!(step(&mut gate, now, Event::Arrive(1)), [Action::Admit, Action::Pause(1)]);
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
        assert_eq!(step(&mut gate, t0, Event::Arrive(0)), [Action::Admit, Action::Pause(0)]);
        assert_eq!(gate.deadline(), Some(t0 + LOAD_INTERVAL));
        let t1 = t0 + LOAD_INTERVAL;
        assert!(gate.load_is_due(t1));
        assert_eq!(step(&mut gate, t1, Event::Load(1.99)), [Action::Resume(0)]);
        assert_eq!(gate.deadline(), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Arrive(usize),
        End(usize),
        Load(f64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let one = prop_oneof![
            4 => (0..3usize).prop_map(Step::Arrive),
            3 => any::<prop::sample::Index>().prop_map(|i| Step::End(i.index(1 << 16))),
            1 => (0..8u32).prop_map(|half| Step::Load(f64::from(half) / 2.0)),
        ];
        vec(one, 0..200)
    }

    proptest! {
        /// Against a naive model: a list of the living, and the caps written out.
        #[test]
        fn like_a_naive_model(
            max in 0..6u32, each in vec(0..4u32, 3), load in prop::option::of((1..6u32).prop_map(|half| f64::from(half) / 2.0)),
            wait in any::<bool>(), steps in steps(),
        ) {
            let when_full = if wait { WhenFull::Wait } else { WhenFull::Refuse };
            let (mut gate, mut twin) = (gate(max, &each, load, when_full), gate(max, &each, load, when_full));
            let (now, mut living, mut last_load) = (Instant::now(), Vec::<usize>::new(), 0.0);
            let (mut arrived, mut admitted, mut refused, mut paused) = (0, 0, 0, [false; 3]);
            for step_ in steps {
                let event = match step_ {
                    Step::Arrive(listener) if paused[listener] => continue, // it stays in the kernel's queue
                    Step::Arrive(listener) => { arrived += 1; Event::Arrive(listener) }
                    Step::End(_) if living.is_empty() => continue,
                    Step::End(i) => Event::Ended(living.swap_remove(i % living.len())),
                    Step::Load(load) => { last_load = load; Event::Load(load) }
                };
                let full = |living: &[usize], listener: usize| {
                    let here = living.iter().filter(|l| **l == listener).count() as u32;
                    (max > 0 && living.len() as u32 >= max) || (each[listener] > 0 && here >= each[listener])
                        || (load.is_some_and(|below| last_load >= below) && !living.is_empty())
                };
                let actions = step(&mut gate, now, event);
                prop_assert_eq!(&actions, &step(&mut twin, now, event), "same input, same output");
                let was_full = matches!(event, Event::Arrive(listener) if full(&living, listener));
                for action in actions {
                    match (action, event) {
                        (Action::Admit, Event::Arrive(listener)) => { prop_assert!(!was_full); admitted += 1; living.push(listener); }
                        (Action::Refuse(_), Event::Arrive(_)) => { prop_assert!(was_full && !wait); refused += 1; }
                        (Action::Pause(listener), _) => { prop_assert!(!paused[listener]); paused[listener] = true; }
                        (Action::Resume(listener), _) => { prop_assert!(paused[listener]); paused[listener] = false; }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                prop_assert_eq!(arrived, admitted + refused, "each arrival ends exactly once");
                prop_assert!(max == 0 || living.len() as u32 <= max);
                for listener in 0..3 {
                    let here = living.iter().filter(|l| **l == listener).count() as u32;
                    prop_assert!(each[listener] == 0 || here <= each[listener]);
                    prop_assert_eq!(gate.census().per_listener[listener], here);
                    prop_assert_eq!(paused[listener], wait && full(&living, listener), "never a free slot with somebody waiting");
                }
            }
            for listener in living { step(&mut gate, now, Event::Ended(listener)); }
            prop_assert_eq!(gate.census().active, 0, "everything is given back");
        }
    }
}
