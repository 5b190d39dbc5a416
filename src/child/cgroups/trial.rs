//! How commands can come into a cgroup of their own here, and how all that is in one can be ended: found out with one that is made for
//! that, and told where it is not the best way.
#![forbid(unsafe_code)]

use super::files::write;
use crate::sys::launch::{Birth, Way, try_birth};
use crate::sys::plain;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The way into the cgroup of this folder, which nobody is in, and a clause for each fallback that is needed.
pub(super) fn of(folder: &str, opened: &OwnedFd) -> (Way, Vec<String>) {
    let not_born = match try_birth(opened.as_fd()) {
        Ok(Birth::Lives) => None,
        Ok(Birth::Killed) => Some("the kernel kills them at birth, since a cgroup was killed before".to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Some(
            "clone3 is not to be had (RestrictNamespaces=, a kernel before 5.7, or a machine with other system calls)"
                .to_owned(),
        ),
        Err(error) => Some(format!("clone3 fails: {}", plain(&error))),
    };
    let way = if not_born.is_none() { Way::Born } else { Way::Enters };
    let enter = not_born.map(|why| format!("commands enter theirs after their birth: {why}"));
    let has_kill = Path::new(folder).join("cgroup.kill").exists();
    let singly =
        "the kernel has no cgroup.kill (Linux 5.14): a cgroup is frozen, and its processes are killed one by one";
    (way, enter.into_iter().chain((!has_kill).then(|| singly.to_owned())).collect())
}

/// Whether the kernel kills whoever is born in the cgroup of this folder when it was killed before: it is.
pub(super) fn kills_newborn(folder: &str, opened: &OwnedFd) -> bool {
    write(&format!("{folder}/cgroup.kill"), "1").is_ok() && matches!(try_birth(opened.as_fd()), Ok(Birth::Killed))
}
