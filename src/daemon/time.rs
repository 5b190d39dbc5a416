//! What ends by the clock: a command's time, and an idle daemon's.
//!
//! Without `--time-limit` nothing is kept and nothing is looked at.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::child::signals::{Group, kill_left, signal_command};
use crate::observe::event::Event;
use nix::sys::signal::Signal;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Groups of which a descriptor is held during their grace: each descriptor makes the start of a command dearer.
const MOST_PIDFDS: usize = 256;

/// The commands whose time is watched.
#[derive(Debug, Default)]
pub(super) struct Times {
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

impl Times {
    /// When the next one's time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, i32)>| set.first().map(|(at, _)| *at);
        first(&self.limits).into_iter().chain(first(&self.graces)).min()
    }
}

fn take_due(set: &mut BTreeSet<(Instant, i32)>, now: Instant) -> Option<i32> {
    set.first().filter(|(at, _)| *at <= now)?;
    set.pop_first().map(|(_, pid)| pid)
}

impl Daemon {
    /// A command was started then.
    pub(super) fn watch_time(&mut self, pid: i32, since: Instant) {
        let Some(limit) = self.settings.time_limit else { return };
        self.times.limits.insert((since + limit, pid));
        // The number is given out again only when the group that had it is gone.
        if let Some(grace) = self.times.grace_of.remove(&pid) {
            self.times.graces.remove(&(grace.until, pid));
        }
    }

    /// A command has ended that was started then. What is left of its group after SIGTERM still has its grace.
    pub(super) fn unwatch_time(&mut self, pid: i32, since: Instant) {
        let Some(limit) = self.settings.time_limit else { return };
        self.times.limits.remove(&(since + limit, pid));
        let Some(grace) = self.times.grace_of.get_mut(&pid) else { return };
        if !grace.group.is_left() {
            self.times.graces.remove(&(grace.until, pid));
            self.times.grace_of.remove(&pid);
        }
    }

    /// SIGTERM and SIGKILL to those whose time is over.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        let Some(limit) = self.settings.time_limit else { return };
        while let Some(pid) = take_due(&mut self.times.limits, now) {
            let known = self.children.get(pid).map(|child| child.id);
            let id = known.or(self.adopted.get(&pid).and_then(|adopted| adopted.id)).unwrap_or(0);
            self.report.tell(Event::TimeLimit { id, pid, limit });
            self.signal_one(pid, Signal::SIGTERM);
            let adopted = self.adopted.get(&pid).map(|adopted| &adopted.process);
            let Some(group) = Group::of(pid, adopted, self.times.grace_of.len() < MOST_PIDFDS) else { continue };
            let until = now + self.settings.kill_grace;
            self.times.graces.insert((until, pid));
            self.times.grace_of.insert(pid, Grace { until, group });
        }
        let mut left = Vec::new();
        while let Some(pid) = take_due(&mut self.times.graces, now) {
            let grace = self.times.grace_of.remove(&pid);
            match self.children.contains(pid) || self.adopted.contains_key(&pid) {
                true => self.signal_one(pid, Signal::SIGKILL),
                false => left.extend(grace.map(|grace| grace.group)),
            }
        }
        kill_left(left);
    }

    /// A signal to a command, and to its group.
    fn signal_one(&self, pid: i32, signal: Signal) {
        signal_command(pid, self.adopted.get(&pid).map(|adopted| &adopted.process), signal);
    }

    /// When an idle daemon ends, if it is idle now.
    pub(super) fn idle_deadline(&self) -> Option<Instant> {
        self.idle_since.and_then(|since| Some(since + self.settings.idle_exit?))
    }

    /// Notes since when nothing runs or waits, if it matters.
    pub(super) fn note_idleness(&mut self, now: Instant) {
        if self.settings.idle_exit.is_none() || !self.stop.is_running() || self.is_busy() {
            self.idle_since = None;
        } else {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Ends a daemon that has had nothing to do for `--idle-exit`. The last look at the sockets comes after the decision, and
    /// who comes after that look is in the queue of a socket that the manager watches as soon as we have ended.
    pub(super) fn end_if_idle(&mut self, now: Instant) {
        let Some(since) = self.idle_since else { return };
        (0..self.listeners.len()).for_each(|id| self.accept_some(now, id));
        if self.is_busy() || self.idle_since.is_none() {
            self.idle_since = None;
            return;
        }
        self.report.tell(Event::Idle { over: now - since });
        self.end_idle(now);
    }

    fn is_busy(&self) -> bool {
        let runs = !self.children.is_empty() || !self.adopted.is_empty();
        let waits = !self.waiting.is_empty() || !self.listeners.are_watched();
        runs || waits || !self.refusals.is_empty()
    }
}
