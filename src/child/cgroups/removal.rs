//! Removing cgroups that nobody is in, whatever a command has made below its own.
//!
//! A command that has our user, or root's, may make any number of cgroups there, as deep as it likes, with names of any bytes, and take our
//! permissions from them. None of that keeps the loop: a little is removed in a turn, and what cannot be removed is left to the manager.
#![forbid(unsafe_code)]

use crate::child::cgroup::as_owner;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// Cgroups removed in one turn, each of which takes the kernel up to 100 us.
const REMOVED_AT_ONCE: usize = 32;
/// And looked into, to find the lowest. What is deeper stays.
const LOOKED_INTO: usize = 256;

/// What has become of a cgroup that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// Nobody is in it, and a part of what is below it is gone.
    Begun,
    /// Nobody is in it, and it cannot be removed.
    Stuck,
    /// Somebody is in it, or it cannot be seen whether nobody is.
    Inhabited,
}

/// So many of the cgroups in this one.
fn some_below(folder: &Path, most: usize) -> io::Result<Vec<OsString>> {
    let entries = as_owner(folder, |path| fs::read_dir(path), "")?;
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.take(most).map(|entry| entry.file_name()).collect())
}

fn remove_one(above: &Path, path: &Path) -> bool {
    as_owner(above, |_| fs::remove_dir(path), "").is_ok()
}

/// Removes some of the cgroups below this one, the lowest first, and at last itself.
pub(super) fn remove_some(folder: &Path) -> Removal {
    let (mut path, mut removed) = (folder.to_owned(), 0);
    for _ in 0..LOOKED_INTO {
        let Ok(names) = some_below(&path, REMOVED_AT_ONCE - removed) else { break };
        if names.is_empty() {
            let above = path.parent().unwrap_or(folder).to_owned();
            if removed == REMOVED_AT_ONCE || !remove_one(&above, &path) {
                break;
            }
            if path == folder {
                return Removal::Done;
            }
            removed += 1;
            path = above;
            continue;
        }
        let has_some_below = |name: &OsString| !remove_one(&path, &path.join(name));
        let lower = names.iter().position(has_some_below);
        removed += lower.unwrap_or(names.len());
        match lower {
            Some(nth) => path.push(&names[nth]),
            None if removed == REMOVED_AT_ONCE => break,
            None => {}
        }
    }
    if removed > 0 { Removal::Begun } else { Removal::Stuck }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("sockcap-removal-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path); // left by a run that was killed and had our number
        fs::create_dir(&path).expect("a folder");
        path
    }

    #[test]
    fn many_are_removed_in_turns() {
        let top = folder("many");
        for number in 0..100 {
            fs::create_dir_all(top.join(format!("{number}/x"))).expect("folders");
        }
        let mut turns = 0;
        while remove_some(&top) == Removal::Begun {
            turns += 1;
        }
        assert_eq!((turns, top.exists()), (200 / REMOVED_AT_ONCE, false));
    }

    #[test]
    fn names_of_any_bytes_and_closed_folders_are_removed() {
        let top = folder("odd");
        let odd = top.join(std::ffi::OsStr::from_bytes(b"\xff\n\xfe"));
        fs::create_dir_all(odd.join("x")).expect("folders");
        fs::set_permissions(&odd, fs::Permissions::from_mode(0o000)).expect("chmod");
        assert_eq!(remove_some(&top), Removal::Done);
    }

    #[test]
    fn what_is_too_deep_or_in_use_is_stuck() {
        let top = folder("deep");
        fs::create_dir_all(top.join("x/".repeat(LOOKED_INTO + 1))).expect("folders");
        assert_eq!(remove_some(&top), Removal::Stuck);
        fs::remove_dir_all(&top).expect("to remove it");
        assert_eq!(remove_some(Path::new("/proc/self")), Removal::Stuck);
    }
}
