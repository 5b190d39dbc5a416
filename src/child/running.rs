//! The commands that run, by pid.
//!
//! Stored densely: a hash map of whole records touches nearly all of its pages with a few dozen entries.
#![forbid(unsafe_code)]

use super::ledger::Place;
use crate::policy::gate::Slot;
use crate::sys::launch::Launch;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// So old is a command when it is looked at whether its exec is over. Those that have ended by then cost nothing.
const YOUNG: Duration = Duration::from_millis(25);
/// How often it is looked at those whose exec takes longer: on a network file system it may hang for ever.
const SLOW: Duration = Duration::from_secs(1);

/// A command that runs.
#[derive(Debug)]
pub struct Child {
    /// Its number, of a process that is not reaped yet.
    pub pid: i32,
    /// Number of its connection.
    pub id: u64,
    /// What it is counted for, to be given back with its end.
    pub slot: Slot,
    /// The peer's port, or its process; 0 is not known.
    pub peer_port: u32,
    /// When it was started.
    pub since: Instant,
    /// Milliseconds that its client had waited then; `None` if that is not known.
    pub waited_ms: Option<u32>,
    /// By which it is known when its exec is over.
    pub launch: Launch,
    /// Its entry in the ledger.
    pub place: Option<Place>,
    /// errno, if its exec failed.
    pub exec_errno: Option<i32>,
    /// Whether it was told to end.
    pub told: Told,
}

/// Whether and why a command was told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Why it was sent the first signal.
    pub why: Option<Why>,
    /// Whether it was sent SIGKILL before its grace was over, since that was asked for.
    pub is_killed: bool,
}

impl Told {
    /// Somebody asks for its end, or with `is_forced` for that at once. Whether that is news; who reaches its time limit now is on the way
    /// out already.
    pub fn ask(&mut self, is_forced: bool) -> bool {
        let is_news = if is_forced { !self.is_killed } else { self.why.is_none() };
        if is_news {
            *self = Told { why: self.why.or(Some(Why::Asked)), is_killed: is_forced };
        }
        is_news
    }
}

/// Why a command is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its `--time-limit` is over.
    TimeLimit,
    /// An administrator has asked for it.
    Asked,
}

/// The commands that run, in no order.
#[derive(Debug, Default)]
pub struct Children {
    dense: Vec<Child>,
    index_of: HashMap<i32, u32>,
    /// Those that are not looked at yet, oldest first, by pid and number; some may have ended.
    young: VecDeque<(Instant, i32, u64)>,
    /// Those whose exec was not over then, and when it is looked at them again.
    slow: Vec<(i32, u64)>,
    slow_until: Option<Instant>,
    /// Those whose exec was over, and that are looked at once more then.
    again: Vec<(i32, u64)>,
}

impl Children {
    /// Room for so many, which costs address space alone until it is used. Growing would leave the smaller tables behind in
    /// the heap.
    pub fn with_capacity(commands: usize) -> Self {
        let (dense, index_of) = (Vec::with_capacity(commands), HashMap::with_capacity(commands));
        Children { dense, index_of, ..Children::default() }
    }

    /// One more.
    pub fn insert(&mut self, child: Child) {
        self.index_of.insert(child.pid, self.dense.len() as u32);
        self.young.push_back((child.since, child.pid, child.id));
        self.dense.push(child);
    }

    /// That of this pid.
    pub fn get(&self, pid: i32) -> Option<&Child> {
        self.dense.get(*self.index_of.get(&pid)? as usize)
    }

    /// That of this pid.
    pub fn get_mut(&mut self, pid: i32) -> Option<&mut Child> {
        self.dense.get_mut(*self.index_of.get(&pid)? as usize)
    }

    /// Whether there is one of this pid.
    pub fn contains(&self, pid: i32) -> bool {
        self.index_of.contains_key(&pid)
    }

    /// Takes out that of this pid.
    pub fn remove(&mut self, pid: i32) -> Option<Child> {
        let index = self.index_of.remove(&pid)?;
        let child = self.dense.swap_remove(index as usize);
        if let Some(moved) = self.dense.get(index as usize) {
            self.index_of.insert(moved.pid, index);
        }
        // So that a command which is soon over wakes nobody afterwards.
        if self.young.front().is_some_and(|(_, _, id)| *id == child.id) {
            self.young.pop_front();
            while self.young.front().is_some_and(|(_, pid, id)| self.get(*pid).is_none_or(|living| living.id != *id)) {
                self.young.pop_front();
            }
        }
        Some(child)
    }

    /// How many are known to take long over their exec.
    pub fn slow(&self) -> usize {
        self.slow.len()
    }

    /// When [`Children::begun`] has something to look at.
    pub fn deadline(&self) -> Option<Instant> {
        let young = self.young.front().map(|(since, ..)| *since + YOUNG);
        young.into_iter().chain(self.slow_until).min()
    }

    /// The commands of which it is known by now that their exec is over, each once, by pid. None of them is reaped yet; their exec may
    /// have failed.
    pub fn begun(&mut self, now: Instant, has_left: impl Fn(Launch) -> bool) -> Vec<i32> {
        let mut due = Vec::new();
        if self.slow_until.take_if(|at| *at <= now).is_some() {
            due.append(&mut self.slow);
            due.append(&mut self.again);
        }
        if self.young.front().is_some_and(|(since, ..)| *since + YOUNG <= now) {
            // A few at once: whoever came a little later is old enough, too.
            while let Some((_, pid, id)) = self.young.front().copied().filter(|(since, ..)| *since + YOUNG / 2 <= now) {
                self.young.pop_front();
                due.push((pid, id));
            }
        }
        let mut begun = Vec::new();
        for (pid, id) in due {
            match self.get(pid).filter(|child| child.id == id).map(|child| child.launch) {
                Some(launch) if has_left(launch) => begun.push(pid),
                Some(_) => self.slow.push((pid, id)),
                None => {}
            }
        }
        if !self.slow.is_empty() || !self.again.is_empty() {
            self.slow_until.get_or_insert(now + SLOW);
        }
        begun
    }

    /// Names this one once more in a moment, though its exec is over.
    pub fn look_again(&mut self, now: Instant, pid: i32) {
        let id = self.get(pid).map(|child| child.id);
        self.again.extend(id.map(|id| (pid, id)));
        self.slow_until.get_or_insert(now + SLOW);
    }

    /// Whether it is so old that [`Children::look_again`] was in time for it.
    pub fn is_known(&self, now: Instant, pid: i32) -> bool {
        self.get(pid).is_none_or(|child| child.since + SLOW <= now)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Child> {
        self.dense.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.dense.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.dense.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::gate::{Gate, Hold, WhenFull};
    use crate::policy::limit::rule::Rules;
    use crate::policy::source::Source;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn child(pid: i32) -> Child {
        let (now, rules) = (Instant::now(), Rules { max_per_listener: vec![0], ..Rules::default() });
        let mut gate = Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1);
        let slot = gate.adopt(now, Some(0), Source::Unknown, &mut VecDeque::new());
        Child {
            pid,
            id: pid as u64 * 10,
            slot,
            peer_port: 0,
            since: now,
            waited_ms: None,
            launch: Launch::default(),
            place: None,
            exec_errno: None,
            told: Told::default(),
        }
    }

    #[test]
    fn each_is_named_once_when_its_exec_is_over() {
        let mut children = Children::default();
        assert_eq!(children.deadline(), None);
        let born = Instant::now();
        (1..=4).for_each(|pid| children.insert(Child { since: born, ..child(pid) }));
        assert_eq!(children.deadline(), Some(born + YOUNG));
        assert!(children.begun(born + YOUNG - Duration::from_nanos(1), |_| true).is_empty(), "not yet");
        children.remove(1);
        assert_eq!(children.deadline(), Some(born + YOUNG));
        children.remove(3);

        let now = born + YOUNG;
        assert!(children.begun(now, |_| false).is_empty(), "none of them");
        assert_eq!(children.deadline(), Some(now + SLOW));
        // The number is another command's by then.
        children.remove(2);
        children.insert(Child { id: 99, since: now, ..child(2) });
        assert_eq!(children.begun(now + YOUNG, |_| true), [2]);
        assert_eq!(children.begun(now + SLOW, |_| true), [4]);
        assert_eq!(children.deadline(), None);
        assert!(children.begun(now + 2 * SLOW, |_| true).is_empty(), "once");
    }

    #[test]
    fn one_is_named_once_more_if_that_is_asked_for() {
        let mut children = Children::default();
        let (born, later) = (Instant::now(), Duration::from_millis(30));
        children.insert(Child { since: born, ..child(7) });
        assert_eq!(children.begun(born + later, |_| true), [7]);
        assert!(!children.is_known(born + later, 7));
        children.look_again(born + later, 7);
        assert_eq!((children.deadline(), children.slow()), (Some(born + later + SLOW), 0));
        assert_eq!(children.begun(born + later + SLOW, |_| true), [7]);
        assert!(children.is_known(born + later + SLOW, 7));
        assert_eq!(children.deadline(), None);
    }

    #[test]
    fn whoever_is_soon_over_wakes_nobody() {
        let mut children = Children::default();
        (1..=3).for_each(|pid| children.insert(child(pid)));
        children.remove(2);
        children.remove(1);
        children.remove(3);
        assert_eq!(children.deadline(), None);
    }

    proptest! {
        /// Few pids, so that most are met again, as first, last and only one.
        #[test]
        fn what_came_and_did_not_go_is_there(steps in proptest::collection::vec((any::<bool>(), 1..6), 0..60)) {
            let mut children = Children::with_capacity(2);
            let mut model = std::collections::BTreeSet::new();
            for (comes, pid) in steps {
                if comes && model.insert(pid) {
                    children.insert(child(pid));
                } else if !comes {
                    let gone = children.remove(pid).map(|child| child.id);
                    prop_assert_eq!(gone, model.remove(&pid).then_some(pid as u64 * 10));
                }
                prop_assert_eq!((children.len(), children.is_empty()), (model.len(), model.is_empty()));
                let listed: std::collections::BTreeSet<i32> = children.iter().map(|child| child.pid).collect();
                prop_assert_eq!(&listed, &model);
                for pid in 1..6 {
                    prop_assert_eq!(children.contains(pid), model.contains(&pid));
                    prop_assert_eq!(children.get(pid).map(|child| child.pid), model.get(&pid).copied());
                }
            }
        }
    }
}
