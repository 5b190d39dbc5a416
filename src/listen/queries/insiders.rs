//! Whether somebody who asks is one of the service's own processes: a command, that is, which may do what its client wants, though it has
//! the daemon's user.
//!
//! The manager has put the service into a cgroup (cgroups(7)), and a process without privileges leaves neither that nor what is below it.
//! Who connected is looked at when it is accepted. It must live by then, since its number could be another one's after its end; the kernel
//! keeps it with the connection since Linux 6.5 (SO_PEERPIDFD). Who cannot be seen (`ProtectProc=`) is told by its user.
#![forbid(unsafe_code)]

use crate::sys::process::may_become_root;
use crate::sys::socket::peer_is_alive;
use std::fs;
use std::os::fd::BorrowedFd;

/// What the service's processes are known by.
#[derive(Debug, Default)]
pub enum Insiders {
    /// No manager has started this process, and nobody is known.
    #[default]
    Unknown,
    /// This line of proc_pid_cgroup(5), or one below it.
    Below(String),
    /// There is one, which cannot be read here.
    Hidden,
}

impl Insiders {
    /// Whether who connected is one of them, as far as that can be told; who cannot be told from a command is taken for one.
    pub(super) fn include(&self, connection: BorrowedFd, pid: i32, uid: u32) -> bool {
        // In no namespace that a command could be in.
        if pid == 0 {
            return false;
        }
        let seen = match self {
            Insiders::Unknown => return false,
            Insiders::Below(line) => is_below(line, pid).filter(|_| peer_is_alive(connection)),
            Insiders::Hidden => None,
        };
        seen.unwrap_or_else(|| uid == nix::unistd::geteuid().as_raw() || may_become_root())
    }
}

/// Whether this process is in the cgroup of this line, or below; `None` if it has gone or is hidden.
fn is_below(line: &str, pid: i32) -> Option<bool> {
    let text = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    Some(String::from_utf8_lossy(&text).lines().any(|other| is_part(other, line)))
}

/// By whole names. A path that leads up is that of somebody outside of our cgroup namespace.
fn is_part(other: &str, line: &str) -> bool {
    other
        .strip_prefix(line.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && rest != "/.." && !rest.starts_with("/../")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn below_is_by_whole_names() {
        let line = "0::/system.slice/a.service";
        for (other, is) in [
            ("0::/system.slice/a.service", true),
            ("0::/system.slice/a.service/conn-1", true),
            ("0::/system.slice/a.service (deleted)", false),
            ("0::/system.slice/a.service2", false),
            ("0::/system.slice", false),
            ("1:name=systemd:/system.slice/a.service", false),
        ] {
            assert_eq!(is_part(other, line), is, "{other}");
        }
        for (other, is) in [("0::/", true), ("0::/conn-1", true), ("0::/..", false), ("0::/../b.service", false)] {
            assert_eq!(is_part(other, "0::/"), is, "{other}");
        }
    }

    /// Who lives is told by its cgroup, who has ended by its user, and without a manager nobody is.
    #[test]
    fn who_asks_is_told_by_its_cgroup() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (pid, uid) = (std::process::id() as i32, nix::unistd::geteuid().as_raw());
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let line = text.lines().next().unwrap().to_owned();
        let ours = |insiders: Insiders, pid| insiders.include(one.as_fd(), pid, uid);
        assert!(ours(Insiders::Below(line.clone()), pid));
        assert!(!ours(Insiders::Below(format!("{line}/nowhere")), pid));
        assert!(!ours(Insiders::Unknown, pid));
        assert!(ours(Insiders::Hidden, pid));
        assert!(!ours(Insiders::Hidden, 0));
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert!(ours(Insiders::Below(format!("{line}/nowhere")), gone.id() as i32), "nobody can tell any more");
    }
}
