//! The manager's side: READY=1, STATUS=, STOPPING=1, WATCHDOG=1, EXTEND_TIMEOUT_USEC=, FDSTORE=1 (sd_notify(3)).
//!
//! Nothing here waits for the manager while clients are served: its socket is full when it is busy, stopped or frozen, and one
//! queue is shared by all services. What must reach it is kept, in order, until it goes; a status that did not go was not sent.
//! Without NOTIFY_SOCKET nothing is sent, and with nobody at its address nothing is kept.
#![forbid(unsafe_code)]

use super::tally::Counters;
use crate::policy::least::least;
use crate::policy::reason::{Reason, Refusal};
use libsystemd::daemon;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// STATUS= is sent at most this often.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// What the manager did not take is sent again after this time, or after a part of the watchdog's period if that is shorter.
const RETRY: Duration = Duration::from_millis(100);
/// The only wait for the manager, in total: at the end, when nobody is served any more.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Reasons that the status line tells of.
const REASONS: usize = 3;
/// Bytes of it that are shown beside `Status: ""` in 160 columns. Reasons are left out that would make it longer.
const WIDTH: usize = 146;

/// What the status line tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    /// Commands running.
    pub active: u32,
    /// The limit; 0 is none.
    pub max: u32,
    /// Held, and in the kernel's queues.
    pub waiting: u32,
    /// Seconds that the longest of the held has waited.
    pub longest: Option<u64>,
    /// Refused since the start, by reason; those whose command could not be started among them.
    pub refused: [u64; Reason::ALL.len()],
    /// Served since the start: their commands have ended.
    pub served: u64,
    /// What lets no second and further command start, if anything does.
    pub closed: Option<Refusal>,
    /// Whether no command starts since that was asked for.
    pub is_drained: bool,
    /// While stopping: seconds until the living are killed.
    pub stopping: Option<u64>,
}

impl Status {
    /// Whether these are the counters that it tells.
    fn counts(&self, counters: &Counters) -> bool {
        (self.refused, self.served) == (counters.total.refused, counters.total.served)
    }

    fn text(&self) -> String {
        let Status { active, max, waiting, longest, refused, served, closed, is_drained, stopping } = *self;
        if let Some(seconds) = stopping {
            return format!("stopping: {active} active, killed in at most {seconds} s");
        }
        let drained = if is_drained { "drained: " } else { "" };
        let max = super::words::limit(max);
        let longest = longest.map_or(String::new(), |seconds| format!(" (longest {seconds} s)"));
        let failed = match refused[Reason::START_FAILED.index()] {
            0 => String::new(),
            failed => format!(", {failed} failed to start"),
        };
        let closed = closed.map_or(String::new(), |why| format!("; not starting further commands: {why}"));
        let before = format!("{drained}{active}/{max} active, {waiting} waiting{longest}, ");
        let after = format!(", {served} served{failed}{closed}");
        let refusals = self.refusals(WIDTH.saturating_sub(before.len() + after.len()));
        before + &refusals + &after
    }

    /// How many were refused by limits, and for which reasons most of them, as far as there is room for so many bytes.
    fn refusals(&self, room: usize) -> String {
        let counts = Reason::ALL.into_iter().filter(|reason| *reason != Reason::START_FAILED);
        let counts = counts.map(|reason| (self.refused[reason.index()], reason.index()));
        let sum: u64 = counts.clone().map(|(count, _)| count).sum();
        let some = counts.filter(|(count, _)| *count > 0).map(|(count, at)| (Reverse(count), at));
        let mut text = format!("{sum} refused");
        let mut end = "";
        for (Reverse(count), at) in least(some, REASONS) {
            let before = if end.is_empty() { " (" } else { ", " };
            let one = format!("{before}{count} {}", Reason::ALL[at].summary());
            if text.len() + one.len() >= room {
                break;
            }
            text += &one;
            end = ")";
        }
        text + end
    }
}

/// The manager's socket. Open all the time: a watchdog that is not fed for lack of descriptors would end a daemon that is well.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl Manager {
    fn new(name: &OsStr) -> Option<Manager> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name),
            None => UnixAddr::new(name),
        };
        Some(Manager { socket: UnixDatagram::unbound().ok()?, address: address.ok()? })
    }

    /// Sends one message; waits until `until` at the longest, or not at all.
    fn send(&self, text: &str, fd: Option<BorrowedFd>, until: Option<Instant>) -> Result<(), Errno> {
        loop {
            // A wait with a time limit is not restarted when the process was stopped meanwhile (signal(7)).
            match self.try_send(text, fd, until) {
                Err(Errno::EINTR) if until.is_some() => {}
                sent => return sent,
            }
        }
    }

    fn try_send(&self, text: &str, fd: Option<BorrowedFd>, until: Option<Instant>) -> Result<(), Errno> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        // Without its time limit a wait would have no end.
        let waits = left.is_some() && self.socket.set_write_timeout(left).is_ok();
        let flags = MsgFlags::MSG_NOSIGNAL | if waits { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg(self.socket.as_raw_fd(), &text, rights.as_slice(), flags, Some(&self.address)).map(drop)
    }
}

/// Whether the manager has no room for a message now, as opposed to not being there.
fn is_busy(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EINTR)
}

/// The line to the manager.
#[derive(Debug)]
pub struct Notify {
    enabled: bool,
    manager: Option<Manager>,
    /// What has not gone yet, oldest first. At most one READY, one STOPPING, one EXTEND_TIMEOUT_USEC, and what is to be forgotten.
    pending: VecDeque<String>,
    retry: Duration,
    retry_at: Option<Instant>,
    /// Half the watchdog's period.
    watchdog: Option<Duration>,
    next_watchdog: Option<Instant>,
    /// Whether the manager's store has the daemon's state; `None`: there is no store.
    pub is_stored: Option<bool>,
    /// The last status that went.
    last: Option<Status>,
    /// When a status was last tried.
    status_at: Option<Instant>,
    /// When it was last looked whether there is a new one.
    looked_at: Option<Instant>,
}

impl Notify {
    /// As the environment says.
    pub fn from_environment(now: Instant) -> Self {
        let name = env::var_os("NOTIFY_SOCKET");
        let watchdog = daemon::watchdog_enabled(false).filter(|_| name.is_some());
        Notify::new(name.as_deref(), watchdog, now)
    }

    fn new(name: Option<&OsStr>, watchdog: Option<Duration>, now: Instant) -> Self {
        // Half the period, as sd_watchdog_enabled(3) advises; a period under 1 ms comes as zero.
        let watchdog = watchdog.map(|period| (period / 2).max(Duration::from_millis(1)));
        Notify {
            enabled: name.is_some(),
            manager: name.and_then(Manager::new),
            pending: VecDeque::new(),
            retry: watchdog.map_or(RETRY, |half| RETRY.min(half / 4).max(Duration::from_millis(1))),
            retry_at: None,
            watchdog,
            next_watchdog: watchdog.map(|half| now + half),
            is_stored: None,
            last: None,
            status_at: None,
            looked_at: None,
        }
    }

    /// Whether this is done with: sent, or nobody is there to take it. `false`: the manager has no room for it now.
    fn send(&self, text: &str) -> bool {
        let Some(manager) = &self.manager else { return true };
        manager.send(text, None, None).map_or_else(|errno| !is_busy(errno), |()| true)
    }

    /// Sends what waits, as far as the manager takes it. Whether nothing waits any more.
    fn flush(&mut self, now: Instant) -> bool {
        while self.pending.front().is_some_and(|text| self.send(text)) {
            self.pending.pop_front();
        }
        self.retry_at = (!self.pending.is_empty()).then(|| now + self.retry);
        self.pending.is_empty()
    }

    fn keep(&mut self, now: Instant, text: String) {
        self.pending.push_back(text);
        self.flush(now);
    }

    /// The sockets are served.
    pub fn ready(&mut self, now: Instant) {
        self.keep(now, "READY=1\n".into());
    }

    /// No more connections are taken.
    pub fn stopping(&mut self, now: Instant) {
        self.keep(now, "STOPPING=1\n".into());
    }

    /// The stop may take this much longer, from when the manager reads it.
    pub fn extend_timeout(&mut self, now: Instant, by: Duration) {
        const NAME: &str = "EXTEND_TIMEOUT_USEC=";
        self.pending.retain(|text| !text.starts_with(NAME));
        self.keep(now, format!("{NAME}{}\n", by.as_micros()));
    }

    /// Whether a manager listens.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The end of the time that all [`Notify::store`] and [`Notify::finish`] together may take, if they begin now.
    pub fn last_words_end() -> Instant {
        Instant::now() + LAST_WORDS
    }

    /// Leaves a descriptor with the manager under this name (`FileDescriptorStoreMax=`, systemd.service(5)). Waits for the
    /// manager, but not beyond `until`.
    ///
    /// # Errors
    /// If it cannot be sent; a manager whose store is full or off says nothing.
    pub fn store(&mut self, name: &str, fd: BorrowedFd, until: Instant) -> io::Result<()> {
        // What has this name in the store may still be waiting to be forgotten, which must not come after this.
        let has_gone = self.finish(until);
        let manager = self.manager.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let text = format!("FDSTORE=1\nFDNAME={name}\n");
        match if has_gone { manager.send(&text, Some(fd), Some(until)) } else { Err(Errno::EAGAIN) } {
            Err(Errno::EAGAIN) => {
                let span = LAST_WORDS.as_secs();
                let text = format!("the service manager did not read its socket for {span} s");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
            sent => sent.map_err(io::Error::from),
        }
    }

    /// Takes what has this name out of the manager's store.
    pub fn forget(&mut self, now: Instant, name: &str) {
        self.keep(now, format!("FDSTOREREMOVE=1\nFDNAME={name}\n"));
    }

    /// Sends what waits; waits for the manager, but not beyond `until`. Whether nothing waits any more.
    pub fn finish(&mut self, until: Instant) -> bool {
        let Some(manager) = &self.manager else { return true };
        while let Some(text) = self.pending.front() {
            if manager.send(text, None, Some(until)).is_err_and(is_busy) {
                return false;
            }
            self.pending.pop_front();
        }
        true
    }

    /// What the last status told may have changed otherwise than by what [`Notify::was_told`] is asked about.
    pub fn status_is_old(&mut self) {
        self.last = None;
    }

    /// Whether a status would be sent now, if it has changed.
    pub fn status_is_due(&self, now: Instant) -> bool {
        self.enabled && self.status_at.is_none_or(|at| now >= at + STATUS_INTERVAL)
    }

    /// When a status that could not be sent yet may be, or one that was not new is looked at again.
    pub fn status_deadline(&self) -> Option<Instant> {
        self.looked_at.filter(|_| self.enabled).map(|at| at + STATUS_INTERVAL)
    }

    /// Whether the last status that went had these numbers, and nobody waiting who may have been served since.
    pub fn was_told(&self, active: u32, is_drained: bool, counters: &Counters) -> bool {
        let is_same = |last: Status| (last.active, last.is_drained) == (active, is_drained) && last.counts(counters);
        self.last.is_some_and(|last| last.waiting == 0 && is_same(last))
    }

    /// Sends the status if it is new. Call it when [`Notify::status_is_due`].
    pub fn status(&mut self, now: Instant, status: Status) {
        self.looked_at = Some(now);
        if self.last != Some(status) {
            self.status_at = Some(now);
            if self.flush(now) && self.send(&format!("STATUS={}\n", status.text())) {
                self.last = Some(status);
            }
        }
    }

    /// Sends the status of a daemon that has just started. The next, which the first event brings, need not wait for its time.
    pub fn first_status(&mut self, now: Instant, status: Status) {
        self.status(now, status);
        self.status_at = None;
    }

    /// Sends a status for the time after this process: systemd shows it until the next one, also between two starts.
    pub fn last_status(mut self, text: &str) {
        self.pending.push_back(format!("STATUS={text}\n"));
        self.finish(Notify::last_words_end());
    }

    /// Sends what is due: what the manager did not take before, and WATCHDOG=1 if half its period has passed. Called by the
    /// loop itself, so that a loop that hangs is noticed.
    pub fn on_time(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.flush(now);
        }
        if let (Some(half), Some(at)) = (self.watchdog, self.next_watchdog) {
            if at <= now {
                let has_gone = self.flush(now) && self.send("WATCHDOG=1\n");
                self.next_watchdog = Some(now + if has_gone { half } else { self.retry });
            }
        }
    }

    /// When [`Notify::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_watchdog.into_iter().chain(self.retry_at).min()
    }
}

#[cfg(test)]
mod tests;
