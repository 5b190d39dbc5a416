//! Signals, and the ways out: a stop ends everything, step by step; a hand-over leaves everything to the next daemon.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::child::signals::signal_command;
use crate::listen::adopt;
use crate::observe::event::Event;
use crate::observe::notify::Notify;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid};
use std::time::{Duration, Instant};

/// How long a hand-over waits for refused clients that have not closed; others wait in the kernel's queue meanwhile.
const REPLIES: Duration = Duration::from_secs(1);
/// How long the kernel may take to end what was sent SIGKILL: more, and it hangs in a device or a network file system.
const KILLED_END: Duration = Duration::from_secs(5);
/// While stopping, the manager is asked for this much more time...
const EXTENSION: Duration = Duration::from_secs(10);
/// ...this often.
const EXTEND_EVERY: Duration = Duration::from_secs(2);

/// How far the stop has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Running,
    /// The living may finish until then.
    Draining {
        until: Instant,
        next_word: Instant,
    },
    /// They have been sent SIGTERM and may react until then.
    Ending {
        until: Instant,
        next_word: Instant,
    },
    /// They have been sent SIGKILL. Who has not ended by then cannot be ended.
    Killing {
        until: Instant,
        next_word: Instant,
    },
    /// They are left to the next daemon, as soon as the refused have their replies.
    HandingOver {
        until: Instant,
    },
    /// Nothing runs or waits.
    Idle,
}

impl Stop {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Stop::Running)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {
            Stop::Draining { until, next_word }
            | Stop::Ending { until, next_word }
            | Stop::Killing { until, next_word } => Some(until.min(next_word)),
            Stop::HandingOver { until } => Some(until),
            _ => None,
        }
    }

    /// Whole seconds, for the status line; it changes once a second at most.
    pub(super) fn seconds_left(&self, now: Instant) -> Option<u64> {
        match *self {
            Stop::Running | Stop::HandingOver { .. } | Stop::Idle => None,
            Stop::Draining { until, .. } | Stop::Ending { until, .. } => {
                Some(until.saturating_duration_since(now).as_secs())
            }
            Stop::Killing { .. } => Some(0),
        }
    }
}

impl Daemon {
    /// One signal: SIGCHLD carries the pid, the rest is for us.
    pub(super) fn read_signal(&mut self, now: Instant) {
        let Ok(Some(info)) = self.signals.read_signal() else { return };
        match Signal::try_from(info.ssi_signo as i32) {
            Ok(Signal::SIGCHLD) => self.child_ended(now, info.ssi_pid as i32),
            // Whoever presses Ctrl-C a second time has waited long enough.
            Ok(Signal::SIGINT) if matches!(self.stop, Stop::Draining { .. }) => self.kill_commands(now),
            Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.stop(now, signal.as_str()),
            Ok(Signal::SIGUSR1) if self.can_hand_over() => self.hand_over(now),
            // Without systemd it is the terminal that has gone.
            Ok(Signal::SIGHUP) if !self.settings.listen.is_empty() => self.stop(now, "SIGHUP"),
            Ok(signal @ (Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2)) => {
                self.report.signal_ignored(now, signal.as_str());
            }
            _ => {}
        }
    }

    /// Begins the stop, or takes its next step at once.
    fn stop(&mut self, now: Instant, signal: &'static str) {
        match self.stop {
            Stop::Running | Stop::HandingOver { .. } | Stop::Idle => {
                let patience = self.settings.drain_timeout;
                self.stop = Stop::Draining { until: now + patience, next_word: now };
                self.gate.drain(now, &mut self.actions);
                self.carry_out(now);
                self.close(now);
                self.listeners.shut_down();
                self.notify.stopping(now);
                self.report.tell(Event::Draining { signal, active: self.running(), patience });
            }
            Stop::Draining { .. } => self.end_commands(now),
            Stop::Ending { .. } => self.kill_commands(now),
            Stop::Killing { .. } => {}
        }
        self.stop_timer(now);
    }

    /// Begins to leave everything to the next daemon.
    fn hand_over(&mut self, now: Instant) {
        if self.stop.is_running() {
            self.stop = Stop::HandingOver { until: now + REPLIES };
            self.close(now);
        }
    }

    fn close(&mut self, now: Instant) {
        self.listeners.close(now, &self.poll);
        self.tell_news();
    }

    /// There is nothing to wait for. Whoever comes from here on is the next daemon's.
    pub(super) fn end_idle(&mut self, now: Instant) {
        self.stop = Stop::Idle;
        self.close(now);
    }

    /// Commands that run.
    fn running(&self) -> usize {
        self.children.len() + self.adopted.len()
    }

    fn end_commands(&mut self, now: Instant) {
        self.stop = Stop::Ending { until: now + self.settings.kill_grace, next_word: now };
        self.signal_all(now, Signal::SIGTERM);
    }

    fn kill_commands(&mut self, now: Instant) {
        self.stop = Stop::Killing { until: now + KILLED_END, next_word: now };
        self.signal_all(now, Signal::SIGKILL);
    }

    /// Begins a stage: all that runs is sent this signal, and that is told once.
    fn signal_all(&mut self, now: Instant, signal: Signal) {
        self.children.iter().for_each(|child| signal_command(child.pid, None, signal));
        self.adopted.iter().for_each(|(pid, adopted)| signal_command(*pid, Some(&adopted.process), signal));
        let strays = self.look_for_strays(now, Some(signal));
        if self.running() + strays > 0 {
            self.report.tell(Event::Killing { signal: signal.as_str(), active: self.running(), strays });
        }
    }

    /// How many processes there are that are neither commands nor in a command's group; they are sent this signal, which those
    /// have been sent already.
    fn look_for_strays(&mut self, now: Instant, signal: Option<Signal>) -> usize {
        let Ok(Some(cgroup)) = &self.cgroup else { return 0 };
        let is_command = |pid| self.children.contains(pid) || self.adopted.contains_key(&pid);
        let group = |pid| getpgid(Some(Pid::from_raw(pid))).map_or(pid, Pid::as_raw);
        self.strays.look(now, cgroup, signal, |pid| is_command(pid) || is_command(group(pid)))
    }

    /// Looks for what commands have left behind, once no command runs, and whenever it is time to look again.
    fn has_strays(&mut self, now: Instant) -> bool {
        if !self.strays.is_empty() && self.strays.deadline().is_some_and(|at| at > now) {
            return true;
        }
        let signal = match self.stop {
            Stop::Ending { .. } => Some(Signal::SIGTERM),
            Stop::Killing { .. } => Some(Signal::SIGKILL),
            _ => None,
        };
        let strays = self.look_for_strays(now, signal);
        if strays > 0 && signal.is_none() {
            self.end_commands(now); // there is no command whose time it would be
        }
        strays > 0
    }

    /// When a stage of the stop is over, or those that it has told are to be looked at again.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        let looks = matches!(self.stop, Stop::Ending { .. } | Stop::Killing { .. }) && self.running() == 0;
        self.stop.deadline().into_iter().chain(self.strays.deadline().filter(|_| looks)).min()
    }

    pub(super) fn stop_timer(&mut self, now: Instant) {
        match &mut self.stop {
            Stop::Draining { until, .. } if *until <= now => self.end_commands(now),
            Stop::Ending { until, .. } if *until <= now => self.kill_commands(now),
            Stop::Draining { next_word, .. } | Stop::Ending { next_word, .. } | Stop::Killing { next_word, .. }
                if *next_word <= now =>
            {
                *next_word = now + EXTEND_EVERY;
                self.notify.extend_timeout(now, EXTENSION);
            }
            _ => {}
        }
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_finished(&mut self, now: Instant) -> bool {
        if self.listeners.are_lost() && self.stop.is_running() {
            self.stop(now, "the loss of all listeners");
        }
        match self.stop {
            Stop::Running => false,
            Stop::HandingOver { until } => self.refusals.is_empty() || until <= now,
            Stop::Idle => true,
            Stop::Killing { until, .. } if until <= now => {
                let (active, strays) = (self.running(), self.look_for_strays(now, None));
                if active + strays > 0 {
                    self.report.tell(Event::CannotEnd { active, strays });
                }
                true
            }
            Stop::Draining { .. } | Stop::Ending { .. } | Stop::Killing { .. } => {
                self.running() == 0 && !self.has_strays(now) && self.refusals.is_empty()
            }
        }
    }

    /// The last words.
    pub(super) fn finish(mut self) {
        let now = Instant::now();
        let is_handing_over = matches!(self.stop, Stop::HandingOver { .. });
        let until = Notify::last_words_end();
        let waiting = if is_handing_over { self.leave_behind(now, until) } else { 0 };
        if !is_handing_over && self.is_stored.is_some() {
            self.notify.forget(now, adopt::STATE); // nothing runs that anybody has to know of
        }
        self.notify.finish(until);
        let counters = *self.report.counters();
        let totals = match is_handing_over {
            false => Event::Stopped(counters),
            true => Event::HandedOver { running: self.children.len() + self.adopted.len(), waiting, counters },
        };
        self.listeners.remove_files();
        let cut_short = self.cut_short();
        self.report.finish(now, cut_short.into_iter().chain([totals]));
    }
}
