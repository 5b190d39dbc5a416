//! Cgroups that outlive their commands, until the last process in each has ended.
//!
//! The kernel tells of a change of cgroup.events (cgroup-v2, "Basic Operations"), by one inotify for all of them. Where no more can be
//! watched (max_user_watches of inotify(7)) it is looked each second.
#![forbid(unsafe_code)]

use super::tree::Tree;
use crate::poll::{Poll, Watch};
use nix::sys::epoll::EpollFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How often those are looked at that cannot be watched.
const LOOK: Duration = Duration::from_secs(1);

/// Reads in one turn: commands can change more than one reader takes in.
const READS: usize = 16;

/// What is watched, and what may have changed.
#[derive(Debug)]
pub(super) struct Emptied {
    /// `None`: no more are to be had (max_user_instances of inotify(7)).
    inotify: Option<Inotify>,
    watched: HashMap<WatchDescriptor, u64>,
    looked: HashSet<u64>,
    look_at: Option<Instant>,
    /// Of which it is not known whether they are empty by now.
    unsure: Vec<u64>,
}

impl Emptied {
    /// None is watched.
    pub(super) fn new() -> Emptied {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
        Emptied { inotify, watched: HashMap::new(), looked: HashSet::new(), look_at: None, unsure: Vec::new() }
    }

    /// Tells this poll set of changes.
    pub(super) fn join(&mut self, poll: &Poll) {
        self.inotify.take_if(|inotify| poll.add(inotify, Watch::Cgroups, EpollFlags::EPOLLIN).is_err());
    }

    /// One more.
    pub(super) fn watch(&mut self, now: Instant, id: u64, tree: &Tree) {
        let watch = |inotify: &Inotify| inotify.add_watch(tree.events_file(id).as_str(), AddWatchFlags::IN_MODIFY).ok();
        match self.inotify.as_ref().and_then(watch) {
            Some(watch) => drop(self.watched.insert(watch, id)),
            None => self.look_later(now, id),
        }
        // The last may have ended before.
        self.unsure.push(id);
    }

    /// The kernel has something to tell.
    pub(super) fn told(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        for _ in 0..READS {
            let Ok(events) = inotify.read_events() else { return };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.unsure.extend(self.watched.values());
                } else if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watched.remove(&event.wd); // it was removed
                } else {
                    self.unsure.extend(self.watched.get(&event.wd));
                }
            }
        }
    }

    /// When to look at those that cannot be watched.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks at them, and tries again to watch them.
    pub(super) fn on_time(&mut self, now: Instant, tree: &Tree) {
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            std::mem::take(&mut self.looked).into_iter().for_each(|id| self.watch(now, id, tree));
        }
    }

    /// One in which nobody is.
    pub(super) fn next(&mut self, now: Instant, tree: &Tree) -> Option<u64> {
        while let Some(id) = self.unsure.pop() {
            match tree.is_populated(id) {
                Some(true) => {}
                None => self.look_later(now, id),
                Some(false) => {
                    self.looked.remove(&id);
                    if self.looked.is_empty() {
                        self.look_at = None;
                    }
                    return Some(id);
                }
            }
        }
        None
    }

    /// One that is to be looked at again, and not at once: whoever makes that necessary does not keep the loop.
    pub(super) fn look_later(&mut self, now: Instant, id: u64) {
        self.looked.insert(id);
        self.look_at.get_or_insert(now + LOOK);
    }
}
