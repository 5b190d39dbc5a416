//! Ending commands: each whose time is over, one that somebody has asked to end, and all of them at a stop.
#![forbid(unsafe_code)]

use super::{Commands, News, Stopping};
use crate::child::running::{Told, Why};
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
            self.told(pid).into_iter().for_each(|told| told.why = Some(Why::TimeLimit));
            let adopted = self.adopted.get(pid).and_then(|adopted| adopted.id);
            let id = self.ours.get(pid).map(|child| child.id).or(adopted).unwrap_or(0);
            self.news.push_back(News::Overdue { id, pid });
            self.terminate(now, pid);
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

    /// Ends the command of one connection, ours or one of an earlier daemon, as `--time-limit` does: SIGTERM to its group, and SIGKILL
    /// after `--kill-grace`, or at once with `is_forced`. Its process; `None` if no command of this number runs. Asked again, it does
    /// no more, but for SIGKILL when that is asked for after SIGTERM. Looks at each command that runs.
    pub fn stop(&mut self, now: Instant, id: u64, is_forced: bool, asked_by: &str) -> Option<i32> {
        let ours = self.ours.iter().find(|child| child.id == id).map(|child| (child.pid, child.since));
        let adopted = || self.adopted.iter().find(|adopted| adopted.id == Some(id));
        let adopted = || adopted().map(|adopted| (adopted.process.pid(), adopted.since));
        let (pid, is_news) = match ours.or_else(adopted) {
            Some((pid, since)) => (pid, self.stop_command(now, (id, pid, since), is_forced)?),
            None => self.stop_outlived(now, id, is_forced)?,
        };
        if is_news {
            self.news.push_back(News::Stopping(Stopping { id, pid, is_forced, asked_by: asked_by.to_owned() }));
        }
        Some(pid)
    }

    /// Ends a command, of this connection and started then. Whether that is news; `None` if there is none of this pid.
    fn stop_command(&mut self, now: Instant, (id, pid, since): (u64, i32, Instant), is_forced: bool) -> Option<bool> {
        let is_news = self.told(pid)?.ask(is_forced);
        if is_news {
            self.times.forget_limit(pid, since);
            match is_forced {
                true => {
                    signal_command(pid, self.adopted.get(pid).map(|adopted| &adopted.process), Signal::SIGKILL);
                    self.kill_cgroup(now, id);
                }
                false => self.terminate(now, pid),
            }
        }
        Some(is_news)
    }

    fn told(&mut self, pid: i32) -> Option<&mut Told> {
        let ours = self.ours.get_mut(pid).map(|child| &mut child.told);
        ours.or_else(|| self.adopted.get_mut(pid).map(|adopted| &mut adopted.told))
    }

    /// Sends SIGTERM to a command that is not reaped yet. Its grace begins.
    fn terminate(&mut self, now: Instant, pid: i32) {
        let process = self.adopted.get(pid).map(|adopted| &adopted.process);
        signal_command(pid, process, Signal::SIGTERM);
        self.times.terminated(now, pid, |has_spare| Group::of(pid, process, has_spare));
        if self.apart.is_some() {
            let adopted = self.adopted.get(pid).and_then(|adopted| adopted.id);
            let id = self.ours.get(pid).map(|child| child.id).or(adopted);
            id.into_iter().for_each(|id| self.terminate_cgroup(now, id, pid));
        }
    }

    /// Sends a signal to all, and to what commands have left behind. How many processes of those there are.
    pub fn signal_all(&mut self, now: Instant, signal: Signal) -> usize {
        self.ours.iter().for_each(|child| signal_command(child.pid, None, signal));
        self.adopted.iter().for_each(|adopted| signal_command(adopted.process.pid(), Some(&adopted.process), signal));
        if let Some(apart) = self.apart.as_mut().filter(|_| signal == Signal::SIGKILL) {
            apart.cgroups.kill_all();
        }
        self.look_for_strays(now, Some(signal))
    }

    /// Whether all processes of the service are known, and not the commands alone.
    pub fn sees_all(&self) -> bool {
        matches!(self.cgroup, Ok(Some(_)))
    }

    /// This process beside the daemon, if there is one, is nothing that a command has left behind. Say so before each look for those.
    pub fn spare(&mut self, process: Option<i32>) {
        self.spared = process;
    }

    /// How many processes there are that are neither commands nor in a command's group; they are sent this signal, which those
    /// have been sent already.
    pub fn look_for_strays(&mut self, now: Instant, signal: Option<Signal>) -> usize {
        let Commands { cgroup: Ok(Some(cgroup)), ours, adopted, strays, spared, .. } = self else { return 0 };
        let is_command = |pid| ours.contains(pid) || adopted.get(pid).is_some();
        let group = |pid| getpgid(Some(Pid::from_raw(pid))).map_or(pid, Pid::as_raw);
        strays.look(now, cgroup, signal, |pid| Some(pid) == *spared || is_command(pid) || is_command(group(pid)))
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
