//! Every command that runs, ours and those that an earlier daemon has left: its start, its time, its end.
#![forbid(unsafe_code)]

mod apart;
mod ends;
mod inherit;
pub mod listing;
mod news;
mod signals;
mod together;

use super::ConnectionInfo;
use super::adopted::Adoptions;
use super::cgroup::Cgroup;
use super::environment::FixedVars;
use super::ledger::{Entry, Ledger, listener_key};
use super::oom::OomKills;
use super::proc::uptime;
use super::running::{Child, Children, Told};
use super::signals::Left;
use super::strays::Strays;
use super::template::Template;
use super::times::Times;
use super::victim::Victims;
use crate::policy::back_off::{BackOff, Trouble};
use crate::policy::gate::{Arrival, Slot};
use crate::poll::{Poll, Watch};
use crate::sys::client_fd::ClientFd;
use crate::sys::launch::{CommandSpec, Launch, Session, Spawner};
use apart::Home;
pub use apart::{Apart, SlotUntil};
pub use news::{Ended, ExecFailed, News, Stopping};
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections that an earlier daemon may have served since the last of which something is known.
const MAX_AHEAD: u64 = 1 << 40;

/// Commands between clone and exec at once, but for those whose exec hangs. An exec takes a few times as long as a clone, so that more
/// are under way only where processors or memory lack. With 16, 32 clients at once on two processors were served at 0.94 of the rate.
const MAX_UNDER_WAY: usize = 32;
/// How often it is looked then whether there are fewer.
const CROWD: Duration = Duration::from_millis(1);

/// All commands, and what is needed to start one more.
pub struct Commands {
    program: String,
    session: Session,
    template: Template,
    fixed_vars: FixedVars,
    spawner: Spawner,
    failed_execs: OwnedFd,
    next_id: u64,
    ours: Children,
    adopted: Adoptions,
    times: Times,
    /// Groups that outlive their commands, whose time is over.
    left: Left,
    /// Which of them run, for the next daemon, whatever becomes of this one.
    ledger: Ledger,
    /// Our own cgroup, if the manager made it for us, or why it cannot be seen.
    cgroup: io::Result<Option<Cgroup>>,
    /// Which of them the kernel kills, if that matters.
    oom_kills: Option<OomKills>,
    victims: Victims,
    /// Other processes in it, while stopping.
    strays: Strays,
    /// One of the daemon's own, which is none of them.
    spared: Option<i32>,
    /// What keeps commands apart by cgroups, if that was asked for.
    apart: Option<Apart>,
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
    /// Whether it matters which commands the kernel kills since memory is short.
    pub asks_for_oom: bool,
    /// `--oom-score-adjust`.
    pub oom_score_adj: Option<i32>,
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

impl Commands {
    /// None runs.
    ///
    /// # Errors
    /// mmap(2)'s, socketpair(2)'s and epoll_ctl(2)'s.
    pub fn new(
        spec: CommandSpec,
        template: Template,
        fixed_vars: FixedVars,
        terms: Terms,
        poll: &Poll,
    ) -> io::Result<Commands> {
        let (program, session) = (spec.program.to_string_lossy().into_owned(), spec.session);
        let (spawner, failed_execs) = Spawner::new(spec)?;
        poll.add(&failed_execs, Watch::FailedExecs, EpollFlags::EPOLLIN)?;
        Ok(Commands {
            program,
            session,
            template,
            fixed_vars,
            spawner,
            failed_execs,
            next_id: 1,
            ours: Children::with_capacity(terms.room),
            adopted: Adoptions::default(),
            times: Times::new(terms.time_limit, terms.kill_grace),
            left: Left::default(),
            ledger: Ledger::none(),
            cgroup: Cgroup::own(),
            oom_kills: terms.asks_for_oom.then(OomKills::new).transpose()?,
            victims: Victims::new(terms.oom_score_adj),
            strays: Strays::default(),
            spared: None,
            apart: None,
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

    /// No later connection gets the number of this one, or a lower one. One that is far ahead of what is known is made up by a command, and
    /// would leave no numbers for others.
    pub(super) fn go_on_after(&mut self, id: u64) {
        if id.saturating_sub(self.next_id) < MAX_AHEAD {
            self.next_id = self.next_id.max(id + 1);
        }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.ours.len() + self.adopted.len() + self.outliving()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts one for this client, with this standard error if it is to have one of its own. The slot goes in with the command and comes
    /// out with its end; if it does not start, it comes back at once.
    ///
    /// # Errors
    /// clone(2)'s.
    pub fn start(
        &mut self,
        now: Instant,
        (who, slot): (&Arrival, Slot),
        info: &ConnectionInfo,
        (connection, stderr): (&ClientFd, Option<OwnedFd>),
        waited_usec: Option<u64>,
    ) -> Result<Started, (Slot, io::Error)> {
        let home = match &mut self.apart {
            None => None,
            Some(apart) => match apart.prepare(now, info.id) {
                Ok(home) => Some(home),
                Err(error) => return Err((slot, error)),
            },
        };
        let Commands { spawner, template, fixed_vars, ledger, .. } = self;
        let entry = Entry {
            id: Some(info.id),
            listener: Some(listener_key(info.label)),
            source: who.source,
            peer_port: info.peer.port(),
            not_before: uptime(),
            not_after: None,
        };
        let place = ledger.begin(&entry);
        let pid_place = place.and_then(|place| ledger.pid(place));
        let started = spawner.begin().and_then(|mut args| {
            template.fill(info, &mut args);
            fixed_vars.fill(who.listener, info, &mut args);
            stderr.iter().for_each(|stderr| args.stderr(stderr.as_fd()));
            if let Some(Home { folder, way, user }) = &home {
                args.cgroup(folder.as_fd(), *way);
                user.iter().for_each(|user| args.user(*user));
            }
            args.spawn(connection, pid_place)
        });
        let (pid, launch) = match started {
            Ok(started) => started,
            Err(error) => {
                ledger.end(place);
                if let (Some(apart), Some(home)) = (&mut self.apart, home) {
                    apart.take_back(info.id, home, &error);
                }
                return Err((slot, error));
            }
        };
        if let Some(place) = place {
            ledger.started(place, uptime());
        }
        let id = info.id;
        self.next_id = id + 1;
        self.starting.succeeded();
        self.times.begin(pid, now);
        let waited_ms = waited_usec.map(|usec| (usec / 1000).min(u32::MAX.into()) as u32);
        self.ours.insert(Child {
            pid,
            id,
            slot,
            peer_port: entry.peer_port,
            since: now,
            waited_ms,
            launch,
            place,
            exec_errno: None,
            told: Told::default(),
        });
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
        let is_crowded = self.spawner.under_way() >= MAX_UNDER_WAY + self.ours.slow();
        self.crowded_until = is_crowded.then_some(now + CROWD);
        is_crowded
    }

    /// When to look again at a crowd.
    pub fn crowd_deadline(&self) -> Option<Instant> {
        self.crowded_until
    }

    /// Gives back memory that only starts need.
    pub fn rest(&self) {
        self.spawner.rest();
    }
}

#[cfg(test)]
mod tests;
