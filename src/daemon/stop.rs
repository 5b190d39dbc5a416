//! Signals, and the ways out: a stop ends everything, step by step; a hand-over leaves everything to the next daemon.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::child::Adopted;
use crate::child::survivors::{self, Found};
use crate::observe::event::Event;
use crate::observe::notify::Notify;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How long a hand-over waits for refused clients that have not closed; others wait in the kernel's queue meanwhile.
const REPLIES: Duration = Duration::from_secs(1);
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
    /// They have been sent SIGKILL.
    Killed,
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
            Stop::Draining { until, next_word } | Stop::Ending { until, next_word } => Some(until.min(next_word)),
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
            Stop::Killed => Some(0),
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
            Ok(Signal::SIGINT) if matches!(self.stop, Stop::Draining { .. }) => self.kill_commands(),
            Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.stop(now, signal.as_str()),
            Ok(Signal::SIGUSR1) if self.can_hand_over() => self.hand_over(now),
            // Without systemd it is the terminal that has gone.
            Ok(Signal::SIGHUP) if !self.settings.listen.is_empty() => self.stop(now, "SIGHUP"),
            Ok(signal @ (Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2)) => {
                self.report.tell(Event::SignalIgnored { signal: signal.as_str() });
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
                let active = self.children.len() + self.adopted.len();
                self.report.tell(Event::Draining { signal, active, patience });
            }
            Stop::Draining { .. } => self.end_commands(now),
            Stop::Ending { .. } => self.kill_commands(),
            Stop::Killed => {}
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

    fn end_commands(&mut self, now: Instant) {
        self.stop = Stop::Ending { until: now + self.settings.kill_grace, next_word: now };
        self.signal_commands(Signal::SIGTERM);
    }

    fn kill_commands(&mut self) {
        self.stop = Stop::Killed;
        self.signal_commands(Signal::SIGKILL);
    }

    fn signal_commands(&mut self, signal: Signal) {
        let active = self.children.len() + self.adopted.len();
        if active == 0 {
            return;
        }
        self.report.tell(Event::Killing { signal: signal.as_str(), active });
        for pid in self.children.iter().map(|child| child.pid).chain(self.adopted.keys().copied()) {
            signal_command(pid, signal);
        }
    }

    /// Processes that outlived the command that started them: under `KillMode=process` nobody else ends them.
    fn end_strays(&mut self, now: Instant) {
        let Some(cgroup) = &self.cgroup else { return };
        let known = |pid| self.children.contains(pid) || self.adopted.contains_key(&pid);
        let strays = survivors::strays(cgroup, known).unwrap_or_default(); // a cgroup that is gone is empty
        if strays.is_empty() {
            return;
        }
        for Found { process, age, .. } in strays {
            let since = now.checked_sub(age).unwrap_or(now);
            self.adopt(now, Adopted { process, in_poll_set: false, id: None, slot: None, since });
        }
        match self.stop {
            Stop::Killed => self.kill_commands(),
            _ => self.end_commands(now),
        }
    }

    pub(super) fn stop_timer(&mut self, now: Instant) {
        match &mut self.stop {
            Stop::Draining { until, .. } if *until <= now => self.end_commands(now),
            Stop::Ending { until, .. } if *until <= now => self.kill_commands(),
            Stop::Draining { next_word, .. } | Stop::Ending { next_word, .. } if *next_word <= now => {
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
            Stop::Draining { .. } | Stop::Ending { .. } | Stop::Killed => {
                if self.children.is_empty() && self.adopted.is_empty() {
                    self.end_strays(now);
                }
                self.children.is_empty() && self.adopted.is_empty() && self.refusals.is_empty()
            }
        }
    }

    /// The last words.
    pub(super) fn finish(mut self) {
        let now = Instant::now();
        let is_handing_over = matches!(self.stop, Stop::HandingOver { .. });
        let until = Notify::last_words_end();
        let waiting = if is_handing_over { self.leave_behind(now, until) } else { 0 };
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

/// Sends a signal to a process group, or asks whether it has a member. `false`: it has none.
pub(super) fn signal_group(leader: i32, signal: Option<Signal>) -> bool {
    kill(Pid::from_raw(-leader), signal).is_ok()
}

/// Sends a signal to a command that is not reaped yet, and to its process group: each command leads one.
pub(super) fn signal_command(pid: i32, signal: Signal) {
    // A child that has not yet made its group has none, and what a command started may lead none: then it alone is meant.
    if !signal_group(pid, Some(signal)) {
        let _ = kill(Pid::from_raw(pid), signal); // it ended just now: its exit is on the way
    }
}
