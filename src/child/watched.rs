//! Processes that are not our children, which nobody tells us of: the end of each is seen through a pidfd, or is looked for.
#![forbid(unsafe_code)]

use super::proc::Stat;
use crate::sys::process::{has_ended, pidfd};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::os::fd::OwnedFd;

/// A process that is not our child and had not ended when this was made.
#[derive(Debug)]
pub struct Watched {
    pid: i32,
    /// Readable once it has ended. None while it cannot be had: no descriptor or no memory is left for it, or a filter forbids
    /// the call. Such a process runs all the same.
    pidfd: Option<OwnedFd>,
    /// Tells it from a later process of its number.
    stat: Option<Stat>,
}

impl Watched {
    /// `None` if there is no such process, or none that runs.
    pub(super) fn new(pid: i32) -> Option<Watched> {
        let pidfd = match pidfd(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return None,
            pidfd => pidfd.ok(),
        };
        // Read after the pidfd was taken: what is read is of this process if that lives afterwards.
        let stat = Stat::of(pid);
        let watched = Watched { pid, pidfd, stat };
        (!watched.has_ended()).then_some(watched)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What to watch; `None`: it has to be asked again and again ([`Watched::has_ended`]).
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// What /proc said of it, if that may be seen.
    pub(super) fn stat(&self) -> Option<&Stat> {
        self.stat.as_ref()
    }

    /// Whether it has ended, reaped or not.
    pub fn has_ended(&self) -> bool {
        match (&self.pidfd, self.stat) {
            (Some(pidfd), _) => has_ended(pidfd),
            (None, Some(before)) => Stat::of(self.pid).is_none_or(|now| now.is_dead || !now.is_same(&before)),
            (None, None) => kill(Pid::from_raw(self.pid), None) == Err(Errno::ESRCH),
        }
    }

    /// Tries to have a pidfd again. `true`: there is one now.
    pub fn try_pidfd(&mut self) -> bool {
        let Ok(pidfd) = pidfd(self.pid) else { return false };
        // Asked without it: whether the number is still this process's.
        if self.has_ended() {
            return false;
        }
        self.pidfd = Some(pidfd);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn without_a_pidfd_the_end_is_seen_too() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = cat.id() as i32;
        let without = |stat| Watched { pid, pidfd: None, stat };
        let all = [Watched::new(pid).unwrap(), without(Stat::of(pid)), without(None)];
        assert!(all.iter().all(|watched| !watched.has_ended()));
        let earlier = Stat::of(pid).map(|stat| Stat { started: stat.started - 1, ..stat });
        assert!(without(earlier).has_ended(), "another process of this number");
        assert!(without(Stat::of(pid)).try_pidfd());
        cat.kill().unwrap();
        cat.wait().unwrap();
        assert!(all.iter().all(Watched::has_ended));
        assert!(Watched::new(pid).is_none() && !without(None).try_pidfd());
    }
}
