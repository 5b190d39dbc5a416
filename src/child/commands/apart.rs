//! Commands that are kept apart by a cgroup for each connection: what they get, and what becomes of it at their ends.
#![forbid(unsafe_code)]

use super::news::Ended;
use crate::child::cgroup::is_gone;
use crate::child::cgroups::{Cgroups, Users};
use crate::child::ledger::Place;
use crate::child::running::Told;
use crate::sys::launch::Way;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// When a slot is free again (`--slot-until`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotUntil {
    /// When the command has ended.
    Command,
    /// When the last process of its cgroup has ended, too.
    Cgroup,
}

impl std::fmt::Display for SlotUntil {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            SlotUntil::Command => "command",
            SlotUntil::Cgroup => "cgroup",
        })
    }
}

/// The cgroups, and who outlives a command.
#[derive(Debug)]
pub struct Apart {
    pub(super) cgroups: Cgroups,
    pub(super) users: Option<Users>,
    pub(super) until: SlotUntil,
    /// Whether it is read what each connection has used.
    pub(super) reads_usage: bool,
    pub(super) outliving: Outliving,
}

/// What one connection gets.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) folder: OwnedFd,
    pub(super) way: Way,
    pub(super) user: Option<u32>,
}

/// A connection whose command has ended, while others of it live on.
#[derive(Debug)]
pub(super) struct Outlived {
    /// What is told at its end.
    pub(super) ended: Ended,
    pub(super) place: Option<Place>,
    pub(super) peer_port: u32,
    pub(super) told: Told,
}

/// All of those, by number, and when the time of each is over.
#[derive(Debug, Default)]
pub(super) struct Outliving {
    pub(super) all: HashMap<u64, Outlived>,
    pub(super) due: BTreeSet<(Instant, u64)>,
}

impl Outliving {
    /// It ends for another reason than its time limit.
    pub(super) fn forget_limit(&mut self, id: u64, limit: Option<Duration>) {
        if let Some((outlived, limit)) = self.all.get(&id).zip(limit) {
            self.due.remove(&(outlived.ended.since + limit, id));
        }
    }

    pub(super) fn remove(&mut self, id: u64, limit: Option<Duration>) -> Option<Outlived> {
        self.forget_limit(id, limit);
        self.all.remove(&id)
    }
}

impl Apart {
    /// `cgroups` are ours; each connection gets a user of its own, if there are some.
    pub fn new(cgroups: Cgroups, users: Option<Users>, until: SlotUntil) -> Apart {
        Apart { cgroups, users, until, reads_usage: false, outliving: Outliving::default() }
    }

    /// The path of the service's cgroup, as cgroups(7) has it.
    pub fn path(&self) -> &str {
        self.cgroups.path()
    }

    /// Whether the kernel would kill at birth who is born in a cgroup that is used twice.
    pub fn kills_newborn(&self) -> bool {
        self.cgroups.kills_newborn()
    }

    /// What connection `id` gets.
    ///
    /// # Errors
    /// mkdir(2)'s and the like, if there is no cgroup for it; `EAGAIN`, if no user is free.
    pub(super) fn prepare(&mut self, now: Instant, id: u64) -> io::Result<Home> {
        let (folder, way) = self.cgroups.take(now, id)?;
        let user = match &mut self.users {
            None => None,
            Some(users) => match users.claim(id) {
                Some(user) => Some(user),
                None => {
                    self.cgroups.put_back(id, folder);
                    return Err(io::Error::from_raw_os_error(libc::EAGAIN));
                }
            },
        };
        Ok(Home { folder, way, user })
    }

    /// It has not been used, for that error.
    pub(super) fn take_back(&mut self, id: u64, home: Home, error: &io::Error) {
        match is_gone(error) {
            true => self.cgroups.forget_ready(), // which a command of our user may do
            false => self.cgroups.put_back(id, home.folder),
        }
        self.release(id);
    }

    pub(super) fn release(&mut self, id: u64) {
        self.users.iter_mut().for_each(|users| users.release(id));
    }

    /// Whether an end by SIGKILL, or of those who outlived it, was one for want of memory; `None` is not known.
    pub(super) fn ran_out_of_memory(&self, id: u64) -> Option<bool> {
        self.cgroups.ran_out_of_memory(id)
    }
}
