//! The commands that run, by pid.
//!
//! They lie side by side, so that n of them touch the memory of n: in a table that hashes the commands themselves a few dozen
//! touch nearly every page that there is for all.
#![forbid(unsafe_code)]

use crate::policy::gate::Slot;
use std::collections::HashMap;
use std::time::Instant;

/// A command that runs.
#[derive(Debug)]
pub struct Child {
    /// Its number, of a process that is not reaped yet.
    pub pid: i32,
    /// Number of its connection.
    pub id: u64,
    /// What it is counted for, to be given back with its end.
    pub slot: Slot,
    /// When it was started.
    pub since: Instant,
    /// Milliseconds that its client had waited then; `None` if that is not known.
    pub waited_ms: Option<u32>,
    /// errno, if its exec failed.
    pub exec_errno: Option<i32>,
}

/// The commands that run, in no order.
#[derive(Debug, Default)]
pub struct Children {
    side_by_side: Vec<Child>,
    place_of: HashMap<i32, u32>,
}

impl Children {
    /// Room for so many, which costs address space alone until it is used. Growing would leave the smaller tables behind in
    /// the heap.
    pub fn with_capacity(commands: usize) -> Self {
        Children { side_by_side: Vec::with_capacity(commands), place_of: HashMap::with_capacity(commands) }
    }

    /// One more.
    pub fn insert(&mut self, child: Child) {
        self.place_of.insert(child.pid, self.side_by_side.len() as u32);
        self.side_by_side.push(child);
    }

    /// That of this pid.
    pub fn get(&self, pid: i32) -> Option<&Child> {
        self.side_by_side.get(*self.place_of.get(&pid)? as usize)
    }

    /// That of this pid.
    pub fn get_mut(&mut self, pid: i32) -> Option<&mut Child> {
        self.side_by_side.get_mut(*self.place_of.get(&pid)? as usize)
    }

    /// Whether there is one of this pid.
    pub fn contains(&self, pid: i32) -> bool {
        self.place_of.contains_key(&pid)
    }

    /// Takes out that of this pid.
    pub fn remove(&mut self, pid: i32) -> Option<Child> {
        let place = self.place_of.remove(&pid)?;
        let child = self.side_by_side.swap_remove(place as usize);
        if let Some(moved) = self.side_by_side.get(place as usize) {
            self.place_of.insert(moved.pid, place);
        }
        Some(child)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Child> {
        self.side_by_side.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.side_by_side.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.side_by_side.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::gate::{Gate, Hold, WhenFull};
    use crate::policy::limit::Rules;
    use crate::policy::source::Source;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn child(pid: i32) -> Child {
        let (now, rules) = (Instant::now(), Rules { max_per_listener: vec![0], ..Rules::default() });
        let mut gate = Gate::new(&rules, WhenFull::Refuse, Hold::default(), 1);
        let slot = gate.adopt(now, Some(0), Source::Unknown, &mut VecDeque::new());
        Child { pid, id: pid as u64 * 10, slot, since: now, waited_ms: None, exec_errno: None }
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
