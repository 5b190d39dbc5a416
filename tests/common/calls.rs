//! Names of system calls as strace has them, which depend on the machine and the C library of the program that it traces.

use super::skip;
use std::process::Command;

/// The name on amd64 with glibc, and that of the same call elsewhere: what musl makes of epoll_wait(2), glibc of send(2) on a machine that
/// has a call of this name, and what has offsets or numbers of more bits on one of 32.
const TWINS: [(&str, &str); 10] = [
    ("epoll_wait", "epoll_pwait"),
    ("fcntl", "fcntl64"),
    ("fstat", "fstat64"),
    ("ftruncate", "ftruncate64"),
    ("getrlimit", "ugetrlimit"),
    ("lseek", "_llseek"),
    ("mmap", "mmap2"),
    ("newfstatat", "fstatat64"),
    ("recvfrom", "recv"),
    ("sendto", "send"),
];

/// This call by every name that it may have, for strace's `trace=` and `inject=`.
pub fn each_name_of(call: &str) -> String {
    let twins = TWINS.iter().filter(|(usual, _)| *usual == call).map(|(_, twin)| *twin);
    // Those that this machine has.
    std::iter::once(call).chain(twins).map(|name| format!("?{name}")).collect::<Vec<_>>().join(",")
}

/// A call's name on amd64 with glibc.
pub fn usual_name(name: &str) -> &str {
    let name = name.strip_suffix("_time64").unwrap_or(name);
    TWINS.iter().find(|(_, twin)| *twin == name).map_or(name, |(usual, _)| usual)
}

/// Whether strace can be had; `what` is what is not tested else.
pub fn can_trace(what: &str) -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    let can = traced.is_ok_and(|status| status.success());
    if !can {
        skip(what, "strace is not installed or may not trace");
    }
    can
}
