//! Names and files of cgroups.
#![forbid(unsafe_code)]

use super::{files, usage};

/// A name, and the mounts of proc_pid_mountinfo(5).
pub(in crate::child) fn names(text: &str) {
    if let Some(id) = files::number(text) {
        assert_eq!(format!("{}{id}", files::CONNECTION), text, "two names of one connection");
    }
    files::own_path(text);
    assert!(files::mount(text).is_none_or(|mount| !mount.contains([' ', '\n'])));
}

/// A file of figures.
pub(in crate::child) fn figures(text: &str) {
    usage::of_line(text, "usage_usec");
    usage::sum(text, "rbytes");
}
