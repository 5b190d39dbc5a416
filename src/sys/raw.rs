//! Children that still share their parent's memory, and the system calls that make them.
//!
//! Such a child may not use libc's wrappers: they store `errno` in thread-local storage, and the
//! thread is the parent's, which runs on meanwhile. Where the machine's calling convention is known
//! ([`machine`](super::machine)), the calls are made in place. Elsewhere libc's `syscall` is used, and the
//! parent is suspended until the exec (`CLONE_VFORK`), so that nobody looks.
//!
//! clone(2) is made in place, too: musl's wrapper refuses `CLONE_CHILD_CLEARTID` with EINVAL (seen with 1.2.5),
//! and without it nobody could tell when the child has left our memory.

pub(super) use super::machine::{Body, call};

use super::machine::{IS_KNOWN, branch};
use std::ffi::c_void;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

/// Whether [`clone`] returns only when the child is out of our memory.
static SUSPENDS: AtomicBool = AtomicBool::new(!IS_KNOWN);

/// As [`SUSPENDS`] says.
pub(super) fn suspends() -> bool {
    SUSPENDS.load(Ordering::Relaxed)
}

/// From now on [`clone`] returns only then, since nothing else is to be had: qemu-user knows threads and forks alone, says EINVAL to
/// what is neither, and makes a fork of this. `false`: it did so already.
pub(super) fn suspend() -> bool {
    !SUSPENDS.swap(true, Ordering::Relaxed)
}

/// A child in the same memory that runs `body(argument)`; the result is its pid, or `-errno`. `in_use` must not be zero,
/// and is zero once the child is out of our memory, by exec or by death; its futex is woken then. The child's pid is written to
/// `pid` before it runs, if that is given, so that whoever kills us at any instant finds it there (CLONE_PARENT_SETTID).
///
/// # Safety
/// `stack_top` is the end of memory, aligned to 16 bytes, that is the child's alone until `in_use` is zero; `in_use` and
/// what `body` reads stay where they are until then. `body` calls nothing of libc, and no signal handler exists.
pub(super) unsafe fn clone(
    stack_top: *mut c_void,
    in_use: &AtomicI32,
    pid: Option<&AtomicU32>,
    body: Body,
    argument: *mut c_void,
) -> isize {
    // SAFETY: as the caller promises.
    unsafe { clone_as(suspends(), stack_top, in_use, pid, body, argument) }
}

/// [`clone`], as [`suspends`] would be: a machine that is not known suspends always.
///
/// # Safety
/// As for [`clone`].
unsafe fn clone_as(
    suspends: bool,
    stack_top: *mut c_void,
    in_use: &AtomicI32,
    pid: Option<&AtomicU32>,
    body: Body,
    argument: *mut c_void,
) -> isize {
    let leave = if suspends { libc::CLONE_VFORK } else { libc::CLONE_CHILD_CLEARTID };
    let told = pid.map_or((0, std::ptr::null_mut()), |pid| (libc::CLONE_PARENT_SETTID, pid.as_ptr()));
    let (flags, pid) = (libc::CLONE_VM | leave | told.0 | libc::SIGCHLD, told.1);
    if IS_KNOWN {
        let [stack, pid, in_use] =
            [stack_top, pid.cast(), in_use.as_ptr().cast()].map(<*mut c_void>::expose_provenance);
        // The place of the child's tid, and TLS, which stays as it is: clone(2), "C library/kernel differences".
        let [fourth, fifth] = if cfg!(target_arch = "x86_64") { [in_use, 0] } else { [0, in_use] };
        // SAFETY: as the caller promises.
        return unsafe { branch(libc::SYS_clone, [flags as usize, stack, pid, fourth, fifth], body, argument) };
    }
    // SAFETY: as the caller promises. The parent goes on when the child is out of its memory, so that the word can be
    // zeroed here. A function that does not return may stand for one that does. Behind its argument come the places of the
    // pid, of TLS and of the child's tid (clone(2)).
    unsafe {
        let body = std::mem::transmute::<Body, extern "C" fn(*mut c_void) -> libc::c_int>(body);
        let none = std::ptr::null_mut::<c_void>();
        let pid = libc::clone(body, stack_top, flags, argument, pid, none, none);
        in_use.store(0, Ordering::Release);
        match pid {
            -1 => -(*libc::__errno_location() as isize),
            pid => pid as isize,
        }
    }
}

/// What clone3(2) is told: version 2 of `struct clone_args` (Linux 5.7).
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// CLONE_INTO_CGROUP of linux/sched.h, which is beyond an int.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// As [`clone`], with a child that is born in the cgroup whose folder is `cgroup`. `-ENOSYS` where a clone suspends.
///
/// # Safety
/// As for [`clone`]; `stack_size` bytes below `stack_top` are the child's.
pub(super) unsafe fn clone_into(
    cgroup: BorrowedFd,
    (stack_top, stack_size): (*mut c_void, usize),
    in_use: &AtomicI32,
    pid: Option<&AtomicU32>,
    body: Body,
    argument: *mut c_void,
) -> isize {
    if suspends() {
        return -(libc::ENOSYS as isize);
    }
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | pid.map_or(0, |_| libc::CLONE_PARENT_SETTID);
    let args = CloneArgs {
        flags: flags as u64 | INTO_CGROUP,
        pidfd: 0,
        child_tid: in_use.as_ptr().addr() as u64,
        parent_tid: pid.map_or(0, |pid| pid.as_ptr().addr() as u64),
        exit_signal: libc::SIGCHLD as u64,
        stack: (stack_top.addr() - stack_size) as u64,
        stack_size: stack_size as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.as_raw_fd() as u64,
    };
    let args = [(&raw const args).expose_provenance(), size_of::<CloneArgs>(), 0, 0, 0];
    // SAFETY: as the caller promises; the structure lives across the call, and the child does not read it.
    unsafe { branch(libc::SYS_clone3, args, body, argument) }
}

/// What became of a child that [`try_birth`] has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// It lived.
    Lives,
    /// The kernel killed it at once: a fault of Linux 5.14 to 6.18 with cgroups that were killed before.
    Killed,
}

/// Has a child born in the cgroup whose folder this is, which ends at once. Waits for that, so it is for a start alone.
///
/// # Errors
/// clone3(2)'s: `ENOSYS` from a kernel before 5.7 or a filter of system calls, and where no command is born so; `EBUSY`, `EACCES`.
pub fn try_birth(cgroup: BorrowedFd) -> io::Result<Birth> {
    if suspends() {
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    let args = CloneArgs {
        flags: INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.as_raw_fd() as u64,
    };
    // SAFETY: as fork(2): the child has a copy of our memory, and makes one system call. It is reaped here, by its number.
    unsafe {
        match libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) {
            -1 => Err(io::Error::last_os_error()),
            0 => loop {
                call(libc::SYS_exit_group, [0; 5]);
            },
            pid => {
                let mut status = 0;
                while libc::waitpid(pid as libc::pid_t, &mut status, 0) == -1 {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
                Ok(if libc::WIFEXITED(status) { Birth::Lives } else { Birth::Killed })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Child {
        pid: AtomicU32,
        /// What it saw when it began.
        told: AtomicU32,
        own: AtomicU32,
    }

    unsafe extern "C" fn look(child: *mut c_void) -> ! {
        // SAFETY: it is the test's, which waits for the end of this; getpid and exit_group take no pointers.
        unsafe {
            let child = &*child.cast::<Child>();
            child.told.store(child.pid.load(Ordering::Relaxed), Ordering::Relaxed);
            child.own.store(call(libc::SYS_getpid, [0; 5]) as u32, Ordering::Release);
            loop {
                call(libc::SYS_exit_group, [0; 5]);
            }
        }
    }

    /// Whoever kills this process as soon as the command does something finds the pid where it was to be.
    #[test]
    fn a_pid_is_written_before_its_child_runs() {
        let modes = if suspends() { &[true][..] } else { &[false, true] };
        for suspends in modes {
            let mut stack = vec![0u128; 4096];
            let in_use = AtomicI32::new(1);
            let child = Child { pid: AtomicU32::new(0), told: AtomicU32::new(0), own: AtomicU32::new(0) };
            // SAFETY: stack and words live until the child has left them; `look` makes system calls alone.
            let pid = unsafe {
                let argument = (&raw const child).cast_mut().cast();
                clone_as(*suspends, stack.as_mut_ptr_range().end.cast(), &in_use, Some(&child.pid), look, argument)
            };
            assert!(pid > 0, "clone: {pid}");
            let pid = pid as u32;
            // SAFETY: a number, and no pointer that is not null. The child ends by itself.
            assert_eq!(unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) }, pid as i32);
            assert_eq!(
                (child.own.load(Ordering::Acquire), child.told.into_inner()),
                (pid, pid),
                "suspends: {suspends}"
            );
        }
    }
}
