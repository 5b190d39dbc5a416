//! Which processes belong to this service: those of its cgroup, as long as the manager made it for this process alone.
//!
//! A sandbox may hide /sys (`InaccessiblePaths=`, `TemporaryFileSystem=`). Then each process is asked for its cgroup, which
//! /proc tells of all that may be seen; only at a start and at a stop, since that reads as many files as there are processes.
#![forbid(unsafe_code)]

use super::proc;
use std::io;

/// The cgroup of a service.
#[derive(Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// Its list of processes.
    Listed(String),
    /// The line of proc_pid_cgroup(5) by which its processes are known.
    Asked(String),
}

/// The one line in proc_pid_cgroup(5) that tells where the manager has put a process: `0::PATH` in version 2 of cgroups(7),
/// `N:name=systemd:PATH` in version 1. With it the list that belongs to it.
fn lines(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.lines().filter_map(|line| {
        let (root, path) = match line.split_once("::") {
            Some(("0", path)) => ("/sys/fs/cgroup", path),
            _ => ("/sys/fs/cgroup/systemd", line.split_once(":name=systemd:")?.1),
        };
        Some((format!("{root}{path}/cgroup.procs"), line))
    })
}

impl Cgroup {
    /// Ours. `None` for a process that somebody else's service or session started (`SYSTEMD_EXEC_PID`, systemd.exec(5), since 248).
    ///
    /// # Errors
    /// If there is one, and no way to see who is in it.
    pub fn own() -> io::Result<Option<Cgroup>> {
        let own = std::process::id();
        if std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok()) != Some(own) {
            return Ok(None);
        }
        let text = proc::read_list("/proc/self/cgroup")?;
        Cgroup::of(&text, own as i32).map(Some)
    }

    fn of(text: &str, own: i32) -> io::Result<Cgroup> {
        let mut trouble = io::Error::from_raw_os_error(libc::ENOENT);
        let ways = lines(text).map(|(list, _)| Cgroup::Listed(list));
        // Of a hybrid's two lines the manager uses the first that it has.
        let ways = ways.chain(lines(text).map(|(_, line)| Cgroup::Asked(line.to_owned())));
        for way in ways {
            match way.members() {
                Ok(members) if members.contains(&own) => return Ok(way),
                Ok(_) => {}
                Err(error) => trouble = error,
            }
        }
        Err(trouble)
    }

    /// All its processes, this one included.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn members(&self) -> io::Result<Vec<i32>> {
        let list = match self {
            Cgroup::Listed(list) => list,
            Cgroup::Asked(line) => return asked(line),
        };
        // A process of another pid namespace is listed as 0.
        Ok(proc::read_list(list)?.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
    }
}

/// All processes that say that they are there.
fn asked(line: &str) -> io::Result<Vec<i32>> {
    let mut members = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile is none.
        let Ok(text) = proc::read_list(&format!("/proc/{pid}/cgroup")) else { continue };
        if text.lines().any(|other| other == line) {
            members.push(pid);
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_in_our_cgroup_says_so() {
        let text = proc::read_list("/proc/self/cgroup").unwrap();
        let own = std::process::id() as i32;
        for (_, line) in lines(&text) {
            assert!(asked(line).unwrap().contains(&own), "{line}");
            assert_eq!(asked(&format!("{line}/nowhere")).unwrap(), []);
        }
        let hidden = text.replace(":/", ":/nowhere/");
        assert!(Cgroup::of(&hidden, own).is_err(), "{hidden}");
        assert!(Cgroup::of("", own).is_err());
    }

    #[test]
    fn the_list_is_where_the_manager_s_hierarchy_is() {
        let of = |text: &str| lines(text).map(|(list, _)| list).collect::<Vec<_>>();
        assert_eq!(of("0::/a.slice/b::c.service"), ["/sys/fs/cgroup/a.slice/b::c.service/cgroup.procs"]);
        let hybrid = "9:name=systemd:/a.service\n8:pids:/a.service\n0::/a.service";
        assert_eq!(
            of(hybrid),
            ["/sys/fs/cgroup/systemd/a.service/cgroup.procs", "/sys/fs/cgroup/a.service/cgroup.procs"]
        );
    }
}
