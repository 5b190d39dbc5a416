//! A cgroup for each connection: made ahead, used once, and removed when nobody is in it any more.
//!
//! What takes time is done in turns of its own, a little in each: making a few ahead, and removing what is empty. A cgroup that outlives
//! its command is watched by one inotify(7) for all, and no descriptor is held for any that is in use.
#![forbid(unsafe_code)]

mod emptied;
mod files;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
pub mod limits;
mod removal;
mod tree;
mod trial;
mod usage;
mod users;

pub use users::Users;

use crate::poll::Poll;
use crate::sys::launch::Way;
use crate::sys::process::Usage;
use emptied::Emptied;
use limits::Limits;
use nix::sys::signal::Signal;
use removal::Removal;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tree::Tree;

/// Made ahead, so that the clients of a small burst need not wait for it.
pub const AHEAD: usize = 8;
/// So many are left for idle turns of the loop; beyond that one is removed in each turn.
const MAX_RETIRED: usize = 64;
/// How soon it is tried again to end what the kernel cannot end at once.
const AGAIN: Duration = Duration::from_millis(50);
/// When it is looked whether somebody has come into what was ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The cgroups of all connections.
#[derive(Debug)]
pub struct Cgroups {
    tree: Tree,
    /// Those that are ready, by number, the next connection's first.
    ahead: VecDeque<(u64, OwnedFd)>,
    /// Those whose command has ended, which are to be removed.
    retired: VecDeque<u64>,
    /// Those in which others live on.
    emptied: Emptied,
    /// When all that is in one of them is ended.
    kills: BTreeSet<(Instant, u64)>,
    /// When to make and to remove some.
    tend_at: Option<Instant>,
}

impl Cgroups {
    /// Takes possession of our service's cgroup. With it a clause for each fallback that is needed here.
    ///
    /// # Errors
    /// One line, that says what could not be done, why, and what to do.
    pub fn begin(limits: &Limits) -> Result<(Cgroups, Vec<String>), String> {
        let (tree, fallbacks) = Tree::begin(limits)?;
        tree.sweep();
        let cgroups = Cgroups {
            tree,
            ahead: VecDeque::with_capacity(AHEAD),
            retired: VecDeque::new(),
            emptied: Emptied::new(),
            kills: BTreeSet::new(),
            tend_at: None,
        };
        Ok((cgroups, fallbacks))
    }

    /// The path of the service's cgroup, as the manager has it.
    pub fn path(&self) -> &str {
        self.tree.path()
    }

    /// Whether the kernel would kill at birth who is born in a cgroup that is used twice.
    pub fn kills_newborn(&self) -> bool {
        self.tree.kills_newborn()
    }

    /// The cgroup for this connection, and how a command comes into it.
    ///
    /// # Errors
    /// mkdir(2)'s, open(2)'s and write(2)'s.
    pub fn take(&mut self, now: Instant, id: u64) -> io::Result<(OwnedFd, Way)> {
        self.tend_at.get_or_insert(now);
        // A number that was passed over is never given again.
        while self.ahead.front().is_some_and(|(ready, _)| *ready < id) {
            self.retired.extend(self.ahead.pop_front().map(|(passed, _)| passed));
        }
        let is_ready = self.ahead.front().is_some_and(|(ready, _)| *ready == id);
        let ready = if is_ready { self.ahead.pop_front() } else { None };
        let folder = ready.map_or_else(|| self.tree.make(id), |(_, folder)| Ok(folder))?;
        Ok((folder, self.tree.way()))
    }

    /// Nobody came into that of this connection, whose number the next one gets.
    pub fn put_back(&mut self, id: u64, folder: OwnedFd) {
        self.ahead.push_front((id, folder));
    }

    /// Some that are ready have been removed by somebody else: all are made anew.
    pub fn forget_ready(&mut self) {
        self.ahead.clear();
    }

    /// The command of this connection has ended: its cgroup is removed soon, or when it is empty.
    pub fn retire(&mut self, now: Instant, id: u64) {
        self.retired.push_back(id);
        self.tend_at.get_or_insert(now);
    }

    /// Removes the cgroup of this connection, whose command has ended. `false`: others live on in it, and [`Cgroups::next_empty`] tells
    /// when the last of them has ended.
    pub fn is_over(&mut self, now: Instant, id: u64) -> bool {
        let is_over = self.remove(now, id);
        if !is_over {
            self.emptied.watch(now, id, &self.tree);
        }
        is_over
    }

    /// The same of one that [`Cgroups::next_empty`] has named.
    pub fn is_still_empty(&mut self, now: Instant, id: u64) -> bool {
        let is_over = self.remove(now, id);
        if !is_over {
            self.emptied.look_later(now, id);
        }
        is_over
    }

    /// `false`: somebody is in it.
    fn remove(&mut self, now: Instant, id: u64) -> bool {
        let removal = self.tree.remove(id);
        if removal == Removal::Begun {
            self.retire(now, id);
        }
        removal != Removal::Inhabited
    }

    /// Tells this poll set of cgroups that outlive their commands.
    pub fn join(&mut self, poll: &Poll) {
        self.emptied.join(poll);
    }

    /// Its folder.
    pub fn folder(&self) -> &str {
        self.tree.folder()
    }

    /// Something may have changed about those that are watched.
    pub fn told(&mut self) {
        self.emptied.told();
    }

    /// One that was watched, and in which nobody is.
    pub fn next_empty(&mut self, now: Instant) -> Option<u64> {
        self.emptied.next(now, &self.tree)
    }

    /// The processes in that of this connection.
    pub fn members(&self, id: u64) -> Vec<i32> {
        self.tree.members(id)
    }

    /// The connections that have one.
    pub fn ids(&self) -> Vec<u64> {
        self.tree.ids()
    }

    /// The connection in whose cgroup this process is: its name says it, which we have written.
    pub fn connection_of(&self, pid: i32) -> Option<u64> {
        self.tree.connection_of(pid)
    }

    /// The connections that have one in which somebody lives. What is empty is removed.
    pub fn inhabited(&self) -> Vec<u64> {
        let mut ids = self.tree.ids();
        let is_ready = |id: &u64| self.ahead.iter().any(|(ready, _)| ready == id);
        ids.retain(|id| !is_ready(id) && self.tree.remove(*id) != Removal::Done);
        ids.sort_unstable();
        ids
    }

    /// What that of this connection has used; what it does not say is as `known`.
    pub fn usage(&self, id: u64, known: Usage) -> Usage {
        self.tree.usage(id, known)
    }

    /// Whether memory of that of this connection was used up, and somebody in it was killed for that; `None` is not known.
    pub fn ran_out_of_memory(&self, id: u64) -> Option<bool> {
        self.tree.ran_out_of_memory(id)
    }

    /// Sends SIGTERM to each process in that of this connection that is not of this process group, and ends what is left of all at `until`.
    pub fn terminate(&mut self, until: Instant, id: u64, group: i32) {
        self.tree.signal_others(id, Signal::SIGTERM, group);
        self.kills.insert((until, id));
    }

    /// Ends all that is in that of this connection, whatever it has done to hide, and whoever comes into it until it is empty.
    pub fn kill(&mut self, now: Instant, id: u64) {
        if self.tree.is_populated(id) != Some(false) {
            let again = if self.tree.kill(id) { LOOK_AGAIN } else { AGAIN };
            self.kills.insert((now + again, id));
        }
    }

    /// Ends all that is in any of them.
    pub fn kill_all(&mut self) {
        for id in self.tree.ids() {
            self.tree.kill(id);
        }
    }

    /// When [`Cgroups::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let kill = self.kills.first().map(|(at, _)| *at);
        self.tend_at.into_iter().chain(kill).chain(self.emptied.deadline()).min()
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Instant) {
        while let Some((_, id)) = self.kills.first().copied().filter(|(at, _)| *at <= now) {
            self.kills.pop_first();
            self.kill(now, id);
        }
        self.emptied.on_time(now, &self.tree);
    }

    /// Makes one ahead, or removes one; `next_id` is the number of the next connection. In a turn that is not idle only if so many are to be
    /// removed that it can wait no longer. Whether there was something to do.
    pub fn tend(&mut self, now: Instant, next_id: u64, is_idle: bool) -> bool {
        if self.tend_at.is_none() || !(is_idle || self.retired.len() >= MAX_RETIRED) {
            return false;
        }
        let next = self.ahead.back().map_or(next_id, |(last, _)| last + 1).max(next_id);
        if self.ahead.len() < AHEAD && self.retired.len() < MAX_RETIRED {
            // Whoever needs one that cannot be made is told of it.
            if let Ok(folder) = self.tree.make(next) {
                self.ahead.push_back((next, folder));
                return true;
            }
        }
        match self.retired.pop_front() {
            Some(id) => {
                self.is_over(now, id);
            }
            None => self.tend_at = None,
        }
        true
    }

    /// Removes all that nobody is in, for this daemon ends.
    pub fn leave(&mut self) {
        self.ahead.clear();
        self.tree.make_way();
        if self.inhabited().is_empty() {
            self.tree.move_back();
        }
    }
}
