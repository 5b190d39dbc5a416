//! Processes that are not our children and count as commands: what an earlier daemon has left running.
#![forbid(unsafe_code)]

use super::ledger::Place;
use super::running::Told;
use super::watched::Watched;
use crate::policy::gate::Slot;
use crate::poll::{Poll, Subset, Watch};
use nix::sys::epoll::EpollFlags;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often processes are looked at whose end is no event.
const LOOK: Duration = Duration::from_secs(1);

/// A command that an earlier daemon has started.
#[derive(Debug)]
pub struct Adopted {
    /// The process.
    pub process: Watched,
    /// Number of its connection, if known.
    pub id: Option<u64>,
    /// What it is counted for, to be given back with its end.
    pub slot: Slot,
    /// The peer's port, or its process; 0 is not known.
    pub peer_port: u32,
    /// When it was started.
    pub since: Instant,
    /// Where its entry in the ledger is.
    pub place: Option<Place>,
    /// Whether it was told to end.
    pub told: Told,
}

/// All of them, by pid, and how the end of each is learned.
#[derive(Debug, Default)]
pub struct Adoptions {
    all: HashMap<i32, (Adopted, Sight)>,
    look_at: Option<Instant>,
    /// The pidfds of those whose end is an event. There while it is needed, and if it can be had.
    ends: Option<Subset>,
}

/// How an end is learned. Neither is sure, a pidfd or a place in the poll set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sight {
    /// It is an event.
    Told,
    /// It has to be looked for.
    Looked,
}

fn watch(process: &Watched, ends: &mut Option<Subset>, poll: &Poll) -> Sight {
    if ends.is_none() {
        *ends = Subset::new(poll, Watch::AllAdopted).ok();
    }
    let add = |ends: &Subset, pidfd| ends.set().add(pidfd, Watch::Adopted(process.pid()), EpollFlags::EPOLLIN).is_ok();
    match (ends, process.pidfd()) {
        (Some(ends), Some(pidfd)) if add(ends, pidfd) => Sight::Told,
        _ => Sight::Looked,
    }
}

impl Adoptions {
    /// One more.
    pub fn insert(&mut self, now: Instant, adopted: Adopted, poll: &Poll) {
        let sight = watch(&adopted.process, &mut self.ends, poll);
        if sight == Sight::Looked {
            self.look_at.get_or_insert(now + LOOK);
        }
        self.all.insert(adopted.process.pid(), (adopted, sight));
    }

    /// Takes out one that has ended.
    pub fn remove(&mut self, pid: i32, poll: &Poll) -> Option<Adopted> {
        let (adopted, sight) = self.all.remove(&pid)?;
        if let (Some(pidfd), Some(ends), Sight::Told) = (adopted.process.pidfd(), &self.ends, sight) {
            let _ = ends.set().delete(pidfd);
        }
        if let Some(ends) = self.ends.take_if(|_| self.all.is_empty()) {
            let _ = poll.delete(&ends);
        }
        Some(adopted)
    }

    /// Some of those that have ended by now, if that is an event; none if there are none. It costs the same however many live.
    pub fn ended(&self, now: Instant) -> Vec<i32> {
        let Some(ends) = &self.ends else { return Vec::new() };
        let pid = |watch| if let Watch::Adopted(pid) = watch { Some(pid) } else { None };
        ends.ready(now).iter().filter_map(pid).collect()
    }

    /// When to [`look`](Self::look).
    pub fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks at those whose end is no event, and tries again to make it one; those that have ended.
    pub fn look(&mut self, now: Instant, poll: &Poll) -> Vec<i32> {
        self.look_at = None;
        let mut ended = Vec::new();
        let Adoptions { all, ends, .. } = self;
        for (pid, (adopted, sight)) in all.iter_mut().filter(|(_, (_, sight))| *sight == Sight::Looked) {
            if adopted.process.has_ended() {
                ended.push(*pid);
            } else if adopted.process.pidfd().is_some() || adopted.process.try_pidfd() {
                *sight = watch(&adopted.process, ends, poll);
            }
            if *sight == Sight::Looked {
                self.look_at = Some(now + LOOK);
            }
        }
        ended
    }

    /// That of this pid.
    pub fn get(&self, pid: i32) -> Option<&Adopted> {
        self.all.get(&pid).map(|(adopted, _)| adopted)
    }

    /// That of this pid.
    pub fn get_mut(&mut self, pid: i32) -> Option<&mut Adopted> {
        self.all.get_mut(&pid).map(|(adopted, _)| adopted)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Adopted> {
        self.all.values().map(|(adopted, _)| adopted)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
