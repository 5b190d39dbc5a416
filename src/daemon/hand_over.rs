//! From one daemon to the next, so that a restart, an upgrade or a crash cuts nobody and the caps stay exact.
//!
//! Commands simply go on (`KillMode=process`); the next daemon finds them in its cgroup, whatever became of this one.
//! At an orderly hand-over the waiting clients and what was counted go into the manager's store
//! (sd_notify(3), FDSTORE=1), so nothing is sent to the manager while connections are served.
#![forbid(unsafe_code)]

use super::run::Daemon;
use crate::child::Adopted;
use crate::child::survivors::{self, Found};
use crate::child::watched::Watched;
use crate::listen::accept::Connection;
use crate::listen::adopt::{self, Stored};
use crate::listen::waiting::Held;
use crate::observe::event::{Counters, Event, How};
use crate::observe::report::Ended;
use crate::policy::gate::Arrival;
use crate::policy::reason::Reason;
use crate::policy::source::Source;
use crate::poll::Watch;
use nix::sys::epoll::EpollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The first line of a state that this version can read.
const VERSION: &str = "sockcap-state 1";
/// How often processes are looked at whose end is no event.
const LOOK: Duration = Duration::from_secs(1);
/// More than a state of a million commands.
const LONGEST_STATE: u64 = 64 << 20;

/// What an earlier daemon has left to this one.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// Clients that were waiting, in their order.
    pub(super) held: Vec<Stored>,
    /// What it wrote down.
    pub(super) state: Option<OwnedFd>,
}

/// What an earlier daemon wrote down.
#[derive(Debug, Default, PartialEq)]
struct Past {
    next_id: u64,
    next_ticket: u64,
    counters: Counters,
    /// Clients that were waiting.
    held: usize,
    /// Labels of its listeners, by position.
    listeners: Vec<String>,
    /// All commands that it left running, by pid.
    commands: HashMap<i32, Left>,
}

/// What a daemon knew of a command that it left running.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    id: Option<u64>,
    /// Position of its listener.
    listener: Option<usize>,
    source: Source,
}

impl Left {
    fn parse(mut words: std::str::SplitWhitespace) -> Option<Left> {
        let mut word = || words.next();
        let id = known(word()?)?;
        Some(Left { id, listener: known(word()?)?, source: word()?.parse().ok()? })
    }
}

/// A number, or `-` for one that is not known.
fn known<N: std::str::FromStr>(word: &str) -> Option<Option<N>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

/// The reverse of [`known`].
fn or_dash<N: std::fmt::Display>(number: Option<N>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

impl Past {
    fn read(fd: OwnedFd) -> Option<Past> {
        let (mut file, mut text) = (File::from(fd), String::new());
        file.rewind().ok()?;
        file.take(LONGEST_STATE).read_to_string(&mut text).ok()?;
        Past::parse(&text)
    }

    /// `None` for another version's state: then what runs is counted all the same.
    fn parse(text: &str) -> Option<Past> {
        let mut lines = text.strip_prefix(VERSION)?.strip_prefix('\n')?.lines();
        let mut past = Past::default();
        let mut numbers = |name: &str| -> Option<Vec<u64>> {
            let numbers = lines.next()?.strip_prefix(name)?;
            numbers.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        [past.next_id, past.next_ticket] = numbers("next")?.try_into().ok()?;
        let [accepted, served, gone, longest_wait_usec] = numbers("counters")?.try_into().ok()?;
        let [held] = numbers("held")?.try_into().ok()?;
        past.held = usize::try_from(held).ok()?;
        past.counters = Counters { accepted, served, gone, longest_wait_usec, ..Counters::default() };
        for line in lines {
            let (kind, rest) = line.split_once(' ')?;
            match kind {
                "refused" => {
                    let (slug, count) = rest.split_once(' ')?;
                    // A reason that this version does not know would unbalance the sums.
                    let reason = Reason::ALL.into_iter().find(|reason| reason.slug() == slug)?;
                    past.counters.refused[reason.index()] = count.parse().ok()?;
                }
                "listener" => past.listeners.push(rest.to_owned()),
                "command" => {
                    let mut words = rest.split_whitespace();
                    past.commands.insert(words.next()?.parse().ok()?, Left::parse(words)?);
                }
                _ => return None,
            }
        }
        Some(past)
    }
}

impl Daemon {
    /// Counts what an earlier daemon has left running, and gives its waiting clients their places again.
    pub(super) fn take_over(&mut self, now: Instant, inheritance: Inheritance) {
        let Inheritance { held, state } = inheritance;
        let was_handed_over = state.is_some();
        let past = state.and_then(Past::read);
        let names = past.as_ref().map(|past| past.listeners.clone()).unwrap_or_default();
        if let Some(past) = &past {
            self.next_id = past.next_id;
            self.waiting.go_on_from(past.next_ticket);
            self.report.go_on_from(past.counters);
        }
        let is_command = |pid| past.as_ref().map(|past| past.commands.contains_key(&pid));
        let session = self.settings.session;
        let found = match self.cgroup.as_deref().map(|cgroup| survivors::commands(cgroup, session, is_command)) {
            None => Vec::new(),
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                self.report.tell(Event::NotFound { error: crate::sys::plain(&error) });
                Vec::new()
            }
        };
        let (running, waiting) = (found.len(), held.len());
        if let Some(past) = &past {
            // They ended, or left, while there was no daemon to see it; the manager closes a connection whose client has left.
            self.report.ended_unseen(past.commands.len().saturating_sub(running) as u64);
            self.report.gone(past.held.saturating_sub(waiting) as u64);
        }
        let mut unknown = 0;
        for Found { process, age, mark } in found {
            let pid = process.pid();
            let left = past.as_ref().and_then(|past| past.commands.get(&pid));
            let id = mark.as_ref().map(|mark| mark.id).or(left.and_then(|left| left.id));
            let label = mark.as_ref().map(|mark| mark.listener.as_str());
            let label = label.or(left.and_then(|left| Some(names.get(left.listener?)?.as_str())));
            let listener = self.listeners.labelled(label);
            unknown += usize::from(id.is_none());
            self.next_id = self.next_id.max(id.unwrap_or(0).saturating_add(1));
            if past.is_none() {
                self.report.accepted(); // otherwise the earlier daemon has counted it
            }
            let source = mark.map(|mark| mark.source).or(left.map(|left| left.source)).unwrap_or(Source::Unknown);
            let since = now.checked_sub(age).unwrap_or(now);
            let slot = Some(self.gate.adopt(now, listener, source, &mut self.actions));
            self.adopt(now, Adopted { process, in_poll_set: false, id, slot, since });
        }
        for Stored { name, ticket, waited_usec, listener, fd } in held {
            // The manager's copy would keep the connection open after the command's end.
            self.notify.forget(now, &name);
            if past.is_none() {
                self.report.accepted();
            }
            let listener = self.listeners.labelled(names.get(listener).map(String::as_str)).unwrap_or(0);
            self.waiting.go_on_from(ticket.saturating_add(1));
            match Connection::restored(fd, listener, waited_usec) {
                Ok(connection) => {
                    let (source, since) = (connection.peer.source(), connection.since(now));
                    self.judge(now, Arrival { ticket, listener, source, since }, connection);
                }
                Err(_) => self.report.gone(1),
            }
        }
        self.carry_out(now);
        if was_handed_over {
            self.notify.forget(now, adopt::STATE);
        }
        if running + waiting > 0 {
            self.report.tell(Event::TakenOver { running, unknown, waiting });
        }
    }

    /// Watches a process that is not our child.
    pub(super) fn adopt(&mut self, now: Instant, mut adopted: Adopted) {
        let pid = adopted.process.pid();
        adopted.in_poll_set = self.watch_end(&adopted.process);
        if !adopted.in_poll_set {
            self.look_at.get_or_insert(now + LOOK);
        }
        if adopted.slot.is_some() {
            self.watch_time(pid, adopted.since);
        }
        self.adopted.insert(pid, adopted);
    }

    /// Whether its end will be an event: neither is sure, a pidfd or a place in the poll set.
    fn watch_end(&self, process: &Watched) -> bool {
        let watch = Watch::Adopted(process.pid());
        process.pidfd().is_some_and(|pidfd| self.poll.add(pidfd, watch, EpollFlags::EPOLLIN).is_ok())
    }

    /// Looks at the adopted processes whose end is no event, and tries again to make it one.
    pub(super) fn look_at_adopted(&mut self, now: Instant) {
        let all = self.adopted.iter().filter(|(_, adopted)| !adopted.in_poll_set).map(|(pid, _)| *pid);
        for pid in all.collect::<Vec<_>>() {
            let Some(mut adopted) = self.adopted.remove(&pid) else { continue };
            let has_ended = adopted.process.has_ended();
            if !has_ended && (adopted.process.pidfd().is_some() || adopted.process.try_pidfd()) {
                adopted.in_poll_set = self.watch_end(&adopted.process);
            }
            if !adopted.in_poll_set {
                self.look_at = Some(now + LOOK);
            }
            self.adopted.insert(pid, adopted);
            if has_ended {
                self.adopted_ended(now, pid);
            }
        }
    }

    /// An adopted process has ended.
    pub(super) fn adopted_ended(&mut self, now: Instant, pid: i32) {
        let Some(adopted) = self.adopted.remove(&pid) else { return };
        if let Some(pidfd) = adopted.process.pidfd().filter(|_| adopted.in_poll_set) {
            let _ = self.poll.delete(pidfd);
        }
        self.unwatch_time(pid, adopted.since);
        let Some(slot) = adopted.slot else { return };
        self.gate.ended(now, slot, &mut self.actions);
        let (id, after) = (adopted.id.unwrap_or(0), now - adopted.since);
        self.report.ended(Ended { id, pid, how: How::Unknown, after, waited: None, usage: None });
    }

    /// Whether the manager will start another daemon with what this one leaves: it has to be the one that passed all sockets.
    pub(super) fn can_hand_over(&self) -> bool {
        self.notify.is_enabled() && self.listeners.iter().all(|listener| !listener.is_own)
    }

    /// Leaves everything to the next daemon, as far as the manager takes it by then. Returns how many clients wait there.
    pub(super) fn leave_behind(&mut self, now: Instant, until: Instant) -> usize {
        self.reap_all(now);
        self.carry_out(now);
        let written = self.write_state();
        let held = self.waiting.take_all();
        // Without the state the next daemon still serves who waits, and counts from there.
        let mut trouble = written.and_then(|state| self.notify.store(adopt::STATE, state.as_fd(), until)).err();
        let mut lost = 0;
        for Held { who, connection } in &held {
            let waited = now.saturating_duration_since(who.since).as_micros();
            let name = format!("{}{}-{waited}-{}", adopt::HELD, who.ticket, who.listener);
            if let Err(error) = self.notify.store(&name, connection.fd.as_fd(), until) {
                lost += 1;
                trouble.get_or_insert(error);
            }
        }
        if let Some(error) = trouble {
            self.report.tell(Event::NotStored { waiting: lost, error: crate::sys::plain(&error) });
        }
        held.len() - lost
    }

    fn write_state(&self) -> io::Result<File> {
        let mut text = format!("{VERSION}\nnext {} {}\n", self.next_id, self.waiting.next_ticket());
        let Counters { accepted, served, gone, longest_wait_usec, refused } = *self.report.counters();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "counters {accepted} {served} {gone} {longest_wait_usec}\nheld {}", self.waiting.len());
        for reason in Reason::ALL {
            let _ = writeln!(text, "refused {} {}", reason.slug(), refused[reason.index()]);
        }
        for listener in self.listeners.iter() {
            let _ = writeln!(text, "listener {}", listener.label);
        }
        for child in self.children.iter() {
            let (listener, source) = (or_dash(child.slot.listener()), child.slot.source());
            let _ = writeln!(text, "command {} {} {listener} {source}", child.pid, child.id);
        }
        for (pid, adopted) in &self.adopted {
            let Some(slot) = &adopted.slot else { continue };
            let (id, listener, source) = (or_dash(adopted.id), or_dash(slot.listener()), slot.source());
            let _ = writeln!(text, "command {pid} {id} {listener} {source}");
        }
        let mut file = File::from(memfd_create(c"sockcap-state", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_or_not_at_all() {
        let text = "sockcap-state 1\nnext 18 40\ncounters 20 9 1 1500\nheld 3\nrefused total-limit 4\nlistener a b\n\
                    command 4242 17 0 192.0.2.1\ncommand 4243 - - ?\n";
        let past = Past::parse(text).unwrap();
        assert_eq!((past.next_id, past.next_ticket, past.held), (18, 40, 3));
        assert_eq!((past.counters.accepted, past.counters.refused_by_limits()), (20, 4));
        let (source, nobody) = (Source::ip("192.0.2.1".parse().unwrap()), Source::Unknown);
        let known = (4242, Left { id: Some(17), listener: Some(0), source });
        let unknown = (4243, Left { id: None, listener: None, source: nobody });
        assert_eq!((past.listeners, past.commands), (vec!["a b".into()], HashMap::from([known, unknown])));
        for bad in [
            "",
            "sockcap-state 2\n",
            "sockcap-state 1\nnext 1\n",
            &text.replace("total", "new"),
            &text.replace("9", "x"),
            &text.replace("held 3\n", ""),
            &text.replace(" ?", ""),
        ] {
            assert_eq!(Past::parse(bad), None, "{bad}");
        }
    }
}
