//! The loop: wait, then what has happened, then what is due, then up to a few accepts per listener.
//!
//! A slot that came free is seen before a slot is given, and nothing in here waits but [`Poll::wait`]. Each room owns its state and says
//! what has happened to it; here alone one room's news become another's.
#![forbid(unsafe_code)]

mod answers;
mod balance;
mod connection;
mod hand_over;
mod inspect;
mod leaving;
mod preamble;
mod reporting;

use super::gauges::Gauges;
use super::settings::Settings;
use super::state::HandedOver;
use crate::child::cgroup;
use crate::child::commands::Commands;
use crate::listen::DisplayAddr;
use crate::listen::listeners::Listeners;
use crate::listen::preamble::Preambles;
use crate::listen::queries::Queries;
use crate::listen::refusals::Refusals;
use crate::listen::waiting::Waiting;
use crate::observe::event::Event;
use crate::observe::log::Log;
use crate::observe::notify::Notify;
use crate::observe::report::Report;
use crate::observe::stream::collector;
use crate::observe::stream::link::Stream;
use crate::policy::gate::{Action, Gate};
use crate::policy::limit::rule::Reading;
use crate::policy::phase::{self, Phase};
use crate::poll::{Poll, Ready, Watch};
use crate::reply::Replies;
use crate::sys::launch::StandardError;
use crate::sys::memory::{self, Trim};
use crate::sys::plain;
use crate::sys::process::signals_to_read;
use nix::sys::epoll::EpollFlags;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::VecDeque;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// So many turns without an event, each of them due at once, are a mistake.
const RESTLESS: u32 = 1000;

/// What may be due: set in [`Daemon::deadlines`], and handled in [`Daemon::on_timer`].
#[derive(Clone, Copy, Debug)]
enum Timer {
    Refusals,
    Preambles,
    Sweep,
    Adopted,
    Cgroups,
    Gate,
    Closed,
    Crowd,
    Listeners,
    Start,
    Begun,
    Report,
    Memory,
    Overdue,
    Idle,
    Phase,
    Manager,
    Status,
    Queries,
    Drain,
}

/// Who asks about the daemon, and what of it never changes.
struct Inquiry {
    queries: Queries,
    /// That it was started for, with its suffix; empty if it was not by a manager.
    unit: String,
    /// When it was started, in microseconds since 1970.
    started_usec: u64,
    /// Since when no further commands are started, if that was ever asked for.
    drained_since: Option<Instant>,
    /// When a drain begins of which load balancers were told.
    drain_at: Option<Instant>,
    /// RLIMIT_NOFILE as it was at the start, if it was raised.
    nofile: Option<(u64, u64)>,
}

/// Microseconds since 1970.
fn realtime_usec() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The rooms, and what passes between them.
pub(super) struct Daemon {
    settings: Settings,
    poll: Poll,
    signals: SignalFd,
    gate: Gate,
    gauges: Gauges,
    /// What the gate wants and is not yet carried out.
    actions: VecDeque<Action>,
    listeners: Listeners,
    waiting: Waiting,
    commands: Commands,
    refusals: Refusals,
    report: Report,
    inquiry: Inquiry,
    manager: Notify,
    phase: Phase,
    trim: Trim,
}

/// The machine's name (uname(2), which no sandbox hides), without asking anybody else for a longer one.
fn host_name() -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |names| names.nodename().to_string_lossy().into_owned())
}

impl Daemon {
    /// # Errors
    /// signalfd(2)'s, epoll_ctl(2)'s, and those of starting a thread.
    pub(super) fn new(
        settings: Settings,
        poll: Poll,
        (gate, mut gauges): (Gate, Gauges),
        (listeners, queries): (Listeners, Queries),
        (commands, nofile): (Commands, Option<(u64, u64)>),
    ) -> io::Result<Daemon> {
        let signals = SignalFd::with_flags(&signals_to_read(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        poll.add(&signals, Watch::Signals, EpollFlags::EPOLLIN)?;
        gauges.pressure.watch(&poll);
        let Settings { drain_timeout, kill_grace, idle_exit, .. } = settings;
        let log = Log::start(settings.log_target, settings.max_severity)?;
        let mut report = Report::new(log, settings.log_peer, settings.source_prefix, listeners.len());
        if settings.attributes.stderr == StandardError::Stream {
            let stream = Stream::start(collector::Target::of(settings.log_target), commands.program());
            report.set_stream(stream.map_err(|error| {
                io::Error::other(format!(
                    "the process that collects what commands write (--stderr stream): {}",
                    plain(&error)
                ))
            })?);
        }
        Ok(Daemon {
            signals,
            gate,
            gauges,
            actions: VecDeque::new(),
            waiting: Waiting::new(
                settings.half_close,
                Preambles::new(settings.proxy_protocol, settings.proxy_from.clone()),
            ),
            commands,
            refusals: Refusals::new(Replies::new(
                settings.busy_reply.clone(),
                settings.busy_message.clone(),
                &host_name(),
            )),
            report,
            listeners,
            inquiry: Inquiry {
                queries,
                unit: cgroup::own_unit().unwrap_or_default(),
                started_usec: realtime_usec(),
                drained_since: None,
                drain_at: None,
                nofile,
            },
            manager: Notify::from_environment(Instant::now()),
            phase: Phase::new(phase::Terms { drain_timeout, kill_grace, idle_exit }),
            trim: Trim::default(),
            poll,
            settings,
        })
    }

    /// Serves until a signal and the last command's end. `events` have happened before.
    pub(super) fn run(mut self, handed_over: HandedOver, events: Vec<Event>) -> Result<(), String> {
        self.begin(handed_over, events);
        let mut ready = Ready::new();
        let mut now = Instant::now();
        let mut restless = 0;
        while !self.is_finished(now) {
            let is_quiet = self.trim.take_due(now);
            let until = self.deadlines(now).into_iter().filter_map(|(_, at)| at).min();
            if is_quiet {
                self.give_back();
            }
            let waited = self.poll.wait(&mut ready, until, now);
            waited.map_err(|error| format!("cannot wait for events: {}", plain(&error)))?;
            // What is due again and again, and nothing comes of it, would have a processor to itself.
            let is_restless = ready.is_empty() && until.is_some_and(|until| until <= now);
            let is_tending = self.commands.tend_cgroups_idly(now, ready.is_empty());
            restless = if is_restless && !is_tending { restless + 1 } else { 0 };
            debug_assert!(restless < RESTLESS, "due again and again: {:?}", self.due(now));
            now = Instant::now();
            self.trim.woken(now, !ready.is_empty());
            ready.iter().for_each(|watch| self.on_event(now, watch));
            // What these events have made due is due at once in the next turn.
            if until.is_some_and(|until| until <= now) {
                self.on_time(now);
            }
            ready.listeners().for_each(|id| self.accept_some(now, id));
            self.publish(now);
            self.answer_queries(now, &ready);
            now = Instant::now();
        }
        let lost = self.listeners.are_lost();
        self.finish();
        if lost { Err("all listening sockets were lost".into()) } else { Ok(()) }
    }

    fn begin(&mut self, handed_over: HandedOver, events: Vec<Event>) {
        for event in events {
            self.report.log(event);
        }
        for listener in self.listeners.iter() {
            let local = DisplayAddr(&listener.local).to_string();
            self.report.log(Event::Listening { local, listener: listener.name.clone() });
        }
        let (max, when_full) = (self.settings.max_connections, self.settings.when_full);
        let (dry_run, command) = (self.gate.limits().dry_run().join(","), self.commands.program().to_owned());
        for (name, local) in self.inquiry.queries.listeners() {
            let local = DisplayAddr(local).to_string();
            self.report.log(Event::Listening { local, listener: name.clone() });
        }
        self.report.log(Event::Ready { max, when_full, dry_run, command });
        let now = Instant::now();
        self.take_over(now, handed_over);
        // Children of whoever was this process before its exec may have ended before we could hear of it.
        self.commands.sweep();
        self.settle(now);
        self.manager.ready(now);
        self.send_first_status(now);
        self.trim.started(now);
    }

    fn on_event(&mut self, now: Instant, watch: Watch) {
        match watch {
            Watch::Signals => self.read_signal(now),
            Watch::FailedExecs => self.commands.receive_failed_execs(now),
            Watch::AllAdopted => self.commands.look_for_adopted_ends(now, &self.poll),
            Watch::Adopted(_) => {} // in that set, never in this
            Watch::Cgroups => self.commands.cgroups_told(now),
            Watch::Held(ticket) => self.held_changed(now, ticket),
            Watch::Preamble(ticket) => self.preamble_ready(now, ticket),
            Watch::Lingering(at) => self.refusals.ready(now, at, &self.poll),
            Watch::Pressure(number) => {
                if let Some(resource) = self.gauges.pressure.told(number, &self.poll) {
                    self.gate.read(now, Reading::PressureEvent(resource), &mut self.actions);
                }
            }
            Watch::Listener(_) => {}                      // after the timers
            Watch::QuerySocket(_) | Watch::Asker(_) => {} // after all else
        }
        self.settle(now);
    }

    /// The one list of what is due when.
    fn deadlines(&self, now: Instant) -> [(Timer, Option<Instant>); 20] {
        [
            (Timer::Refusals, self.refusals.deadline()),
            (Timer::Preambles, self.waiting.preambles.deadline()),
            (Timer::Sweep, self.commands.sweep_deadline()),
            (Timer::Adopted, self.commands.adopted_deadline()),
            (Timer::Cgroups, self.commands.cgroups_deadline()),
            (Timer::Gate, self.gate.deadline()),
            (Timer::Closed, self.closed_deadline()),
            (Timer::Crowd, self.commands.crowd_deadline()),
            (Timer::Listeners, self.listeners.deadline()),
            (Timer::Start, self.commands.pause_deadline()),
            (Timer::Begun, self.commands.begun_deadline()),
            (Timer::Report, self.report.deadline()),
            (Timer::Memory, self.trim.deadline()),
            (Timer::Overdue, self.commands.overdue_deadline()),
            (Timer::Idle, self.phase.idle_deadline()),
            (Timer::Phase, self.phase_deadline()),
            (Timer::Manager, self.manager.deadline()),
            (Timer::Queries, self.inquiry.queries.deadline(now)),
            (Timer::Drain, self.inquiry.drain_at),
            (Timer::Status, self.manager.status_deadline().filter(|_| self.status_may_change())),
        ]
    }

    fn due(&self, now: Instant) -> Vec<Timer> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.deadlines(now).into_iter().filter(|(_, at)| is_due(*at)).map(|(timer, _)| timer).collect()
    }

    /// Everything that is due by the clock.
    fn on_time(&mut self, now: Instant) {
        for (timer, at) in self.deadlines(now) {
            if at.is_some_and(|at| at <= now) {
                self.on_timer(now, timer);
                self.settle(now);
            }
        }
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Refusals => self.refusals.on_time(now, &self.poll),
            Timer::Preambles => self.preambles_are_due(now),
            Timer::Sweep => self.commands.sweep(),
            Timer::Adopted => self.commands.look_at_adopted(now, &self.poll),
            Timer::Cgroups => self.commands.tend_cgroups(now),
            Timer::Gate => {
                // Who has waited too long is refused, but not in the moment in which a slot comes free.
                self.look_for_ends(now);
                self.read_gauges(now);
                self.gate.tick(now, &mut self.actions);
            }
            Timer::Closed => self.read_gauges(now),
            Timer::Crowd => self.mind_the_crowd(now),
            Timer::Listeners => self.listeners.on_time(now, &self.poll),
            Timer::Start => {
                self.commands.try_again(now);
                self.gate.try_again(now, &mut self.actions);
            }
            Timer::Begun => self.commands.look_after_begun(now),
            Timer::Report => self.log_summaries(now),
            Timer::Memory => {} // done right before the next wait, see `give_back`
            Timer::Overdue => self.commands.end_overdue(now),
            Timer::Idle => self.end_if_idle(now),
            Timer::Phase => self.phase_is_due(now),
            Timer::Manager => self.manager.on_time(now),
            Timer::Drain => self.drain_is_due(now),
            Timer::Queries => self.inquiry.queries.on_time(now, &self.poll),
            Timer::Status => {} // told after this turn's clients, see `publish`
        }
    }

    /// Gives back memory that is not in use. What is touched after it comes back.
    fn give_back(&self) {
        self.commands.rest();
        memory::give_back();
    }

    /// What is to be known outside after each turn. Called after the accepts, so that a client that has just been served is not shown
    /// as waiting until the next status may be sent.
    fn publish(&mut self, now: Instant) {
        if self.gate.limits().has_gauges() || self.gauges.closed.is_on() {
            self.note_closed(now);
        }
        self.send_status(now);
        self.phase.note(now, self.is_busy());
        self.note_numbers();
        debug_assert_eq!(self.imbalance(), None);
    }

    /// What limits ask for, if their last reading is old.
    fn read_gauges(&mut self, now: Instant) {
        while let Some(gauge) = self.gate.limits().due_gauge(now) {
            let reading = self.gauges.read(gauge);
            while let Some((resource, error)) = self.gauges.pressure.next_lost() {
                self.report.log(Event::PressureLost { resource, error: plain(&error) });
            }
            self.gate.read(now, reading, &mut self.actions);
        }
    }
}
