//! What a command gets of its own between clone and exec, beside its connection and its session: limits, priority, user, directory.
//!
//! All of it was made ready before the clone, and each part is one or two system calls in the child, by the rules of `exec.rs`. A part that
//! fails ends the start, and says which it was.

use super::raw;
use std::ffi::{CString, c_int};
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the plain calls take numbers of 16 bits (setresuid(2)), those that take 32.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SET_USER: [libc::c_long; 3] = [libc::SYS_setgroups32, libc::SYS_setresgid32, libc::SYS_setresuid32];
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
const SET_USER: [libc::c_long; 3] = [libc::SYS_setgroups, libc::SYS_setresgid, libc::SYS_setresuid];

/// What each command gets, the same for all.
#[derive(Debug, Default)]
pub struct Attributes {
    /// Where its standard error goes.
    pub stderr: Stderr,
    /// Resource limits, RLIMIT_* with soft and hard (setrlimit(2)).
    pub limits: Vec<(u32, u64, u64)>,
    /// Its nice value, from -20 to 19 (setpriority(2)).
    pub nice: Option<i32>,
    /// Its file mode creation mask (umask(2)).
    pub umask: Option<u32>,
    /// Its working directory, entered as its user.
    pub directory: Option<CString>,
    /// A Landlock rule set that makes a domain of its own for each (landlock_restrict_self(2)). Needs no_new_privs, which it sets.
    pub domain: Option<OwnedFd>,
}

/// Where a command's standard error goes, unless a descriptor of its own was made for it.
#[derive(Debug, Default)]
pub enum Stderr {
    /// Where the daemon's does.
    #[default]
    Inherit,
    /// To its client.
    Connection,
    /// Here.
    Descriptor(OwnedFd),
}

/// What one command gets that no other has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// The number of a user and of a group, without any other groups.
    pub(super) user: Option<u32>,
    /// Its standard error; -1: as [`Stderr`] says.
    pub(super) stderr: c_int,
    /// The folder of its cgroup, which it is to enter; -1: none, or it was born there.
    pub(super) cgroup: c_int,
}

impl Own {
    /// Nothing.
    pub(super) const NONE: Own = Own { user: None, stderr: -1, cgroup: -1 };
}

/// What a child was about when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// execve(2) itself.
    Exec,
    /// setsid(2), or setpgid(2).
    Session,
    /// Entering its cgroup.
    Cgroup,
    /// Taking its connection.
    Connection,
    /// Its standard error.
    Stderr,
    /// This RLIMIT_*.
    Limit(u32),
    /// Its nice value.
    Nice,
    /// Its user and group, to this number.
    User(u32),
    /// Its working directory.
    Directory,
    /// Its Landlock domain.
    Domain,
}

impl Step {
    /// As two numbers, for the way to the parent.
    pub(super) fn to_words(self) -> [i32; 2] {
        match self {
            Step::Exec => [0, 0],
            Step::Session => [1, 0],
            Step::Cgroup => [2, 0],
            Step::Connection => [3, 0],
            Step::Stderr => [4, 0],
            Step::Limit(resource) => [5, resource as i32],
            Step::Nice => [6, 0],
            Step::User(number) => [7, number as i32],
            Step::Directory => [8, 0],
            Step::Domain => [9, 0],
        }
    }

    /// And back.
    pub(super) fn from_words([step, detail]: [i32; 2]) -> Step {
        match step {
            1 => Step::Session,
            2 => Step::Cgroup,
            3 => Step::Connection,
            4 => Step::Stderr,
            5 => Step::Limit(detail as u32),
            6 => Step::Nice,
            7 => Step::User(detail as u32),
            8 => Step::Directory,
            9 => Step::Domain,
            _ => Step::Exec,
        }
    }
}

/// What fails of a child, and errno.
pub(super) type Failed = (Step, i32);

/// The result of a system call of this step.
pub(super) fn done(step: Step, result: isize) -> Result<usize, Failed> {
    if result < 0 { Err((step, -result as i32)) } else { Ok(result as usize) }
}

/// Enters the cgroup of this folder (cgroups(7): 0 is whoever writes it).
///
/// # Safety
/// In a child, as for `exec::child`.
pub(super) unsafe fn enter(cgroup: c_int) -> Result<(), Failed> {
    // SAFETY: a string and a byte that live across the calls; the descriptor is this child's own.
    unsafe {
        let (name, zero) = (c"cgroup.procs", b'0');
        let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
        let file = raw::call(libc::SYS_openat, [cgroup as usize, name.as_ptr().addr(), flags, 0, 0]);
        let file = done(Step::Cgroup, file)?;
        let written = raw::call(libc::SYS_write, [file, (&raw const zero).addr(), 1, 0, 0]);
        raw::call(libc::SYS_close, [file, 0, 0, 0, 0]);
        done(Step::Cgroup, written).map(drop)
    }
}

/// Directs a child's standard error. Before it takes its connection, which may take the place of any other descriptor.
///
/// # Safety
/// In a child, as for `exec::child`. `all` stays where it is until the exec.
pub(super) unsafe fn direct(all: *const Attributes, own: Own, connection: c_int) -> Result<(), Failed> {
    // SAFETY: integers; the descriptors are this child's own.
    unsafe {
        let stderr = match (&(*all).stderr, own.stderr) {
            (_, fd @ 0..) => fd,
            (Stderr::Inherit, _) => return Ok(()),
            (Stderr::Connection, _) => connection,
            (Stderr::Descriptor(fd), _) => fd.as_raw_fd(),
        };
        done(Step::Stderr, raw::call(libc::SYS_dup3, [stderr as usize, 2, 0, 0, 0])).map(drop)
    }
}

/// Gives a child all the rest. What takes privileges comes before its user.
///
/// # Safety
/// In a child, as for `exec::child`. `all` stays where it is until the exec.
pub(super) unsafe fn apply(all: *const Attributes, own: Own) -> Result<(), Failed> {
    // SAFETY: every pointer given to the kernel is to what lives until the exec.
    unsafe {
        let all = &*all;
        // Its own limits are for what the command does then.
        if let Some(nice) = all.nice {
            let set = raw::call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, nice as usize, 0, 0]);
            done(Step::Nice, set)?;
        }
        for (resource, soft, hard) in &all.limits {
            let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
            let set = raw::call(libc::SYS_prlimit64, [0, *resource as usize, (&raw const limit).addr(), 0, 0]);
            done(Step::Limit(*resource), set)?;
        }
        if let Some(mask) = all.umask {
            raw::call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0]);
        }
        if let Some(number) = own.user {
            let (user, [groups, group_id, user_id]) = (number as usize, SET_USER);
            done(Step::User(number), raw::call(groups, [0; 5]))?;
            done(Step::User(number), raw::call(group_id, [user, user, user, 0, 0]))?;
            done(Step::User(number), raw::call(user_id, [user, user, user, 0, 0]))?;
        }
        if let Some(directory) = &all.directory {
            done(Step::Directory, raw::call(libc::SYS_chdir, [directory.as_ptr().addr(), 0, 0, 0, 0]))?;
        }
        if let Some(domain) = &all.domain {
            let no_new_privs = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0];
            done(Step::Domain, raw::call(libc::SYS_prctl, no_new_privs))?;
            let restricted = raw::call(libc::SYS_landlock_restrict_self, [domain.as_raw_fd() as usize, 0, 0, 0, 0]);
            done(Step::Domain, restricted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_as_it_was() {
        let plain = [Step::Exec, Step::Session, Step::Cgroup, Step::Connection, Step::Stderr, Step::Nice];
        let others = [Step::Limit(7), Step::User(u32::MAX), Step::Directory, Step::Domain];
        for step in plain.into_iter().chain(others) {
            assert_eq!(Step::from_words(step.to_words()), step);
        }
    }
}
