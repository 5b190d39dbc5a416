//! Signals, and the way out: no more connections, time for the living, SIGTERM, SIGKILL.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::observe::event::Event;
use crate::policy::gate;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

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
}

impl Stop {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Stop::Running)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {
            Stop::Draining { until, next_word } | Stop::Ending { until, next_word } => Some(until.min(next_word)),
            _ => None,
        }
    }

    /// Whole seconds, for the status line; it changes once a second at most.
    pub(super) fn seconds_left(&self, now: Instant) -> Option<u64> {
        match *self {
            Stop::Running => None,
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
            Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => self.stop(now, signal.as_str()),
            // Without systemd it is the terminal that has gone.
            Ok(Signal::SIGHUP) if !self.settings.listen.is_empty() => self.stop(now, "SIGHUP"),
            Ok(signal @ (Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2)) => {
                self.log.tell(Event::SignalIgnored { signal: signal.as_str() });
            }
            _ => {}
        }
    }

    /// Begins the stop, or takes its next step at once.
    fn stop(&mut self, now: Instant, signal: &'static str) {
        match self.stop {
            Stop::Running => {
                let patience = self.settings.drain_timeout;
                self.stop = Stop::Draining { until: now + patience, next_word: now };
                self.judge(now, gate::Event::Drain);
                (0..self.doors.len()).for_each(|id| self.keep_interest(id));
                for door in self.doors.iter().filter(|door| door.listener.is_own) {
                    // Nobody will serve this queue. systemd's sockets stay as they are: it has the next daemon.
                    let _ = shutdown(door.listener.fd.as_raw_fd(), Shutdown::Both);
                }
                self.notify.stopping();
                self.log.tell(Event::Draining { signal, active: self.children.len(), patience });
            }
            Stop::Draining { .. } => self.end_commands(now),
            Stop::Ending { .. } => self.kill_commands(),
            Stop::Killed => {}
        }
        self.stop_timer(now);
    }

    fn end_commands(&mut self, now: Instant) {
        self.stop = Stop::Ending { until: now + self.settings.kill_grace, next_word: now };
        self.signal_commands(Signal::SIGTERM);
    }

    fn kill_commands(&mut self) {
        self.stop = Stop::Killed;
        self.signal_commands(Signal::SIGKILL);
    }

    /// Each command leads a session and so a process group of its own; as long as it is not reaped, its
    /// number is nobody else's.
    fn signal_commands(&mut self, signal: Signal) {
        if self.children.is_empty() {
            return;
        }
        self.log.tell(Event::Killing { signal: signal.as_str(), active: self.children.len() });
        for pid in self.children.keys() {
            // A child that has not yet called setsid has no group: then it alone is meant.
            if kill(Pid::from_raw(-pid), signal).is_err() {
                let _ = kill(Pid::from_raw(*pid), signal); // it ended just now: its exit is on the way
            }
        }
    }

    pub(super) fn stop_timer(&mut self, now: Instant) {
        match &mut self.stop {
            Stop::Draining { until, .. } if *until <= now => self.end_commands(now),
            Stop::Ending { until, .. } if *until <= now => self.kill_commands(),
            Stop::Draining { next_word, .. } | Stop::Ending { next_word, .. } if *next_word <= now => {
                *next_word = now + EXTEND_EVERY;
                self.notify.extend_timeout(EXTENSION);
            }
            _ => {}
        }
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_finished(&mut self) -> bool {
        if self.doors.iter().all(|door| door.broken) && self.stop.is_running() {
            self.stop(Instant::now(), "the loss of all listeners");
        }
        !self.stop.is_running() && self.children.is_empty() && self.lingering.is_empty()
    }

    /// The last words.
    pub(super) fn finish(mut self) {
        let mut last: Vec<_> = self.throttle.due(Instant::now(), true).map(Event::RejectedMore).collect();
        last.extend(self.cut_short());
        last.push(Event::Stopped(self.counters));
        for path in self.doors.iter().filter_map(|door| door.listener.unlink.as_ref()) {
            let _ = std::fs::remove_file(path); // gone already is as good
        }
        self.log.finish(last);
    }
}
