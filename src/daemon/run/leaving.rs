//! Signals, and the ways out: a stop ends everything, step by step; a hand-over leaves everything to the next daemon; and a daemon that
//! has nothing to do may end. What is to be done when is decided in `policy::phase`.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::listen::adopt;
use crate::observe::event::Event;
use crate::observe::notify::Notify;
use crate::observe::stream::link::{Closed, Stream};
use crate::policy::phase::{Stage, Step};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// While stopping, the manager is asked for this much more time.
const EXTENSION: Duration = Duration::from_secs(10);

impl Daemon {
    /// One signal: SIGCHLD carries the pid, the rest is for us.
    pub(super) fn read_signal(&mut self, now: Instant) {
        let Ok(Some(info)) = self.signals.read_signal() else { return };
        let Ok(signal) = Signal::try_from(info.ssi_signo as i32) else { return };
        let step = match signal {
            Signal::SIGCHLD => {
                return self.commands.signalled(now, info.ssi_pid as i32, self.gate.is_anybody_waiting());
            }
            Signal::SIGINT => self.phase.interrupt(now),
            Signal::SIGTERM => self.phase.stop(now),
            Signal::SIGUSR1 if self.can_hand_over() => self.phase.hand_over(now),
            // Without systemd it is the terminal that has gone.
            Signal::SIGHUP if !self.settings.listen.is_empty() => self.phase.stop(now),
            Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2 => {
                return self.report.signal_ignored(now, signal.as_str());
            }
            _ => return,
        };
        self.step(now, step, signal.as_str());
        self.phase_is_due(now);
    }

    /// What a phase wants; `why` it has begun to drain.
    fn step(&mut self, now: Instant, step: Option<Step>, why: &'static str) {
        match step {
            None => {}
            Some(Step::Drain) => {
                self.gate.drain(now, &mut self.actions);
                self.settle(now);
                self.refuse_awaited(now);
                self.listeners.close(now, &self.poll);
                self.listeners.shut_down();
                self.manager.stopping(now);
                let (active, patience) = (self.commands.len(), self.phase.patience());
                self.report.log(Event::Draining { signal: why, active, patience });
            }
            Some(Step::Terminate) => self.signal_all(now, Signal::SIGTERM),
            Some(Step::Kill) => self.signal_all(now, Signal::SIGKILL),
            Some(Step::AskForTime) => self.manager.extend_timeout(now, EXTENSION),
            Some(Step::Leave) => self.listeners.close(now, &self.poll),
        }
    }

    /// All that runs is sent this signal, and that is told once.
    fn signal_all(&mut self, now: Instant, signal: Signal) {
        self.commands.spare(self.report.collector());
        let (active, strays) = (self.commands.len(), self.commands.signal_all(now, signal));
        if active + strays > 0 {
            self.report.log(Event::Killing { signal: signal.as_str(), active, strays });
        }
    }

    fn look_for_strays(&mut self, now: Instant, signal: Option<Signal>) -> usize {
        self.commands.spare(self.report.collector());
        self.commands.look_for_strays(now, signal)
    }

    /// Looks for what commands have left behind, once no command runs, and whenever it is time to look again.
    fn has_strays(&mut self, now: Instant) -> bool {
        let signal = match self.phase.stage() {
            Stage::Ending(_) => Some(Signal::SIGTERM),
            Stage::Killing(_) => Some(Signal::SIGKILL),
            _ => None,
        };
        if signal.is_some() && self.commands.has_strays_for_now(now) {
            return true;
        }
        let strays = self.look_for_strays(now, signal);
        if strays > 0 && signal.is_none() {
            let step = self.phase.skip_draining(now);
            self.step(now, step, "");
        }
        strays > 0
    }

    /// When a phase is over, or what it has told is to be looked at again.
    pub(super) fn phase_deadline(&self) -> Option<Instant> {
        let looks = matches!(self.phase.stage(), Stage::Ending(_) | Stage::Killing(_)) && self.commands.is_empty();
        self.phase.deadline().into_iter().chain(self.commands.stray_deadline().filter(|_| looks)).min()
    }

    /// A phase may be over.
    pub(super) fn phase_is_due(&mut self, now: Instant) {
        while let Some(step) = self.phase.on_time(now) {
            self.step(now, Some(step), "");
        }
    }

    /// Ends a daemon that has had nothing to do for `--idle-exit`, unless what commands have left behind still runs: a stop of a service
    /// that is not active would not reach it. The last look at the sockets comes after the decision, and
    /// who comes after that look is in the queue of a socket that the manager watches as soon as we have ended.
    pub(super) fn end_if_idle(&mut self, now: Instant) {
        let Some(since) = self.phase.idle_since() else { return };
        if self.look_for_strays(now, None) > 0 {
            return self.phase.put_off_idle_exit(now);
        }
        (0..self.listeners.len()).for_each(|id| self.accept_some(now, id));
        if self.is_busy() {
            self.phase.is_not_idle();
        }
        if self.phase.idle_since().is_some() {
            self.report.log(Event::Idle { lasted: now - since });
            let step = self.phase.end_idle();
            self.step(now, Some(step), "");
        }
    }

    /// Whether anything runs or waits, or is to be remembered: the next daemon would not be drained.
    pub(super) fn is_busy(&self) -> bool {
        let waits = !self.waiting.is_empty() || !self.waiting.preambles.is_empty() || !self.listeners.are_watched();
        !self.commands.is_empty() || waits || !self.refusals.is_empty() || self.is_drained()
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_finished(&mut self, now: Instant) -> bool {
        if self.listeners.are_lost() && self.phase.is_running() {
            let step = self.phase.stop(now);
            self.step(now, step, "the loss of all listeners");
            self.phase_is_due(now);
        }
        match self.phase.stage() {
            Stage::Running => false,
            Stage::HandingOver(until) => self.refusals.is_empty() || until <= now,
            Stage::Idle => true,
            Stage::Killing(until) if until <= now => {
                let (active, strays) = (self.commands.len(), self.look_for_strays(now, None));
                if active + strays > 0 {
                    self.report.log(Event::CannotEnd { active, strays });
                }
                true
            }
            Stage::Draining(_) | Stage::Ending(_) | Stage::Killing(_) => {
                self.commands.is_empty() && !self.has_strays(now) && self.refusals.is_empty()
            }
        }
    }

    /// The last words.
    pub(super) fn finish(mut self) {
        let now = Instant::now();
        let is_handing_over = matches!(self.phase.stage(), Stage::HandingOver(_));
        let until = Notify::last_words_end();
        let held = if is_handing_over { self.leave_behind(now, until) } else { 0 };
        if !is_handing_over && self.manager.is_stored.is_some() {
            self.manager.forget(now, adopt::STATE); // nothing runs that anybody has to know of
        }
        self.manager.finish(until);
        self.commands.leave_cgroups();
        let (running, counters) = (self.commands.len(), *self.report.counters());
        let totals = match is_handing_over {
            false => Event::Stopped(counters),
            true => Event::HandedOver { running, held, counters },
        };
        self.listeners.remove_files();
        self.inquiry.queries.remove_files();
        let cut_short = self.cut_short();
        // A service that has stopped leaves nothing behind, and PID 1 of a container nobody. After a hand-over what commands have left may
        // still write.
        let ends_all = self.commands.sees_all() || std::process::id() == 1;
        let is_over = !is_handing_over && running == 0 && ends_all;
        let collector = self.report.take_stream().map(Stream::close).filter(|_| is_over);
        self.report.finish(now, cut_short.into_iter().chain([totals]));
        collector.into_iter().for_each(Closed::end);
    }
}
