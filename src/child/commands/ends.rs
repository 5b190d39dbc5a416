//! The ends of commands, and of their execs. Signals coalesce, so an end may have no signal of its own.
#![forbid(unsafe_code)]

use super::{Commands, Ended, ExecFailed, News};
use crate::child::oom::OomKills;
use crate::child::program;
use crate::child::running::{Child, Why};
use crate::child::victim::Looked;
use crate::policy::limit::rule::Outcome;
use crate::poll::Poll;
use crate::sys::client_fd::ClientFd;
use crate::sys::exec;
use crate::sys::process::{Exit, Usage, reap, take_end};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Exit code of a child whose exec failed; a report tells why.
const EXEC_FAILED: i32 = 127;
/// See [`Commands::signalled`].
const SWEEP_SHARE: usize = 16;
/// SIGCHLD coalesces, so an end may come without a signal of its own; it is found this much later,
/// or at once when a limit is about to say no.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

impl Commands {
    /// SIGCHLD for one child. Signals coalesce, so others may have ended without one of their own; only a
    /// sweep over all children finds them, and it costs 20 ns for each that lives. So one in so many
    /// signals sweeps, which is 0.3 us per end however many live; or each, if somebody waits for an end.
    pub fn signalled(&mut self, now: Instant, pid: i32, does_anybody_wait: bool) {
        self.unswept_since.get_or_insert(now);
        self.signals_since_sweep += 1;
        if self.signals_since_sweep * SWEEP_SHARE >= self.ours.len() || does_anybody_wait {
            self.sweep();
        } else if let Ok(Some((pid, exit, usage))) = reap(Some(pid)) {
            self.child_ended(now, pid, exit, usage);
        }
    }

    /// Looks for all that have ended by now, whether the loop has been told of them or not. A sweep only if one has ended since
    /// the last, so that a flood of refusals beside many commands costs none.
    pub fn look_for_ends(&mut self, now: Instant, poll: &Poll) {
        self.look_for_adopted_ends(now, poll);
        if let Some(pid) = take_end() {
            self.signalled(now, pid, true);
        }
        if self.unswept_since.is_some() {
            self.sweep();
        }
    }

    /// Whether an end may have come without a signal of its own.
    pub fn is_unswept(&self) -> bool {
        self.unswept_since.is_some()
    }

    /// When to sweep, since an end may have come without a signal of its own.
    pub fn sweep_deadline(&self) -> Option<Instant> {
        self.unswept_since.map(|since| since + SWEEP_AFTER)
    }

    /// Finds all that have ended: [`Commands::next_news`] takes one after the other.
    pub fn sweep(&mut self) {
        // Cleared first: a child that ends during the sweep sends a SIGCHLD, which is read after it.
        self.unswept_since = None;
        self.signals_since_sweep = 0;
        self.is_sweeping = true;
    }

    /// What is to be done about commands, in order.
    pub fn next_news(&mut self, now: Instant) -> Option<News> {
        while self.news.is_empty() && self.is_sweeping {
            match reap(None) {
                Ok(Some((pid, exit, usage))) => self.child_ended(now, pid, exit, usage),
                Ok(None) => self.is_sweeping = false,
                Err(error) => {
                    self.is_sweeping = false;
                    if error.raw_os_error() != Some(libc::ECHILD) || !self.ours.is_empty() {
                        // Whoever has ended still holds a slot, and may have been the last to send a signal.
                        self.unswept_since = Some(now);
                    }
                }
            }
        }
        self.news.pop_front()
    }

    pub(super) fn child_ended(&mut self, now: Instant, pid: i32, exit: Exit, usage: Usage) {
        if exit == Exit::Code(EXEC_FAILED) {
            self.receive_failed_execs(now); // sent before the exit, so it is there by now
        }
        // A child that is not in the table is an orphan (we are PID 1 of a container, or a subreaper), or was left to us by
        // whoever was this process before its exec.
        let Some(child) = self.ours.remove(pid) else { return };
        let Child { id, slot, since, waited_ms, place, exec_errno, told, peer_port, .. } = child;
        self.times.end(pid, since);
        if exec_errno.is_none() {
            self.succeeded(now, since);
        }
        let waited = waited_ms.map(|ms| Duration::from_millis(ms.into()));
        let outcome = self.outcome(id, exit, exec_errno.is_none(), told.why);
        let (how, usage) = (Some(exit), Some(usage));
        let ended = Ended { pid, id, slot, since, waited, how, usage, exec_errno, outcome };
        self.over(now, ended, place, peer_port, told);
    }

    fn outcome(&mut self, id: u64, exit: Exit, has_run: bool, told: Option<Why>) -> Outcome {
        match (exit, told) {
            _ if !has_run => Outcome::Unknown,
            (_, Some(Why::TimeLimit)) => Outcome::TimeLimit,
            (_, Some(Why::Asked)) => Outcome::Stopped,
            (Exit::Code(status), None) => Outcome::Status(status as u8),
            (Exit::Signal(libc::SIGKILL), None) if self.is_out_of_memory(id) => Outcome::Oom,
            (Exit::Signal(_), None) => Outcome::Signal,
        }
    }

    /// Whether that is why a command was killed that we have not killed.
    fn is_out_of_memory(&mut self, id: u64) -> bool {
        let by_cgroup = self.apart.as_ref().and_then(|apart| apart.ran_out_of_memory(id));
        by_cgroup.unwrap_or_else(|| self.oom_kills.as_mut().is_some_and(OomKills::is_one))
    }

    /// Execs that failed. Their slots come back with the child's exit.
    pub fn receive_failed_execs(&mut self, now: Instant) {
        while let Some(failed) = exec::receive(self.failed_execs.as_fd()) {
            let exec::FailedExec { pid, step, errno, head, connection } = failed;
            let client = self.ours.get_mut(pid).map(|child| {
                child.exec_errno = Some(errno);
                (child.waited_ms, child.slot.listener(), child.slot.source())
            });
            let (is_first, why) = (self.trouble.failed(now), program::why_not_started(step, errno, head.as_deref()));
            let connection = connection.map(|fd| ClientFd::new(fd, true));
            self.news.push_back(News::ExecFailed(ExecFailed { why, is_first, connection, client }));
        }
    }

    /// A command that was started then has executed its program.
    fn succeeded(&mut self, now: Instant, since: Instant) {
        self.news.extend(self.trouble.succeeded(since, now).map(News::StartsAgain));
    }

    /// When to look after those that have begun.
    pub fn begun_deadline(&self) -> Option<Instant> {
        self.ours.deadline()
    }

    /// Does what is done once for each command that runs for more than a moment, when its exec is over.
    pub fn look_after_begun(&mut self, now: Instant) {
        let begun = self.ours.begun(now, |launch| self.spawner.has_left(launch));
        if self.trouble.is_on() {
            self.receive_failed_execs(now); // an exec that has failed has said so before it was over
            let succeeded = begun.iter().filter_map(|pid| self.ours.get(*pid));
            let latest = succeeded.filter(|child| child.exec_errno.is_none()).map(|child| child.since).max();
            latest.into_iter().for_each(|since| self.succeeded(now, since));
        }
        let Looked { again, failed } = self.victims.set(now, &begun, |pid| self.ours.is_known(now, pid));
        again.into_iter().for_each(|pid| self.ours.look_again(now, pid));
        self.news.extend(failed.map(News::ScoreNotSet));
    }
}
