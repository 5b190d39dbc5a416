//! Processes that are not our children and count as commands: what an earlier daemon has left running.
#![forbid(unsafe_code)]

use super::ledger::Place;
use super::watched::Watched;
use crate::policy::gate::Slot;
use crate::poll::{Poll, Watch};
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
    /// When it was started.
    pub since: Instant,
    /// Where its entry in the ledger is.
    pub place: Option<Place>,
}

/// All of them, by pid, and how the end of each is learned.
#[derive(Debug, Default)]
pub struct Adoptions {
    all: HashMap<i32, (Adopted, Sight)>,
    look_at: Option<Instant>,
}

/// How an end is learned. Neither is sure, a pidfd or a place in the poll set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sight {
    /// It is an event.
    Told,
    /// It has to be looked for.
    Looked,
}

fn watch(process: &Watched, poll: &Poll) -> Sight {
    let add = |pidfd| poll.add(pidfd, Watch::Adopted(process.pid()), EpollFlags::EPOLLIN).is_ok();
    if process.pidfd().is_some_and(add) { Sight::Told } else { Sight::Looked }
}

impl Adoptions {
    /// One more.
    pub fn insert(&mut self, now: Instant, adopted: Adopted, poll: &Poll) {
        let sight = watch(&adopted.process, poll);
        if sight == Sight::Looked {
            self.look_at.get_or_insert(now + LOOK);
        }
        self.all.insert(adopted.process.pid(), (adopted, sight));
    }

    /// Takes out one that has ended.
    pub fn remove(&mut self, pid: i32, poll: &Poll) -> Option<Adopted> {
        let (adopted, sight) = self.all.remove(&pid)?;
        if let Some(pidfd) = adopted.process.pidfd().filter(|_| sight == Sight::Told) {
            let _ = poll.delete(pidfd);
        }
        Some(adopted)
    }

    /// When to [`look`](Self::look).
    pub fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks at those whose end is no event, and tries again to make it one; those that have ended.
    pub fn look(&mut self, now: Instant, poll: &Poll) -> Vec<i32> {
        self.look_at = None;
        let mut ended = Vec::new();
        for (pid, (adopted, sight)) in self.all.iter_mut().filter(|(_, (_, sight))| *sight == Sight::Looked) {
            if adopted.process.has_ended() {
                ended.push(*pid);
            } else if adopted.process.pidfd().is_some() || adopted.process.try_pidfd() {
                *sight = watch(&adopted.process, poll);
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
