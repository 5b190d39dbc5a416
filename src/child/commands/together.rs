//! What cgroups change of the starts and ends of commands: all processes of a connection end together, and some are counted for it that
//! are no command.
#![forbid(unsafe_code)]

use super::apart::{Apart, Outlived, SlotUntil};
use super::{Commands, Ended, News};
use crate::child::cgroup::Cgroup;
use crate::child::ledger::Place;
use crate::child::running::{Told, Why};
use crate::policy::limit::rule::Outcome;
use crate::poll::Poll;
use std::collections::HashSet;
use std::time::Instant;

/// In place of the process of a command that has ended.
const NONE: i32 = 0;
/// No process group of a command.
const NO_GROUP: i32 = 0;

impl Commands {
    /// Keeps commands apart from now on.
    pub fn keep_apart(&mut self, mut apart: Apart, poll: &Poll) {
        apart.cgroups.join(poll);
        // Where strays are looked for, also without a manager.
        self.cgroup = Ok(Some(Cgroup::Listed(apart.cgroups.folder().to_owned())));
        self.apart = Some(apart);
    }

    /// Looks at the cgroups that an earlier daemon has left, before any command is adopted: those that live keep their users, and none of
    /// their numbers is given again. What is empty is removed.
    pub fn take_over_cgroups(&mut self, now: Instant) {
        let Some(apart) = &mut self.apart else { return };
        let inhabited = apart.cgroups.inhabited();
        for id in &inhabited {
            self.go_on_after(*id);
        }
        let Some(apart) = &mut self.apart else { return };
        for id in inhabited {
            if let Some(users) = &mut apart.users {
                users.recognize(id, &apart.cgroups.members(id));
            }
            // Removed when it is empty, whoever in it is counted.
            apart.cgroups.is_over(now, id);
        }
    }

    /// Somebody who lives in the cgroup of this connection, if the connection is over only when nobody does.
    pub fn somebody_of(&self, id: Option<u64>) -> Option<i32> {
        let apart = self.apart.as_ref().filter(|apart| apart.until == SlotUntil::Cgroup)?;
        apart.cgroups.members(id?).first().copied()
    }

    /// The connections in whose cgroups somebody lives, of whom none is adopted yet, with somebody each; if they are to be counted for that.
    pub fn unadopted(&self) -> Vec<(u64, i32)> {
        let Some(apart) = &self.apart else { return Vec::new() };
        let known: HashSet<u64> = self.adopted.iter().filter_map(|adopted| adopted.id).collect();
        let unknown = apart.cgroups.ids().into_iter().filter(|id| !known.contains(id));
        unknown.filter_map(|id| Some((id, self.somebody_of(Some(id))?))).collect()
    }

    /// Whether somebody of this connection is adopted.
    pub fn has_adopted(&self, id: u64) -> bool {
        self.adopted.iter().any(|adopted| adopted.id == Some(id))
    }

    /// The connection in whose cgroup this process is.
    pub fn connection_of(&self, pid: i32) -> Option<u64> {
        self.apart.as_ref()?.cgroups.connection_of(pid)
    }

    /// Reads what each connection has used, or not.
    pub fn read_usage(&mut self, is_told: bool) {
        self.apart.iter_mut().for_each(|apart| apart.reads_usage = is_told);
    }

    /// A command is over. Its slot comes back now, or when the last process of its cgroup has ended.
    pub(super) fn over(&mut self, now: Instant, mut ended: Ended, place: Option<Place>, peer_port: u32, told: Told) {
        let Commands { apart: Some(apart), ledger, .. } = self else {
            self.ledger.end(place);
            self.news.push_back(News::Ended(ended));
            return;
        };
        let id = ended.id;
        let is_told = apart.reads_usage || ended.outcome == Outcome::Oom;
        if is_told {
            ended.usage = Some(apart.cgroups.usage(id, ended.usage.unwrap_or_default()));
        }
        match apart.until {
            SlotUntil::Command => apart.cgroups.retire(now, id),
            SlotUntil::Cgroup if apart.cgroups.is_over(now, id) => apart.release(id),
            SlotUntil::Cgroup => {
                let limit = self.times.limit().filter(|_| told.why.is_none()).map(|limit| (ended.since + limit, id));
                apart.outliving.due.extend(limit);
                apart.outliving.all.insert(id, Outlived { ended, place, peer_port, told });
                return;
            }
        }
        ledger.end(place);
        self.news.push_back(News::Ended(ended));
    }

    /// The kernel tells of cgroups that may be empty.
    pub fn cgroups_told(&mut self, now: Instant) {
        self.apart.iter_mut().for_each(|apart| apart.cgroups.told());
        self.look_at_emptied(now);
    }

    fn look_at_emptied(&mut self, now: Instant) {
        let Commands { apart: Some(apart), ledger, times, news, .. } = self else { return };
        while let Some(id) = apart.cgroups.next_empty(now) {
            let outlived = apart.outliving.all.get_mut(&id);
            let is_oom = outlived.is_some() && apart.cgroups.ran_out_of_memory(id) == Some(true);
            if let Some(Outlived { ended, .. }) = outlived.filter(|_| apart.reads_usage || is_oom) {
                ended.usage = Some(apart.cgroups.usage(id, ended.usage.unwrap_or_default()));
            }
            if !apart.cgroups.is_still_empty(now, id) {
                continue; // somebody has come into it in this moment
            }
            apart.release(id);
            let Some(Outlived { mut ended, place, told, .. }) = apart.outliving.remove(id, times.limit()) else {
                continue;
            };
            match told.why {
                Some(Why::TimeLimit) => ended.outcome = Outcome::TimeLimit,
                Some(Why::Asked) => ended.outcome = Outcome::Stopped,
                None if is_oom => ended.outcome = Outcome::Oom,
                None => {}
            }
            ledger.end(place);
            news.push_back(News::Ended(ended));
        }
    }

    /// When there is something to do about cgroups.
    pub fn cgroups_deadline(&self) -> Option<Instant> {
        let apart = self.apart.as_ref()?;
        let due = apart.outliving.due.first().map(|(at, _)| *at);
        due.into_iter().chain(apart.cgroups.deadline()).min()
    }

    /// Does it.
    pub fn tend_cgroups(&mut self, now: Instant) {
        let grace = self.times.grace();
        let Some(apart) = &mut self.apart else { return };
        while let Some((at, id)) = apart.outliving.due.first().copied().filter(|(at, _)| *at <= now) {
            apart.outliving.due.remove(&(at, id));
            let Some(outlived) = apart.outliving.all.get_mut(&id) else { continue };
            outlived.told.why = Some(Why::TimeLimit);
            self.news.push_back(News::Overdue { id, pid: NONE });
            apart.cgroups.terminate(now + grace, id, NO_GROUP);
        }
        apart.cgroups.on_time(now);
        self.look_at_emptied(now);
    }

    /// Makes some cgroups ahead, or removes some, a little in each turn: in idle ones, and in others if it can wait no longer. Whether
    /// there was something to do.
    pub fn tend_cgroups_idly(&mut self, now: Instant, is_idle: bool) -> bool {
        let next_id = self.next_id;
        let has_tended = self.apart.as_mut().is_some_and(|apart| apart.cgroups.tend(now, next_id, is_idle));
        if has_tended {
            self.look_at_emptied(now);
        }
        has_tended
    }

    /// Ends what has outlived a command. `None` if there is nothing of this number.
    pub(super) fn stop_outlived(&mut self, now: Instant, id: u64, is_forced: bool) -> Option<(i32, bool)> {
        let (grace, limit) = (self.times.grace(), self.times.limit());
        let Apart { cgroups, outliving, .. } = self.apart.as_mut()?;
        let is_news = outliving.all.get_mut(&id)?.told.ask(is_forced);
        if is_news {
            outliving.forget_limit(id, limit);
            match is_forced {
                true => cgroups.kill(now, id),
                false => cgroups.terminate(now + grace, id, NO_GROUP),
            }
        }
        Some((NONE, is_news))
    }

    /// A command of connection `id`, which leads this group, is told to end: so is the rest of its cgroup, of which nothing lives longer.
    pub(super) fn terminate_cgroup(&mut self, now: Instant, id: u64, group: i32) {
        let grace = self.times.grace();
        if let Some(apart) = &mut self.apart {
            apart.cgroups.terminate(now + grace, id, group);
        }
    }

    /// Ends all of connection `id` at once.
    pub(super) fn kill_cgroup(&mut self, now: Instant, id: u64) {
        self.apart.iter_mut().for_each(|apart| apart.cgroups.kill(now, id));
    }

    /// How many connections have outlived their commands.
    pub(super) fn outliving(&self) -> usize {
        self.apart.as_ref().map_or(0, |apart| apart.outliving.all.len())
    }

    /// Removes the cgroups that nobody is in, for this daemon ends.
    pub fn leave_cgroups(&mut self) {
        self.apart.iter_mut().for_each(|apart| apart.cgroups.leave());
    }
}
