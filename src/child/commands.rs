//! Every command that runs, ours and those that an earlier daemon has left: its start, its time, its end.
#![forbid(unsafe_code)]

mod inherit;
mod signals;

use super::adopted::Adoptions;
use super::cgroup::Cgroup;
use super::environment::Entries;
use super::ledger::{Entry, Ledger, listener_key};
use super::proc::uptime;
use super::running::{Child, Children};
use super::strays::Strays;
use super::template::Template;
use super::times::Times;
use super::{Facts, program, victim};
use crate::policy::back_off::{BackOff, Over, Trouble};
use crate::policy::gate::{Arrival, Slot};
use crate::poll::{Poll, Watch};
use crate::sys::client_fd::ClientFd;
use crate::sys::exec;
use crate::sys::launch::{Image, Launch, Session, Spawner};
use crate::sys::process::{Exit, Usage, reap, take_end};
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Exit code of a child whose exec failed; a report tells why.
const EXEC_FAILED: i32 = 127;
/// Commands between clone and exec at once, but for those whose exec hangs. An exec takes a few times as long as a clone, so that more
/// are under way only where processors or memory lack, and to wait for one costs no speed.
const MOST_UNDER_WAY: usize = 16;
/// How often it is looked then whether there are fewer.
const CROWD: Duration = Duration::from_millis(1);
/// See [`Commands::signalled`].
const SWEEP_SHARE: usize = 16;
/// SIGCHLD coalesces, so an end may come without a signal of its own; it is found this much later,
/// or at once when a limit is about to say no.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// All commands, and what is needed to start one more.
pub struct Commands {
    program: String,
    session: Session,
    template: Template,
    entries: Entries,
    spawner: Spawner,
    failed_execs: OwnedFd,
    next_id: u64,
    ours: Children,
    adopted: Adoptions,
    times: Times,
    /// Which of them run, for the next daemon, whatever becomes of this one.
    ledger: Ledger,
    /// Our own cgroup, if the manager made it for us, or why it cannot be seen.
    cgroup: io::Result<Option<Cgroup>>,
    /// Other processes in it, while stopping.
    strays: Strays,
    /// Set when a SIGCHLD has come after the last sweep over all children: signals coalesce, so another exit may be unreported.
    unswept_since: Option<Instant>,
    signals_since_sweep: usize,
    is_sweeping: bool,
    /// When it is looked again whether so many commands are being started at once that nobody is accepted.
    crowded_until: Option<Instant>,
    /// Pauses in starting commands, while their clients wait.
    starting: BackOff,
    trouble: Trouble,
    news: VecDeque<News>,
}

/// What the administrator has set for commands.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Room for so many from the start.
    pub room: usize,
    /// `--time-limit`; `None` is off.
    pub time_limit: Option<Duration>,
    /// `--kill-grace`.
    pub kill_grace: Duration,
}

/// A command that was started.
#[derive(Debug)]
pub struct Started {
    /// Number of its connection.
    pub id: u64,
    /// Its process.
    pub pid: i32,
    launch: Launch,
}

/// Something has become of a command.
#[derive(Debug)]
pub enum News {
    /// Its exec has failed. Its end is yet to come.
    ExecFailed(ExecFailed),
    /// Its exec has succeeded after others had failed.
    StartsAgain(Over),
    /// Its time is over, and it was sent SIGTERM.
    Overdue {
        /// Number of its connection; 0 is not known.
        id: u64,
        /// Its process.
        pid: i32,
    },
    /// It is over.
    Ended(Ended),
}

/// An exec that has failed.
#[derive(Debug)]
pub struct ExecFailed {
    /// Why.
    pub why: String,
    /// Whether it is the first of a run of failures.
    pub is_first: bool,
    /// The connection, so that the client can be told.
    pub connection: Option<ClientFd>,
    /// Milliseconds that its client had waited, and its listener; `None` if the command is not known any more.
    pub client: Option<(Option<u32>, Option<usize>)>,
}

/// A command that is over.
#[derive(Debug)]
pub struct Ended {
    /// Its process.
    pub pid: i32,
    /// Number of its connection; 0 is not known.
    pub id: u64,
    /// What it was counted for.
    pub slot: Slot,
    /// When it was started.
    pub since: Instant,
    /// How long its client had waited then, if known.
    pub waited: Option<Duration>,
    /// How it ended and what it used; `None` of one that is not our child.
    pub how: Option<(Exit, Usage)>,
    /// errno, if its exec failed.
    pub exec_errno: Option<i32>,
}

impl Commands {
    /// None runs.
    ///
    /// # Errors
    /// mmap(2)'s, socketpair(2)'s and epoll_ctl(2)'s.
    pub fn new(image: Image, template: Template, entries: Entries, terms: Terms, poll: &Poll) -> io::Result<Commands> {
        let (program, session) = (image.program.to_string_lossy().into_owned(), image.session);
        let (spawner, failed_execs) = Spawner::new(image)?;
        poll.add(&failed_execs, Watch::FailedExecs, EpollFlags::EPOLLIN)?;
        Ok(Commands {
            program,
            session,
            template,
            entries,
            spawner,
            failed_execs,
            next_id: 1,
            ours: Children::with_capacity(terms.room),
            adopted: Adoptions::default(),
            times: Times::new(terms.time_limit, terms.kill_grace),
            ledger: Ledger::none(),
            cgroup: Cgroup::own(),
            strays: Strays::default(),
            unswept_since: None,
            signals_since_sweep: 0,
            is_sweeping: false,
            crowded_until: None,
            starting: BackOff::default(),
            trouble: Trouble::default(),
            news: VecDeque::new(),
        })
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Number of the next connection.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Gives no number below this one any more.
    pub fn go_on_from(&mut self, next_id: u64) {
        self.next_id = self.next_id.max(next_id);
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.ours.len() + self.adopted.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.ours.is_empty() && self.adopted.is_empty()
    }

    /// Starts one for this client. The slot goes in with the command and comes out with its end; if it does not start, it
    /// comes back at once.
    ///
    /// # Errors
    /// clone(2)'s.
    pub fn start(
        &mut self,
        now: Instant,
        (who, slot): (&Arrival, Slot),
        facts: &Facts,
        connection: &ClientFd,
        waited_usec: Option<u64>,
    ) -> Result<Started, (Slot, io::Error)> {
        let Commands { spawner, template, entries, ledger, .. } = self;
        let entry = Entry {
            id: Some(facts.id),
            listener: Some(listener_key(facts.label)),
            source: who.source,
            not_before: uptime(),
            not_after: None,
        };
        let place = ledger.begin(&entry);
        let pid_place = place.and_then(|place| ledger.pid(place));
        let started = spawner.begin().and_then(|mut words| {
            template.fill(facts, &mut words);
            entries.fill(who.listener, facts, &mut words);
            words.spawn(connection, pid_place)
        });
        let (pid, launch) = match started {
            Ok(started) => started,
            Err(error) => {
                ledger.end(place);
                return Err((slot, error));
            }
        };
        if let Some(place) = place {
            ledger.started(place, uptime());
        }
        let id = facts.id;
        self.next_id = id + 1;
        self.starting.succeeded();
        self.times.begin(pid, now);
        let waited_ms = waited_usec.map(|usec| (usec / 1000).min(u32::MAX.into()) as u32);
        self.ours.insert(Child { pid, id, slot, since: now, waited_ms, launch, place, exec_errno: None });
        Ok(Started { id, pid, launch })
    }

    /// Leaves the connection to the command that was started for it.
    pub fn leave(&self, started: &Started, connection: ClientFd) {
        self.spawner.leave(started.launch, connection);
    }

    /// A start has failed; whether it is the first of a run of failures.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.trouble.failed(now)
    }

    /// Whether starts fail.
    pub fn is_failing(&self) -> bool {
        self.trouble.is_on()
    }

    /// Starts none for a while.
    pub fn pause(&mut self, now: Instant) {
        self.starting.pause(now);
    }

    /// Whether none is to be started now.
    pub fn is_pausing(&self) -> bool {
        self.starting.is_pausing()
    }

    /// When they may be started again.
    pub fn pause_deadline(&self) -> Option<Instant> {
        self.starting.deadline()
    }

    /// Ends a pause whose time is over.
    pub fn try_again(&mut self, now: Instant) {
        self.starting.try_again(now);
    }

    /// Whether so many commands are between clone and exec that more would only wait for each other: for a processor, or for
    /// memory, where all of them are one victim with us. Those whose exec hangs are not counted.
    pub fn look_at_crowd(&mut self, now: Instant) -> bool {
        let is_crowded = self.spawner.under_way() >= MOST_UNDER_WAY + self.ours.slow();
        self.crowded_until = is_crowded.then_some(now + CROWD);
        is_crowded
    }

    /// When to look again at a crowd.
    pub fn crowd_deadline(&self) -> Option<Instant> {
        self.crowded_until
    }

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
    pub fn look_for_ends(&mut self, now: Instant) {
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

    fn child_ended(&mut self, now: Instant, pid: i32, exit: Exit, usage: Usage) {
        if exit == Exit::Code(EXEC_FAILED) {
            self.receive_failed_execs(now); // sent before the exit, so it is there by now
        }
        // A child that is not in the table is an orphan (we are PID 1 of a container, or a subreaper), or was left to us by
        // whoever was this process before its exec.
        let Some(Child { id, slot, since, waited_ms, place, exec_errno, .. }) = self.ours.remove(pid) else { return };
        self.ledger.end(place);
        self.times.end(pid, since);
        if exec_errno.is_none() {
            self.succeeded(now, since);
        }
        let waited = waited_ms.map(|ms| Duration::from_millis(ms.into()));
        let how = Some((exit, usage));
        self.news.push_back(News::Ended(Ended { pid, id, slot, since, waited, how, exec_errno }));
    }

    /// Execs that failed. Their slots come back with the child's exit.
    pub fn receive_failed_execs(&mut self, now: Instant) {
        while let Some(exec::Report { pid, errno, head, connection }) = exec::receive(self.failed_execs.as_fd()) {
            let client = self.ours.get_mut(pid).map(|child| {
                child.exec_errno = Some(errno);
                (child.waited_ms, child.slot.listener())
            });
            let (is_first, why) = (self.trouble.failed(now), program::why(errno, head.as_deref()));
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
        victim::raise(begun.into_iter());
    }

    /// Gives back memory that only starts need.
    pub fn rest(&self) {
        self.spawner.rest();
    }
}
