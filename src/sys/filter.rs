//! A filter of system calls (seccomp(2)) for what Landlock leaves open: prlimit(2) lets a process end another one of its user (RLIMIT_CPU),
//! or keep it from opening anything (RLIMIT_NOFILE).
//!
//! It is set once, on the daemon, and each command inherits it, at no cost for its start. Of all other system calls the kernel knows that
//! they are let through, and does not run it. Whoever asks for its own limits says 0, as setrlimit(2) does.

use std::io;

/// Machines as `struct seccomp_data` has them (linux/audit.h), whose programs may run here, and their prlimit64(2). A kernel of 64 bits runs
/// programs of both widths, and a command may be of the other one.
const CALLS: &[(u32, u32)] = match () {
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    () => &[(0xc000_003e, 302), (0xc000_003e, 0x4000_0000 + 302), (0x4000_0003, 340)], // x86-64, x32 and i386
    #[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
    () => &[(0xc000_00b7, 261), (0x4000_0028, 369)], // arm64 and arm
    #[cfg(target_arch = "riscv64")]
    () => &[(0xc000_00f3, 261)],
    #[cfg(not(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )))]
    () => &[],
};

// struct seccomp_data; arguments are of 64 bits.
const NR: u32 = 0;
const ARCH: u32 = 4;
const LOW: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };
const PID: u32 = 16 + LOW;
const NEW_LIMIT: u32 = 32;

/// From now on this process, and what it starts, sets limits of itself alone, wherever the machine is known. Needs no_new_privs; call it
/// before threads exist.
///
/// # Errors
/// prctl(2)'s.
pub fn keep_limits() -> io::Result<()> {
    let mut filter = program(CALLS);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter lives across the call, which copies it.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0usize, 0usize) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// EPERM for these calls, if they name a process and a new limit.
fn program(calls: &[(u32, u32)]) -> Vec<libc::sock_filter> {
    let op = |code: u32, if_so, if_not, k| libc::sock_filter { code: code as u16, jt: if_so, jf: if_not, k };
    let load = |from| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, from);
    let is = |what, if_so, if_not| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_so, if_not, what);
    let end = |action| op(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    let mut all = Vec::new();
    for (nth, (arch, number)) in calls.iter().enumerate() {
        let behind = 4 * (calls.len() - nth - 1) as u8 + 1;
        all.extend([load(ARCH), is(*arch, 0, 2), load(NR), is(*number, behind, 0)]);
    }
    all.push(end(libc::SECCOMP_RET_ALLOW));
    all.extend([load(PID), is(0, 4, 0), load(NEW_LIMIT), is(0, 0, 3), load(NEW_LIMIT + 4), is(0, 0, 1)]);
    all.extend([end(libc::SECCOMP_RET_ALLOW), end(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    /// Of another process they are read and not set, of the own one both.
    #[test]
    fn limits_are_set_of_the_own_process_alone() {
        let tried = || {
            let other = std::process::id() as i32;
            let limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
            let mut now = limit;
            let call = |pid: i32, new: *const libc::rlimit64, old: *mut libc::rlimit64| {
                // SAFETY: both are null or live across the call.
                Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, pid, libc::RLIMIT_CORE, new, old) }).map(drop)
            };
            let none = std::ptr::null_mut();
            [call(0, &limit, none), call(other, &limit, none), call(other, none, &mut now), call(0, none, &mut now)]
        };
        // A filter is a thread's, and ends with it; limits are the process's, and tests dump no core.
        let filtered = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            keep_limits().unwrap();
            tried()
        });
        let expected = if CALLS.is_empty() { Ok(()) } else { Err(Errno::EPERM) };
        assert_eq!(filtered.join().unwrap(), [Ok(()), expected, Ok(()), Ok(())]);
        assert_eq!(tried(), [Ok(()); 4]);
    }
}
