//! The manager's side: READY=1, STATUS=, STOPPING=1, WATCHDOG=1, EXTEND_TIMEOUT_USEC= (sd_notify(3)).
//!
//! Without NOTIFY_SOCKET nothing is sent. An error is of no use to anybody here: the manager that
//! does not listen will notice by itself.
#![forbid(unsafe_code)]

use libsystemd::daemon::{self, NotifyState};
use std::env;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// STATUS= is sent at most this often.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What the status line tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Commands running.
    pub active: u32,
    /// The limit; 0 is none.
    pub max: u32,
    /// Held, and in the kernel's queues.
    pub waiting: u32,
    /// Seconds that the longest of the held has waited.
    pub longest: Option<u64>,
    /// Refused since the start.
    pub refused: u64,
    /// While stopping: seconds until the living are killed.
    pub stopping: Option<u64>,
}

impl Status {
    fn text(&self) -> String {
        let Status { active, max, waiting, longest, refused, stopping } = *self;
        let max = super::words::limit(max);
        let longest = longest.map_or(String::new(), |seconds| format!(" (longest {seconds} s)"));
        match stopping {
            None => format!("{active}/{max} active, {waiting} waiting{longest}, {refused} refused"),
            Some(seconds) => format!("stopping: {active} active, killed in at most {seconds} s"),
        }
    }
}

/// The line to the manager.
#[derive(Debug)]
pub struct Notify {
    enabled: bool,
    /// Open all the time: a watchdog that is not fed for lack of descriptors would end a daemon that is well.
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    next_watchdog: Option<Instant>,
    last: Option<(Status, Instant)>,
}

impl Notify {
    /// As the environment says.
    pub fn from_environment(now: Instant) -> Self {
        let name = env::var_os("NOTIFY_SOCKET");
        let enabled = name.is_some();
        let address = name.and_then(|name| match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let manager = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        // Half the period, as sd_watchdog_enabled(3) advises; a period under 1 ms comes as zero.
        let watchdog = daemon::watchdog_enabled(false).filter(|_| enabled);
        let watchdog = watchdog.map(|period| (period / 2).max(Duration::from_millis(1)));
        Notify { enabled, manager, watchdog, next_watchdog: watchdog.map(|half| now + half), last: None }
    }

    fn send(&self, state: &[NotifyState]) {
        if let Some((socket, manager)) = &self.manager {
            let text: String = state.iter().map(|state| format!("{state}\n")).collect();
            let _ = socket.send_to_addr(text.as_bytes(), manager);
        }
    }

    /// The sockets are served.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// No more connections are taken.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// The stop may take this much longer, from now.
    pub fn extend_timeout(&self, by: Duration) {
        self.send(&[NotifyState::Other(format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))]);
    }

    /// Whether a manager listens.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Leaves a descriptor with the manager under this name (`FileDescriptorStoreMax=`, systemd.service(5)).
    ///
    /// # Errors
    /// If it cannot be sent; a manager whose store is full or off says nothing.
    pub fn store(&self, name: &str, fd: BorrowedFd) -> io::Result<()> {
        let state = [NotifyState::Fdstore, NotifyState::Fdname(name.to_owned())];
        daemon::notify_with_fds(false, &state, &[fd.as_raw_fd()]).map_err(io::Error::other)?;
        Ok(())
    }

    /// Takes what has this name out of the manager's store.
    pub fn forget(&self, name: &str) {
        self.send(&[NotifyState::FdstoreRemove, NotifyState::Fdname(name.to_owned())]);
    }

    /// Whether a status would be sent now, if it has changed.
    pub fn status_is_due(&self, now: Instant) -> bool {
        self.enabled && self.last.is_none_or(|(_, at)| now >= at + STATUS_INTERVAL)
    }

    /// When a status that could not be sent yet may be.
    pub fn status_deadline(&self) -> Option<Instant> {
        self.last.filter(|_| self.enabled).map(|(_, at)| at + STATUS_INTERVAL)
    }

    /// Whether the last status sent had these numbers, and nobody waiting who may have been served since.
    pub fn was_told(&self, active: u32, refused: u64) -> bool {
        self.last.is_some_and(|(last, _)| last.active == active && last.refused == refused && last.waiting == 0)
    }

    /// Sends the status if it is new. Call it when [`Notify::status_is_due`].
    pub fn status(&mut self, now: Instant, status: Status) {
        if self.last.is_none_or(|(last, _)| last != status) {
            self.send(&[NotifyState::Status(status.text())]);
            self.last = Some((status, now));
        }
    }

    /// Sends WATCHDOG=1 if half the period has passed. Called by the loop itself, so that a loop that
    /// hangs is noticed.
    pub fn watchdog(&mut self, now: Instant) {
        if let (Some(half), Some(at)) = (self.watchdog, self.next_watchdog) {
            if at <= now {
                self.send(&[NotifyState::Watchdog]);
                self.next_watchdog = Some(now + half);
            }
        }
    }

    /// When the next WATCHDOG=1 is due.
    pub fn watchdog_deadline(&self) -> Option<Instant> {
        self.next_watchdog
    }
}
