//! Which processes belong to this service: those of its cgroup and of those below it, as long as the manager made it for this process alone.
//!
//! A sandbox may hide /sys (`InaccessiblePaths=`, `TemporaryFileSystem=`). Then each process is asked for its cgroup, which
//! /proc tells of all that may be seen; only at a start and at a stop, since that reads as many files as there are processes.
//!
//! Whoever is in it is counted, and signalled by a stop. So a group that has others in it, too, is not taken for the service's:
//! the root of a hierarchy that the manager does not use has every process of the system in it.
#![forbid(unsafe_code)]

use super::proc;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The cgroup of a service.
#[derive(Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// Its folder.
    Listed(String),
    /// The line of proc_pid_cgroup(5) by which its processes are known.
    Asked(String),
}

/// Cgroups of a service that are looked into. Nobody makes so many, but a command that wants to keep us busy.
const MAX_CGROUPS: usize = 16384;

/// That of the service in a path of cgroups(7) or in a line that ends with one: the rest are cgroups that the service has made, or that the
/// manager has for it (`DelegateSubgroup=`). The whole, if no part of it is a service's name.
pub(super) fn of_service(path: &str) -> &str {
    const SUFFIX: &str = ".service";
    let at = path.rfind(".service/").filter(|_| !path.ends_with(SUFFIX));
    // What is below a service that is a manager of its own is other units'.
    let is_unit = |part: &str| part.ends_with(".slice") || part.ends_with(".scope");
    match at.map(|at| path.split_at(at + SUFFIX.len())) {
        Some((service, rest)) if !rest.split('/').any(is_unit) => service,
        _ => path,
    }
}

/// Whether a manager has started this process (`SYSTEMD_EXEC_PID`, systemd.exec(5), since 248).
pub(super) fn is_managed() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

/// Whether it is because there is no such cgroup any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Does this with a file or folder of `folder`; if it may not, once more with the permissions that its owner can give itself.
pub(super) fn as_owner<T>(folder: &Path, mut does: impl FnMut(&Path) -> io::Result<T>, name: &str) -> io::Result<T> {
    let path = folder.join(name);
    match does(&path) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            let may = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).is_ok();
            match may(folder, 0o755) && (name.is_empty() || may(&path, 0o644)) {
                true => does(&path),
                false => Err(error),
            }
        }
        done => done,
    }
}

/// The processes of the cgroup whose folder this is, and of `most` cgroups below it, the highest first.
///
/// # Errors
/// If its own list cannot be read.
pub(super) fn pids_below(folder: &str, most: usize) -> io::Result<Vec<i32>> {
    let members = |folder: &Path| -> io::Result<Vec<i32>> {
        let list = as_owner(folder, proc::read_list, "cgroup.procs")?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
    };
    let mut pids = members(Path::new(folder))?;
    let (mut folders, mut left) = (VecDeque::from([PathBuf::from(folder)]), most);
    while let Some(folder) = folders.pop_front() {
        for entry in as_owner(&folder, |path| fs::read_dir(path), "").into_iter().flatten().flatten().filter(is_folder)
        {
            if left == 0 {
                return Ok(pids);
            }
            left -= 1;
            // One that is gone meanwhile is empty.
            pids.extend(members(&entry.path()).into_iter().flatten());
            folders.push_back(entry.path());
        }
    }
    Ok(pids)
}

fn is_folder(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// The folder that a line of proc_pid_cgroup(5) names, if it is that of version 2 of cgroups(7).
pub(super) fn folder(line: &str) -> Option<String> {
    line.strip_prefix("0::").map(|path| format!("/sys/fs/cgroup{}", of_service(path).trim_end_matches('/')))
}

/// The one line in proc_pid_cgroup(5) that tells where the manager has put a process: `0::PATH` in version 2 of cgroups(7),
/// `N:name=systemd:PATH` in version 1. With it the folder that belongs to it. Both as far as the service.
fn lines(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.lines().map(of_service).filter_map(|line| {
        let folder =
            folder(line).or_else(|| Some(format!("/sys/fs/cgroup/systemd{}", line.split_once(":name=systemd:")?.1)))?;
        Some((folder, line))
    })
}

impl Cgroup {
    /// Ours. `None` for a process that somebody else's service or session started (`SYSTEMD_EXEC_PID`, systemd.exec(5), since 248).
    ///
    /// # Errors
    /// If there is one, and no way to see who is in it.
    pub fn own() -> io::Result<Option<Cgroup>> {
        if !is_managed() {
            return Ok(None);
        }
        let text = proc::read_list("/proc/self/cgroup")?;
        Cgroup::of(&text, std::process::id() as i32, std::os::unix::process::parent_id() as i32).map(Some)
    }

    fn of(text: &str, own: i32, parent: i32) -> io::Result<Cgroup> {
        let mut trouble = io::Error::from_raw_os_error(libc::ENOENT);
        let ways = lines(text).map(|(folder, _)| Cgroup::Listed(folder));
        // Of a hybrid's two lines the manager uses the first that it has. A process may not be allowed to see those whose
        // presence tells that the root is nobody's own.
        let asked = lines(text).filter(|(_, line)| !line.ends_with(":/"));
        let ways = ways.chain(asked.map(|(_, line)| Cgroup::Asked(line.to_owned())));
        for way in ways {
            match way.pids() {
                Ok(pids) if is_for_one_alone(&pids, own, parent) => return Ok(way),
                Ok(pids) if pids.contains(&own) => {
                    trouble = io::Error::other("its cgroup has other processes in it, too")
                }
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
        let mut pids = self.pids()?;
        pids.retain(|pid| *pid > 0);
        Ok(pids)
    }

    /// A process outside of our pid namespace is listed as 0 (cgroups(7)).
    fn pids(&self) -> io::Result<Vec<i32>> {
        match self {
            Cgroup::Listed(folder) => pids_below(folder, MAX_CGROUPS),
            Cgroup::Asked(line) => asked(line),
        }
    }
}

/// The folder of our own cgroup in version 2, if it is ours alone.
pub fn own_folder() -> Option<String> {
    match Cgroup::own() {
        Ok(Some(Cgroup::Listed(folder))) => Some(folder),
        _ => None,
    }
}

/// The line of proc_pid_cgroup(5) that says where the manager has put this process. `None` as for [`Cgroup::own`].
///
/// # Errors
/// As there.
pub fn own_line() -> io::Result<Option<String>> {
    let Some(own) = Cgroup::own()? else { return Ok(None) };
    let text = proc::read_list("/proc/self/cgroup")?;
    let is_it = |(list, line): &(String, &str)| match &own {
        Cgroup::Listed(own) => own == list,
        Cgroup::Asked(own) => own == line,
    };
    Ok(lines(&text).find(is_it).map(|(_, line)| line.to_owned()))
}

/// The unit that the manager has started this process for, with its suffix, if one has: the last part of its cgroup's path that is one's
/// name.
pub fn own_unit() -> Option<String> {
    let text = if is_managed() { proc::read_list("/proc/self/cgroup").ok()? } else { return None };
    let names = text.lines().filter_map(|line| of_service(line).rsplit('/').next());
    names.filter(|name| name.ends_with(".service")).map(str::to_owned).next()
}

/// Whether these can be the processes of one service, `own` among them: the manager that has started it, PID 1 and whoever
/// cannot be seen from here are never in its cgroup.
fn is_for_one_alone(pids: &[i32], own: i32, parent: i32) -> bool {
    pids.contains(&own) && !pids.iter().any(|pid| *pid != own && [0, 1, parent].contains(pid))
}

/// All processes that say that they are there.
fn asked(line: &str) -> io::Result<Vec<i32>> {
    let mut members = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile is none.
        let Ok(text) = proc::read_list(&format!("/proc/{pid}/cgroup")) else { continue };
        let is_below =
            |other: &str| other.strip_prefix(line).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if text.lines().any(is_below) {
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
            assert!(asked(&format!("{line}/nowhere")).unwrap().is_empty());
        }
        let hidden = text.replace(":/", ":/nowhere/");
        assert!(Cgroup::of(&hidden, own, 1).is_err(), "{hidden}");
        assert!(Cgroup::of("", own, 1).is_err());
    }

    #[test]
    fn a_group_with_others_in_it_is_not_the_service_s() {
        for (pids, own, parent, is_ours) in [
            (&[7][..], 7, 1, true),
            (&[7, 8, 9], 7, 6, true),
            (&[8, 9], 7, 6, false), // not even ours
            (&[1, 7], 7, 6, false), // PID 1
            (&[6, 7], 7, 6, false), // whoever started us
            (&[0, 7], 7, 6, false), // somebody outside of our pid namespace
            (&[1, 8], 1, 0, true),  // we are PID 1 ourselves (PrivatePIDs=)
            (&[], 7, 6, false),
        ] {
            assert_eq!(is_for_one_alone(pids, own, parent), is_ours, "{pids:?} of {own}, by {parent}");
        }
        let own = std::process::id() as i32;
        assert!(Cgroup::of("9:name=systemd:/\n0::/", own, 1).is_err());
    }

    #[test]
    fn the_list_is_where_the_manager_s_hierarchy_is() {
        let of = |text: &str| lines(text).map(|(folder, _)| folder).collect::<Vec<_>>();
        for below in ["", "/daemon-7", "/conn-3/x"] {
            let line = format!("0::/a.slice/b::c.service{below}");
            assert_eq!(of(&line), ["/sys/fs/cgroup/a.slice/b::c.service"]);
        }
        assert_eq!(
            of("0::/user@1.service/app.slice/b.service/conn-1"),
            ["/sys/fs/cgroup/user@1.service/app.slice/b.service"]
        );
        let hybrid = "9:name=systemd:/a.service\n8:pids:/a.service\n0::/a.service";
        assert_eq!(of(hybrid), ["/sys/fs/cgroup/systemd/a.service", "/sys/fs/cgroup/a.service"]);
    }
}
