//! The files and folders of cgroups(7), and what their names say.
#![forbid(unsafe_code)]

use super::limits::Setting;
use crate::child::cgroup::{is_managed, of_service};
use crate::child::ledger::LAST_ID;
use crate::sys::{plain, xattr};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// Before the number of a connection.
pub(super) const CONNECTION: &str = "conn-";
/// Before the number of a daemon's process.
pub(super) const DAEMON: &str = "daemon-";

/// Where the hierarchy of version 2 is mounted (proc_pid_mountinfo(5)).
pub(super) fn mount(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (mount, about) = line.split_once(" - ")?;
        about.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4)).flatten()
    })
}

/// Our own cgroup's path, as far as our service's, if a manager has started us.
pub(super) fn own_path(cgroups: &str) -> Option<&str> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(if is_managed() { of_service(path) } else { path })
}

/// Whether the manager has delegated the cgroup of this folder: it says so since systemd 252, where the kernel has such attributes (5.7).
/// `None`: it says nothing of it.
pub(super) fn is_delegated(folder: &str) -> Option<bool> {
    let attribute = |name| xattr::get(folder, name).ok();
    match (attribute(c"user.delegate"), attribute(c"user.invocation_id")) {
        (None, None) => None,
        (delegate, _) => Some(delegate.as_deref() == Some(b"1")),
    }
}

/// Writes this to a file that is there.
pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    // In one call, and without making a file.
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

/// Writes a setting of a connection to the first of its files that is there.
pub(super) fn set(folder: &str, setting: &Setting) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for file in setting.files {
        result = write(&format!("{folder}/{file}"), &setting.value);
        if result.as_ref().err().and_then(io::Error::raw_os_error) != Some(libc::ENOENT) {
            break;
        }
    }
    result
}

/// What can be done about a cgroup that cannot be made, or moved to.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EROFS) => {
            "the unit may not set ProtectControlGroups=, ReadOnlyPaths= or the like over /sys/fs/cgroup"
        }
        Some(libc::EACCES | libc::EPERM) => "the unit needs Delegate=yes",
        Some(libc::EBUSY) => {
            "the kernel wants no process in a cgroup that has limits below it; on systemd 254 and later the unit needs DelegateSubgroup="
        }
        Some(libc::EOPNOTSUPP) => "the service's cgroup may not be threaded",
        Some(libc::EAGAIN) => "cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached",
        _ => "the unit needs Delegate=yes, and the system cgroups of version 2",
    }
}

/// That this could not be done to cgroups, why, and what to do.
pub(super) fn cannot(what: &str, error: &io::Error) -> String {
    format!("cannot {what}: {} ({})", plain(error), remedy(error))
}

/// The number of the connection that has this name: as we write it, so that no two names are of one number, and not beyond any that we give.
pub(super) fn number(name: &str) -> Option<u64> {
    let id = name.strip_prefix(CONNECTION)?.parse().ok()?;
    ((1..=LAST_ID).contains(&id) && name == format!("{CONNECTION}{id}")).then_some(id)
}

/// To put a command into, and for nothing else (O_PATH).
pub(super) fn open_folder(folder: &str) -> io::Result<OwnedFd> {
    Ok(open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_where_it_is_mounted() {
        let v1 = "24 1 0:22 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n";
        let v2 = "31 24 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount(&format!("{v1}{v2}")), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount(v1), None);
    }

    #[test]
    fn a_name_is_of_one_connection() {
        assert_eq!([number("conn-1"), number("conn-9007199254740992")], [Some(1), Some(1 << 53)]);
        for bad in
            ["conn-", "conn-0", "conn-01", "conn-+1", "conn- 1", "conn-1x", "conn-9007199254740993", "daemon-1", "1"]
        {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
