//! What is told: to the log of commands and listeners, and to the manager of everything.
#![forbid(unsafe_code)]

use super::Daemon;
use crate::child::commands::{self, ExecFailed};
use crate::child::victim::NotSet;
use crate::daemon::gauges::Told;
use crate::listen::{accept, listeners};
use crate::observe::event::{Event, How};
use crate::observe::notify::Status;
use crate::observe::report::{Client, Ended, Figures};
use crate::peer::Peer;
use crate::policy::back_off::Over;
use crate::policy::gate::WhenFull;
use crate::policy::limit::rule::Ending;
use crate::policy::limit::rule::Outcome;
use crate::policy::reason::{Reason, Refusal};
use crate::sys::plain;
use std::time::Instant;

impl Daemon {
    /// What has happened to a listener.
    pub(super) fn listener_news(&mut self, news: listeners::News) {
        self.report.log(match news {
            listeners::News::Paused { listener, error, pause } => {
                Event::AcceptPaused { listener, error: plain(&error), pause }
            }
            listeners::News::Resumed(Over { failures, lasted }) => Event::AcceptResumed { failures, lasted },
            listeners::News::Broken { listener, error } => Event::ListenerBroken { listener, error: plain(&error) },
        });
    }

    /// What has become of a command.
    pub(super) fn command_news(&mut self, now: Instant, news: commands::News) {
        match news {
            commands::News::ExecFailed(failed) => self.exec_failed(now, failed),
            commands::News::StartsAgain(Over { failures, lasted }) => {
                self.report.log(Event::StartRecovered { failures, lasted });
            }
            commands::News::Overdue { id, pid } => {
                let limit = self.settings.time_limit.unwrap_or_default();
                self.report.log(Event::TimeLimit { id, pid, limit });
            }
            commands::News::ScoreNotSet(NotSet { pid, score, error }) => {
                self.report.log(Event::ScoreNotSet { pid, score, error: plain(&error) });
            }
            commands::News::Stopping(commands::Stopping { id, pid, is_forced, asked_by }) => {
                self.report.log(Event::Stopping { id, pid, is_forced, asked_by });
            }
            commands::News::Ended(ended) => {
                let commands::Ended { pid, id, slot, since, waited, how, usage, exec_errno, outcome } = ended;
                let (listener, source) = (slot.listener(), slot.source());
                let ending = Ending { outcome, lasted: now.saturating_duration_since(since) };
                self.gate.ended(now, slot, ending, &mut self.actions);
                let how = match (exec_errno, how) {
                    (Some(errno), _) => How::NotStarted(errno),
                    _ if outcome == Outcome::Oom => How::OutOfMemory,
                    (None, Some(exit)) => How::Exit(exit),
                    (None, None) => How::Unknown,
                };
                let listener = listener.map(|id| (id, &self.listeners[id].name));
                let after = now - since;
                self.report.ended(Ended { id, pid, listener, source, how, outcome, after, waited, usage });
            }
        }
    }

    /// An exec has failed: its client is told. Its slot comes back with the child's exit.
    fn exec_failed(&mut self, now: Instant, failed: ExecFailed) {
        let ExecFailed { why, is_first, connection, client } = failed;
        if is_first {
            self.start_failed("are refused", why);
        }
        let peer = connection.as_ref().map_or(Peer::UNKNOWN, accept::peer);
        if let Some((waited_ms, listener, source)) = client {
            // The connection's own peer may be a proxy.
            let peer = if self.waiting.preambles.is_on() { peer.of_source(source) } else { peer };
            let waited_usec = waited_ms.map(|ms| u64::from(ms) * 1000);
            let id = listener.unwrap_or_default();
            let listener = &self.listeners[id];
            let client = Client { id, listener: &listener.name, peer: &peer, waited_usec };
            let refusal = Refusal::count(Reason::START_FAILED, self.gate.census().active - 1, 0);
            self.report.exec_failed(now, refusal, client, || Figures { waited_usec, queued: listener.queued() });
        }
        if let Some(fd) = connection {
            self.refusals.unavailable(now, fd, &self.poll);
        }
    }

    /// The first of a run of starts that fail.
    pub(super) fn start_failed(&mut self, clients: &'static str, error: String) {
        let command = self.commands.program().to_owned();
        self.report.log(Event::StartFailed { command, error, clients });
    }

    /// The summaries that are due; what the log does not take goes into the next one.
    pub(super) fn log_summaries(&mut self, now: Instant) {
        self.report.on_time(now);
        if self.cut_short().is_some_and(|event| self.report.log(event)) {
            self.refusals.told_cut_short();
        }
    }

    /// What is to be told of refusals that could not linger, if any.
    pub(super) fn cut_short(&self) -> Option<Event> {
        self.refusals.cut_short().map(|(count, max)| Event::CutShort { count, max })
    }

    /// Tells when what is read begins to let no second and further command start, and when that is over.
    pub(super) fn note_closed(&mut self, now: Instant) {
        let active = self.gate.census().active;
        let closed = self.gate.limits().closed(now, active);
        let event = match self.gauges.note(now, closed, active > 0) {
            None => return,
            Some(Told::Closed(refusal)) => {
                let waits = self.settings.when_full == WhenFull::Wait;
                Event::Closed { refusal, clients: if waits { "wait" } else { "are refused" } }
            }
            Some(Told::Open { reason, lasted }) => Event::Open { reason, lasted },
        };
        self.report.log(event);
    }

    /// While that is not over: when to read again. Looks alone, which others cause at any time, do not put it off.
    pub(super) fn closed_deadline(&self) -> Option<Instant> {
        let look = self.gauges.closed.deadline()?;
        Some(self.gate.limits().next_reading().unwrap_or(look))
    }

    pub(super) fn send_status(&mut self, now: Instant) {
        if self.manager.status_is_due(now) {
            let _ = self.store_ledger(now); // done once, as soon as the manager takes it
            let status = self.status(now);
            self.manager.status(now, status);
        }
    }

    /// Without waiting for an event: after a take-over there may be none for long.
    pub(super) fn send_first_status(&mut self, now: Instant) {
        if self.manager.is_enabled() {
            let status = self.status(now);
            self.manager.first_status(now, status);
        }
    }

    fn status(&self, now: Instant) -> Status {
        let (queue, total) = (self.gate.queue(), &self.report.counters().total);
        let active = self.gate.census().active;
        Status {
            active,
            max: self.settings.max_connections,
            waiting: queue.len() + self.waiting.preambles.len() as u32 + self.listeners.queued(),
            longest: queue.longest().map(|since| now.saturating_duration_since(since).as_secs()),
            refused: total.refused,
            served: total.served,
            closed: self.gate.limits().closed(now, active).filter(|_| self.gauges.closed.is_on()),
            is_drained: self.gate.is_drained(),
            stopping: self.phase.seconds_left(now),
        }
    }

    /// Whether the status line may differ from the one that was sent. A queue grows without any event
    /// here only while a listener is out of the poll set.
    pub(super) fn status_may_change(&self) -> bool {
        let (active, is_drained) = (self.gate.census().active, self.gate.is_drained());
        let was_told = self.manager.was_told(active, is_drained, self.report.counters());
        self.gauges.closed.is_on()
            || !self.listeners.are_watched()
            || !self.gate.queue().is_empty()
            || !self.waiting.preambles.is_empty()
            || !was_told
    }
}
