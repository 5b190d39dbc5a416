//! Processes of the service that are no commands: what commands have started, and may have left behind. A stop ends them, too,
//! since under `KillMode=process` nobody else does.
//!
//! Only the cgroup knows them. It is read again and again, because each may start others between two looks, and it is empty
//! when it lists nobody but this process. cgroup.kill would end this process as well, and so would freezing.
//!
//! A signal never reaches whoever has a number by now: a pidfd is opened for a process that the cgroup lists, and used if the
//! cgroup lists that number still. Either it is the same process, or the number's owner is in the cgroup, too, or the signal
//! finds nobody.
#![forbid(unsafe_code)]

use super::cgroup::{Cgroup, is_gone};
use crate::sys::process::{pidfd, send_signal};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

/// Signals sent in one look, and descriptors that it needs: a look must not keep the loop.
const MAX_AT_ONCE: usize = 256;
/// Time between two looks at processes that have been told: the first, and the longest, as long as nothing changes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// What is known of them.
#[derive(Debug, Default)]
pub struct Strays {
    /// Those of the last look.
    listed: HashSet<i32>,
    /// Those of them that have been sent this signal.
    told: HashSet<i32>,
    signal: Option<Signal>,
    /// Whether the last look could see them.
    is_known: bool,
    /// When to look again.
    next: Option<Instant>,
    pause: Duration,
}

/// The processes in this cgroup but ourselves.
fn others(cgroup: &Cgroup) -> io::Result<Vec<i32>> {
    let own = std::process::id() as i32;
    match cgroup.members() {
        Ok(members) => Ok(members.into_iter().filter(|pid| *pid != own).collect()),
        // A cgroup that is gone is empty.
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl Strays {
    /// Looks, and sends `signal` to each that it has not been sent to yet. `is_ours` says of a number whether it is no stray. How
    /// many there are; if the cgroup cannot be read now (no descriptor is left), as many as there were, and one at least.
    pub fn look(
        &mut self,
        now: Instant,
        cgroup: &Cgroup,
        signal: Option<Signal>,
        is_ours: impl Fn(i32) -> bool,
    ) -> usize {
        if self.signal != signal {
            (self.signal, self.pause) = (signal, PAUSE.0);
            self.told.clear();
        }
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        self.next = Some(now + self.pause);
        let found = others(cgroup);
        self.is_known = found.is_ok();
        let Ok(found) = found else { return self.len() };
        let found: HashSet<i32> = found.into_iter().filter(|pid| !is_ours(*pid)).collect();
        self.told.retain(|pid| found.contains(pid));
        let is_new = found.iter().any(|pid| !self.listed.contains(pid));
        self.listed = found;
        let Some(signal) = signal else { return self.len() };
        if self.told.len() == self.listed.len() && signal == Signal::SIGKILL {
            self.told.clear(); // one of them may have another's number
        }
        let untold: Vec<i32> = self.listed.difference(&self.told).copied().take(MAX_AT_ONCE).collect();
        let before = self.told.len();
        // If that fails, the next look does it.
        let _ = self.send(cgroup, &untold, signal);
        let has_more = self.told.len() < self.listed.len() && self.told.len() > before;
        // A chain of processes that start each other is caught by whoever looks more often than they start.
        if has_more || (is_new && signal == Signal::SIGKILL) {
            self.next = Some(now);
        }
        self.len()
    }

    fn send(&mut self, cgroup: &Cgroup, pids: &[i32], signal: Signal) -> io::Result<()> {
        if pids.is_empty() {
            return Ok(());
        }
        let opened: Vec<_> = pids.iter().map(|pid| (*pid, pidfd(*pid))).collect();
        let listed: HashSet<i32> = others(cgroup)?.into_iter().collect();
        for (pid, pidfd) in opened.into_iter().filter(|(pid, _)| listed.contains(pid)) {
            match pidfd {
                Ok(pidfd) => drop(send_signal(&pidfd, signal as i32, false)),
                // The next look has them again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                // A system that has no pidfds, or keeps them from us.
                Err(_) => drop::<Result<(), Errno>>(kill(Pid::from_raw(pid), signal)),
            }
            self.told.insert(pid);
        }
        Ok(())
    }

    /// How many there were at the last look.
    pub fn len(&self) -> usize {
        self.listed.len().max(usize::from(!self.is_known))
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When to look again; `None` before the first look.
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }
}
