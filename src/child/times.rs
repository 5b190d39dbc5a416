//! `--time-limit` and `--kill-grace`: when each command is sent SIGTERM, and its process group SIGKILL.
//!
//! Without the first nothing is kept, but for the grace of those that somebody has asked to end, and nothing is looked at.
#![forbid(unsafe_code)]

use super::signals::Group;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Groups of which a descriptor is held during their grace: each descriptor makes the start of a command dearer.
const MAX_PIDFDS: usize = 256;

/// The commands whose time is watched.
#[derive(Debug)]
pub struct Times {
    limit: Option<Duration>,
    grace: Duration,
    /// When each is sent SIGTERM.
    limits: BTreeSet<(Instant, i32)>,
    /// When the process group of each that was sent SIGTERM is sent SIGKILL.
    graces: BTreeSet<(Instant, i32)>,
    grace_of: HashMap<i32, Grace>,
}

/// What follows a command's SIGTERM.
#[derive(Debug)]
struct Grace {
    /// When it is over.
    until: Instant,
    group: Group,
}

fn take_due(set: &mut BTreeSet<(Instant, i32)>, now: Instant) -> Option<i32> {
    set.first().filter(|(at, _)| *at <= now)?;
    set.pop_first().map(|(_, pid)| pid)
}

impl Times {
    /// `--time-limit` and `--kill-grace`.
    pub fn new(limit: Option<Duration>, grace: Duration) -> Times {
        Times { limit, grace, limits: BTreeSet::new(), graces: BTreeSet::new(), grace_of: HashMap::new() }
    }

    /// `--time-limit`; `None` is off.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// `--kill-grace`.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// A command was started then.
    pub fn begin(&mut self, pid: i32, since: Instant) {
        self.limits.extend(self.limit.map(|limit| (since + limit, pid)));
        // The number is given out again only when the group that had it is gone.
        let grace = if self.grace_of.is_empty() { None } else { self.grace_of.remove(&pid) };
        if let Some(grace) = grace {
            self.graces.remove(&(grace.until, pid));
        }
    }

    /// A command has ended that was started then. What is left of its group after SIGTERM still has its grace.
    pub fn end(&mut self, pid: i32, since: Instant) {
        self.forget_limit(pid, since);
        if self.grace_of.is_empty() {
            return;
        }
        let Some(grace) = self.grace_of.get_mut(&pid) else { return };
        if !grace.group.is_left() {
            self.graces.remove(&(grace.until, pid));
            self.grace_of.remove(&pid);
        }
    }

    /// A command that was started then ends for another reason.
    pub fn forget_limit(&mut self, pid: i32, since: Instant) {
        if let Some(limit) = self.limit {
            self.limits.remove(&(since + limit, pid));
        }
    }

    /// When the next one's time or grace is over.
    pub fn deadline(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, i32)>| set.first().map(|(at, _)| *at);
        first(&self.limits).into_iter().chain(first(&self.graces)).min()
    }

    /// The next whose time is over: it is sent SIGTERM, and then [`Times::terminated`].
    pub fn next_overdue(&mut self, now: Instant) -> Option<i32> {
        take_due(&mut self.limits, now)
    }

    /// A command was sent SIGTERM; its grace begins. `group` gets whether there is room for a descriptor of its group.
    pub fn terminated(&mut self, now: Instant, pid: i32, group: impl FnOnce(bool) -> Option<Group>) {
        let Some(group) = group(self.grace_of.len() < MAX_PIDFDS) else { return };
        let until = now + self.grace;
        self.graces.insert((until, pid));
        self.grace_of.insert(pid, Grace { until, group });
    }

    /// The next whose grace is over, and what is left of its group.
    pub fn next_to_kill(&mut self, now: Instant) -> Option<(i32, Group)> {
        while let Some(pid) = take_due(&mut self.graces, now) {
            if let Some(grace) = self.grace_of.remove(&pid) {
                return Some((pid, grace.group));
            }
        }
        None
    }
}
