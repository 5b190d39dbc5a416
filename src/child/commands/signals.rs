//! Ending commands: each whose time is over, and all of them at a stop.
#![forbid(unsafe_code)]

use super::{Commands, News};
use crate::child::signals::{Group, signal_command};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid};
use std::time::Instant;

impl Commands {
    /// When the next one's time, or grace, is over, or it is looked for what is left of some.
    pub fn overdue_deadline(&self) -> Option<Instant> {
        self.times.deadline().into_iter().chain(self.left.deadline()).min()
    }

    /// Sends SIGTERM and SIGKILL to those whose time is over.
    pub fn end_overdue(&mut self, now: Instant) {
        while let Some(pid) = self.times.next_overdue(now) {
            let adopted = self.adopted.get(pid);
            let known = self.ours.get_mut(pid).map(|child| {
                child.is_overdue = true;
                child.id
            });
            let id = known.or(adopted.and_then(|adopted| adopted.id)).unwrap_or(0);
            self.news.push_back(News::Overdue { id, pid });
            let process = adopted.map(|adopted| &adopted.process);
            signal_command(pid, process, Signal::SIGTERM);
            self.times.terminated(now, pid, |has_spare| Group::of(pid, process, has_spare));
        }
        let mut left = Vec::new();
        while let Some((pid, group)) = self.times.next_to_kill(now) {
            match (self.ours.contains(pid), self.adopted.get(pid)) {
                (false, None) => left.push(group),
                (_, adopted) => signal_command(pid, adopted.map(|adopted| &adopted.process), Signal::SIGKILL),
            }
        }
        self.left.kill(now, left);
    }

    /// Sends a signal to all, and to what commands have left behind. How many processes of those there are.
    pub fn signal_all(&mut self, now: Instant, signal: Signal) -> usize {
        self.ours.iter().for_each(|child| signal_command(child.pid, None, signal));
        self.adopted.iter().for_each(|adopted| signal_command(adopted.process.pid(), Some(&adopted.process), signal));
        self.look_for_strays(now, Some(signal))
    }

    /// How many processes there are that are neither commands nor in a command's group; they are sent this signal, which those
    /// have been sent already.
    pub fn look_for_strays(&mut self, now: Instant, signal: Option<Signal>) -> usize {
        let Commands { cgroup: Ok(Some(cgroup)), ours, adopted, strays, .. } = self else { return 0 };
        let is_command = |pid| ours.contains(pid) || adopted.get(pid).is_some();
        let group = |pid| getpgid(Some(Pid::from_raw(pid))).map_or(pid, Pid::as_raw);
        strays.look(now, cgroup, signal, |pid| is_command(pid) || is_command(group(pid)))
    }

    /// Whether there were some at the last look, and it is not yet time for the next.
    pub fn has_strays_for_now(&self, now: Instant) -> bool {
        !self.strays.is_empty() && self.strays.deadline().is_some_and(|at| at > now)
    }

    /// When to look again for what commands have left behind.
    pub fn stray_deadline(&self) -> Option<Instant> {
        self.strays.deadline()
    }
}
