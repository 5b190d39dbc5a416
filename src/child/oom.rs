//! Which commands the kernel has killed since memory was short: those that die by SIGKILL while `oom_kill` in memory.events of our own
//! cgroup rises (cgroup-v2, "Memory Interface Files"). The kernel counts before it kills.
//!
//! A process that a command has started may be the one that was killed; then the next command that somebody else kills is taken for it.
#![forbid(unsafe_code)]

use super::{cgroup, proc};
use std::io;

/// The count of our cgroup.
#[derive(Debug)]
pub struct OomKills {
    path: String,
    /// Kills that are accounted for.
    seen: u64,
}

/// Where it is, by proc_pid_cgroup(5); only version 2 of cgroups(7) has it.
fn path(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(cgroup::folder).map(|folder| folder + "/memory.events")
}

/// What is said of kills in memory.events.
pub(super) fn count(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

fn read(path: &str) -> io::Result<u64> {
    let trouble =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot read {path}: {}", crate::sys::plain(&error)));
    let events = proc::read_list(path).map_err(trouble)?;
    count(&events).ok_or_else(|| io::Error::other(format!("{path} has no count of oom_kill")))
}

impl OomKills {
    /// From now on.
    ///
    /// # Errors
    /// If our cgroup has no such count, or it cannot be read.
    pub fn new() -> io::Result<OomKills> {
        let find = || {
            let path = path(&proc::read_list("/proc/self/cgroup")?)
                .ok_or_else(|| io::Error::other("there is no cgroup of version 2"))?;
            Ok(OomKills { seen: read(&path)?, path })
        };
        find().map_err(|error: io::Error| {
            let why = crate::sys::plain(&error);
            io::Error::other(format!("cannot tell which commands run out of memory (oom of --penalty): {why}"))
        })
    }

    /// A command of ours has died by SIGKILL; whether that accounts for a kill of the kernel's.
    pub fn is_one(&mut self) -> bool {
        let is_one = read(&self.path).is_ok_and(|count| count > self.seen);
        self.seen += u64::from(is_one);
        is_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_that_of_our_own_cgroup() {
        let is = |path: &str| Some(path.to_owned());
        assert_eq!(path("0::/a.slice/b.service\n"), is("/sys/fs/cgroup/a.slice/b.service/memory.events"));
        assert_eq!(path("1:name=systemd:/x\n0::/\n"), is("/sys/fs/cgroup/memory.events"));
        assert_eq!(path("9:memory:/a\n"), None);
        assert_eq!(count("low 0\nhigh 0\nmax 12\noom 7\noom_kill 3\noom_group_kill 0\n"), Some(3));
        assert_eq!(count("low 0\noom_kill\noom 7\n"), None);
    }

    #[test]
    fn each_kill_is_accounted_for_once() {
        let file = std::env::temp_dir().join(format!("sockcap-oom-{}", std::process::id()));
        let kills = |count: u32| std::fs::write(&file, format!("oom 9\noom_kill {count}\n")).unwrap();
        kills(3);
        let mut oom = OomKills { path: file.to_str().unwrap().to_owned(), seen: 3 };
        assert!(!oom.is_one());
        kills(5);
        assert_eq!([(); 3].map(|()| oom.is_one()), [true, true, false]);
        std::fs::remove_file(&file).unwrap();
        assert!(!oom.is_one(), "not known");
    }
}
