//! The loop: wait, then reports and exits, then refusals that linger, then up to a few accepts per listener.
//!
//! A slot that came free is seen before a slot is given, and nothing in here waits but `epoll_wait`.
#![forbid(unsafe_code)]

use super::hand_over::Inheritance;
use super::settings::Settings;
use super::state;
use super::stop::Stop;
use super::time::Times;
use crate::child::Adopted;
use crate::child::cgroup::Cgroup;
use crate::child::environment::Entries;
use crate::child::ledger::Ledger;
use crate::child::running::Children;
use crate::child::strays::Strays;
use crate::child::template::Template;
use crate::listen::listeners::{Listeners, News, Taken};
use crate::listen::refusals::Refusals;
use crate::listen::waiting::Waiting;
use crate::listen::{Listener, Shown};
use crate::observe::event::Event;
use crate::observe::log::Log;
use crate::observe::notify::{Notify, Status};
use crate::observe::report::Report;
use crate::policy::back_off::{BackOff, Over, Trouble};
use crate::policy::gate::{Action, Gate, Hold};
use crate::policy::limit::{Gauge, ListenerId, Reading, Rules};
use crate::poll::{Poll, Ready, Watch};
use crate::reply::Replies;
use crate::sys::launch::{Image, Spawner};
use crate::sys::process::signals_to_read;
use crate::sys::{memory, plain};
use nix::sys::epoll::EpollFlags;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Refusals per listener and turn. A served client ends the turn: its child runs on another CPU, and checking for exits before
/// the next accept is faster.
const REFUSALS_AT_ONCE: usize = 4;
/// Commands between clone and exec at once, but for those whose exec hangs. An exec takes a few times as long as a clone, so that more
/// are under way only where processors or memory lack, and to wait for one costs no speed.
const MOST_UNDER_WAY: usize = 16;
/// How often it is looked then whether there are fewer.
const CROWD: Duration = Duration::from_millis(1);
/// Delay before start-up memory is given back: by then the log has written its first lines.
const SETTLED: Duration = Duration::from_millis(10);
/// Time without an event after which the pages of serving are given back, too; the next client costs a few page faults.
const QUIET: Duration = Duration::from_secs(10);
/// Upper bound of the command table that is allocated at the start.
const MOST_ROOM: u32 = 1 << 14;
/// SIGCHLD coalesces, so an end may come without a signal of its own; it is found this much later,
/// or at once when a limit is about to say no.
const HEAL: Duration = Duration::from_secs(1);

/// What may be due: set in [`Daemon::deadlines`], and handled in [`Daemon::on_timer`].
#[derive(Clone, Copy, Debug)]
enum Timer {
    Refusals,
    Sweep,
    Adopted,
    Gate,
    Crowd,
    Listeners,
    Start,
    Begun,
    Report,
    Memory,
    Overdue,
    Idle,
    Stop,
    Manager,
    Status,
}

/// Everything the loop works on.
pub(super) struct Daemon {
    pub(super) settings: Settings,
    pub(super) listeners: Listeners,
    pub(super) gate: Gate,
    /// What the gate wants and is not yet carried out.
    pub(super) actions: VecDeque<Action>,
    pub(super) waiting: Waiting,
    pub(super) template: Template,
    pub(super) entries: Entries,
    pub(super) spawner: Spawner,
    pub(super) reports: OwnedFd,
    pub(super) children: Children,
    /// Our own cgroup, if the manager made it for us, or why it cannot be seen.
    pub(super) cgroup: io::Result<Option<Cgroup>>,
    /// Processes in it that are not our children, by pid.
    pub(super) adopted: HashMap<i32, Adopted>,
    /// Which commands run, for the next daemon, whatever becomes of this one.
    pub(super) ledger: Ledger,
    /// Whether the manager's store has it; `None`: there is no store.
    pub(super) is_stored: Option<bool>,
    /// When those of them are looked at whose end is no event.
    pub(super) look_at: Option<Instant>,
    /// Other processes in it, while stopping.
    pub(super) strays: Strays,
    pub(super) times: Times,
    /// Since when nothing ran or waited; kept only for `--idle-exit`.
    pub(super) idle_since: Option<Instant>,
    pub(super) next_id: u64,
    pub(super) refusals: Refusals,
    pub(super) poll: Poll,
    pub(super) signals: SignalFd,
    pub(super) report: Report,
    pub(super) notify: Notify,
    pub(super) command: String,
    /// Set when a SIGCHLD has come after the last sweep over all children: signals coalesce, so another exit may be unreported.
    pub(super) unhealed: Option<Instant>,
    pub(super) signals_since_walk: usize,
    /// When it is looked again whether so many commands are being started at once that nobody is accepted.
    crowded: Option<Instant>,
    /// Pauses in starting commands, while their clients wait.
    pub(super) starting: BackOff,
    pub(super) start_trouble: Trouble,
    pub(super) stop: Stop,
    /// When the program's own pages are given back: once the start is over, and then whenever it is quiet.
    settles: Option<Instant>,
    settled: bool,
}

/// The machine's name (gethostname(2)), without asking anybody else for a longer one.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl Daemon {
    pub(super) fn new(
        settings: Settings,
        (rules, hold): (Rules, Hold),
        listeners: Vec<Listener>,
        image: Image,
        (template, entries): (Template, Entries),
    ) -> io::Result<Daemon> {
        let now = Instant::now();
        let command = image.program.to_string_lossy().into_owned();
        let (spawner, reports) = Spawner::new(image)?;
        let poll = Poll::new()?;
        let signals = SignalFd::with_flags(&signals_to_read(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        poll.add(&signals, Watch::Signals, EpollFlags::EPOLLIN)?;
        poll.add(&reports, Watch::FailedExecs, EpollFlags::EPOLLIN)?;
        let replies = Replies::new(settings.busy_reply.clone(), settings.busy_message.clone(), &host_name());
        let mut daemon = Daemon {
            gate: Gate::new(&rules, settings.when_full, hold, listeners.len()),
            listeners: Listeners::new(listeners, &poll)?,
            actions: VecDeque::new(),
            waiting: Waiting::default(),
            template,
            entries,
            spawner,
            reports,
            children: Children::with_capacity(settings.max_connections.min(MOST_ROOM) as usize),
            cgroup: Cgroup::own(),
            adopted: HashMap::new(),
            ledger: Ledger::none(),
            is_stored: None,
            look_at: None,
            strays: Strays::default(),
            times: Times::default(),
            idle_since: None,
            next_id: 1,
            refusals: Refusals::new(replies),
            poll,
            signals,
            report: Report::new(Log::start(settings.log_target, settings.most)?, settings.log_peer),
            notify: Notify::from_environment(now),
            command,
            unhealed: None,
            signals_since_walk: 0,
            crowded: None,
            starting: BackOff::default(),
            start_trouble: Trouble::default(),
            stop: Stop::Running,
            settles: None,
            settled: false,
            settings,
        };
        let Hold { max_waiting: wanted, places, .. } = hold;
        if places < wanted {
            daemon.report.tell(Event::FewPlaces { wanted, places });
        }
        Ok(daemon)
    }

    /// Serves until a signal and the last command's end.
    pub(super) fn run(mut self, inheritance: Inheritance) -> Result<(), String> {
        for listener in self.listeners.iter() {
            let local = Shown(&listener.local).to_string();
            self.report.tell(Event::Listening { local, listener: listener.name.clone() });
        }
        let (max, when_full) = (self.settings.max_connections, self.settings.when_full);
        self.report.tell(Event::Ready { max, when_full, command: self.command.clone() });
        self.take_over(Instant::now(), inheritance);
        // Children of whoever was this process before its exec may have ended before we could hear of it.
        self.reap_all(Instant::now());
        self.notify.ready(Instant::now());
        self.settles = Some(Instant::now() + SETTLED);
        let mut ready = Ready::new();
        let mut now = Instant::now();
        loop {
            let until = self.deadlines().into_iter().filter_map(|(_, at)| at).min();
            let waited = self.poll.wait(&mut ready, until, now);
            waited.map_err(|error| format!("cannot wait for events: {}", plain(&error)))?;
            now = Instant::now();
            if !ready.is_empty() && self.settled {
                self.settles = Some(now + QUIET);
            }
            ready.iter().for_each(|watch| self.on_event(now, watch));
            self.on_time(now);
            ready.listeners().for_each(|id| self.accept_some(now, id));
            self.tell_status(now);
            self.note_idleness(now);
            state::note(&self.ledger, self.next_id, self.waiting.next_ticket(), self.report.counters());
            now = Instant::now();
            if self.is_finished(now) {
                break;
            }
        }
        let lost = self.listeners.are_lost();
        self.finish();
        if lost { Err("all listening sockets were lost".into()) } else { Ok(()) }
    }

    fn on_event(&mut self, now: Instant, watch: Watch) {
        match watch {
            Watch::Signals => self.read_signal(now),
            Watch::FailedExecs => self.read_reports(now),
            Watch::Adopted(pid) => self.adopted_ended(now, pid),
            Watch::Held(ticket) => self.held_changed(now, ticket),
            Watch::Lingering(at) => self.refusals.ready(now, at, &self.poll),
            Watch::Listener(_) => {} // after the timers
        }
        self.carry_out(now);
    }

    /// One connection, or a few that are refused: in a flood that saves a turn of the loop for each.
    pub(super) fn accept_some(&mut self, now: Instant, id: ListenerId) {
        while let Some(gauge) = self.gate.due_gauge(now) {
            self.read_gauge(now, gauge);
            self.carry_out(now);
        }
        self.mind_the_crowd(now);
        for _ in 0..REFUSALS_AT_ONCE {
            // An earlier arrival may have filled the house.
            if !self.accept_one(now, id) {
                return;
            }
        }
    }

    /// Nobody is accepted while so many commands are between clone and exec that more would only wait for each other: for a
    /// processor, or for memory, where all of them are one victim with us. Those whose exec hangs are not counted.
    fn mind_the_crowd(&mut self, now: Instant) {
        let is_crowded = self.spawner.under_way() >= MOST_UNDER_WAY + self.children.slow();
        self.crowded = is_crowded.then_some(now + CROWD);
        self.listeners.set_crowded(now, is_crowded, &self.poll);
    }

    /// Whether to try again now: somebody was turned away.
    fn accept_one(&mut self, now: Instant, id: ListenerId) -> bool {
        let taken = self.listeners.accept(now, id, &self.poll);
        self.tell_news();
        match taken {
            Taken::Client(connection) => {
                self.report.accepted();
                // Its command may have ended before the clock is looked at again.
                self.idle_since = None;
                if !self.start_trouble.is_on() {
                    self.listeners.recovered();
                }
                self.arrive(now, connection)
            }
            Taken::Gone => {
                self.report.accepted();
                self.report.gone(1);
                self.idle_since = None;
                true
            }
            Taken::Nobody => false,
        }
    }

    /// What has happened to listeners.
    pub(super) fn tell_news(&mut self) {
        while let Some(news) = self.listeners.next_news() {
            self.report.tell(match news {
                News::Paused { listener, error, pause } => {
                    Event::AcceptPaused { listener, error: plain(&error), pause }
                }
                News::Resumed(Over { failures, lasted: over }) => Event::AcceptResumed { failures, over },
                News::Broken { listener, error } => Event::ListenerBroken { listener, error: plain(&error) },
            });
        }
    }

    /// The one list of what is due when.
    fn deadlines(&self) -> [(Timer, Option<Instant>); 15] {
        let status = self.notify.status_deadline().filter(|_| self.status_may_change());
        [
            (Timer::Refusals, self.refusals.deadline()),
            (Timer::Sweep, self.unhealed.map(|since| since + HEAL)),
            (Timer::Adopted, self.look_at),
            (Timer::Gate, self.gate.deadline()),
            (Timer::Crowd, self.crowded),
            (Timer::Listeners, self.listeners.deadline()),
            (Timer::Start, self.starting.deadline()),
            (Timer::Begun, self.children.deadline()),
            (Timer::Report, self.report.deadline()),
            (Timer::Memory, self.settles),
            (Timer::Overdue, self.times.deadline()),
            (Timer::Idle, self.idle_deadline()),
            (Timer::Stop, self.stop_deadline()),
            (Timer::Manager, self.notify.deadline()),
            (Timer::Status, status),
        ]
    }

    /// Everything that is due by the clock.
    fn on_time(&mut self, now: Instant) {
        for (timer, at) in self.deadlines() {
            if at.is_some_and(|at| at <= now) {
                self.on_timer(now, timer);
                self.carry_out(now);
            }
        }
    }

    fn on_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Refusals => self.refusals.on_time(now, &self.poll),
            Timer::Sweep => self.reap_all(now),
            Timer::Adopted => self.look_at_adopted(now),
            Timer::Gate => {
                while let Some(gauge) = self.gate.due_gauge(now) {
                    self.read_gauge(now, gauge);
                }
                self.gate.tick(now, &mut self.actions);
            }
            Timer::Crowd => self.mind_the_crowd(now),
            Timer::Listeners => self.listeners.on_time(now, &self.poll),
            Timer::Start => {
                self.starting.try_again(now);
                self.gate.try_again(now, &mut self.actions);
            }
            Timer::Begun => self.look_after_begun(now),
            Timer::Report => self.tell_summaries(now),
            Timer::Memory => self.settle(),
            Timer::Overdue => self.end_overdue(now),
            Timer::Idle => self.end_if_idle(now),
            Timer::Stop => self.stop_timer(now),
            Timer::Manager => self.notify.on_time(now),
            Timer::Status => {} // told after this turn's clients, see `tell_status`
        }
    }

    /// Called after the accepts, so that a client that was just served is not shown as waiting for a second.
    fn tell_status(&mut self, now: Instant) {
        if self.notify.status_is_due(now) {
            let _ = self.store_ledger(now); // done once, as soon as the manager takes it
            let status = self.status(now);
            self.notify.status(now, status);
        }
    }

    /// Gives back memory that is not in use: what the start needed, or what serving needed when it is quiet.
    fn settle(&mut self) {
        (self.settled, self.settles) = (true, None);
        memory::forget_past_calls();
        memory::forget_code_pages();
        self.spawner.rest();
    }

    fn status(&self, now: Instant) -> Status {
        let queue = self.gate.queue();
        Status {
            active: self.gate.census().active,
            max: self.settings.max_connections,
            waiting: queue.len() + self.listeners.queued(),
            longest: queue.longest().map(|since| now.saturating_duration_since(since).as_secs()),
            refused: self.report.counters().refused_by_limits(),
            served: self.report.counters().served,
            stopping: self.stop.seconds_left(now),
        }
    }

    /// Whether the status line may differ from the one that was sent. A queue grows without any event
    /// here only while a listener is out of the poll set.
    fn status_may_change(&self) -> bool {
        let (active, counters) = (self.gate.census().active, self.report.counters());
        let was_told = self.notify.was_told(active, counters.refused_by_limits(), counters.served);
        !self.listeners.are_watched() || !self.gate.queue().is_empty() || !was_told
    }

    fn read_gauge(&mut self, now: Instant, gauge: Gauge) {
        let reading = match gauge {
            // A system without it has no load.
            Gauge::Load => {
                let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
                Reading::Load(text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0))
            }
        };
        self.gate.read(now, reading, &mut self.actions);
    }
}
