//! Signals and children: what must be exact and what nix gets wrong.

use nix::sys::signal::{SigSet, Signal};
use std::ffi::c_long;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status (0 to 255).
    Code(i32),
    /// By this signal, real-time ones included.
    Signal(i32),
}

/// The signals that are blocked, so that none acts by itself. Not those that mean the process itself is
/// broken: the watchdog's SIGABRT (systemd.service(5)) must end a loop that hangs.
pub fn blocked_signals() -> SigSet {
    let mut signals = SigSet::all();
    let broken = [Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGSEGV, Signal::SIGSYS];
    broken.into_iter().chain([Signal::SIGTRAP]).for_each(|signal| signals.remove(signal));
    signals
}

/// Signals that whoever started us had ignored, by bit; found by [`default_signal_actions`].
static IGNORED: AtomicU64 = AtomicU64::new(0);

/// The signals that are read from a signalfd: the blocked ones, but for those that were ignored at the start (nohup(1), a shell's
/// background job) and so stay ignored. A blocked signal is queued even if its action is to ignore it (signal(7)).
pub fn signals_to_read() -> SigSet {
    let mut signals = blocked_signals();
    let ignored = IGNORED.load(Ordering::Relaxed);
    let is_ignored = |signal: &Signal| ignored & (1 << *signal as u64) != 0;
    // Without SIGCHLD no slot would come back.
    Signal::iterator().filter(is_ignored).filter(|s| *s != Signal::SIGCHLD).for_each(|signal| signals.remove(signal));
    signals
}

/// Gives every signal its default action, for the commands that this process starts. What was ignored is remembered for
/// [`signals_to_read`].
///
/// Rust's runtime and systemd (`IgnoreSIGPIPE=`, systemd.exec(5)) both start programs with SIGPIPE
/// ignored, and an ignored signal stays ignored across exec. It also removes Rust's own handlers, so
/// that a child which shares our memory before its exec has none to run. Call it before threads exist.
pub fn default_signal_actions() {
    /// The kernel's signal set, which is what it wants the size of.
    const SET: usize = 8;
    for signal in 1..=64 {
        // Handler, flags, restorer and mask; all zero is SIG_DFL with an empty mask, on every machine.
        let (mut now, default) = ([0usize; 8], [0usize; 8]);
        // SAFETY: both buffers are larger than the kernel's sigaction. The system call and not libc's
        // wrapper, which does not touch its own two signals: ignored by whoever started us, they would
        // stay ignored in commands. Its handlers for them, if any, are left in place.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, 0usize, now.as_mut_ptr(), SET);
            if now[0] == libc::SIG_IGN && signal < 64 {
                IGNORED.fetch_or(1 << signal, Ordering::Relaxed);
            }
            let libc_s_own = (32..libc::SIGRTMIN()).contains(&signal);
            if !libc_s_own || now[0] == libc::SIG_IGN {
                libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, SET);
            }
        }
    }
}

/// Closes this process to others of its user (PR_SET_DUMPABLE): they cannot trace it, read its memory, or take its descriptors through
/// `/proc` or pidfd_getfd(2). Commands are of its user, and may do what their clients want. There is no core dump of it, either. The
/// exec of a command opens that to others again, as ever.
pub fn close_to_others() {
    let _ = nix::sys::prctl::set_dumpable(false); // fails for no other values
}

/// Whether a child of ours could be root: we are, or have a capability with which root's rights can be had (capabilities(7)).
pub fn may_become_root() -> bool {
    const ENOUGH: [u32; 9] = [0, 1, 3, 7, 16, 17, 19, 21, 31]; // CHOWN DAC_OVERRIDE FOWNER SETUID SYS_MODULE RAWIO PTRACE ADMIN SETFCAP
    // _LINUX_CAPABILITY_VERSION_3, and this process.
    let header: [u32; 2] = [0x2008_0522, 0];
    // Effective, permitted and inheritable, of the first 32 capabilities and of the others.
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: both live across the call and are as large as this version has them.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) };
    done != 0 || nix::unistd::geteuid().is_root() || ENOUGH.iter().any(|bit| sets[0][1] & (1 << bit) != 0)
}

/// Whether this descriptor of ours is open. Asked of the kernel itself, since a sandbox may hide /proc.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: fcntl on any number is sound; a closed one gives EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Makes every descriptor but 0, 1 and 2 close-on-exec: what our starter left open must not leak into commands.
pub fn close_all_on_exec() {
    // SAFETY: three integers. The kernel marks descriptors; none is closed before an exec.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return;
    }
    // Before Linux 5.11.
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        if let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).filter(|fd| *fd > 2) {
            // SAFETY: fcntl on any number is sound; a closed one gives EBADF.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// What a command and the processes that it waited for have used (getrusage(2)), or all processes of its cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system, in microseconds.
    pub cpu_usec: u64,
    /// The largest resident set of any of them, in bytes. The kernel begins with ours, which a child has until its exec. Of a cgroup, most
    /// memory at once.
    pub peak_memory: u64,
    /// Most processes and threads at once, if a cgroup has counted them.
    pub peak_tasks: Option<u64>,
    /// Bytes read from block devices, and written to them, if a cgroup has counted them.
    pub io_bytes: Option<(u64, u64)>,
}

impl Usage {
    /// From the kernel's own `struct rusage`, which is the same on every machine: two times of seconds and microseconds, the
    /// largest resident set in KiB, and 13 numbers that are of no use here. musl's wait4(2) of 32-bit machines leaves its
    /// caller's structure as it was.
    fn of([user, user_usec, system, system_usec, kibibytes, ..]: [c_long; 18]) -> Usage {
        let cpu_usec = (user as u64 + system as u64) * 1_000_000 + user_usec as u64 + system_usec as u64;
        Usage { cpu_usec, peak_memory: kibibytes as u64 * 1024, ..Usage::default() }
    }
}

/// Reaps the child `pid`, or any child for `None`, without blocking. `Ok(None)`: nothing to reap.
///
/// nix's `waitpid` reaps a child that a real-time signal killed, but returns `EINVAL` and loses the
/// pid: a slot would leak.
///
/// # Errors
/// `ECHILD` if there is no such child (wait(2)).
pub fn reap(pid: Option<i32>) -> io::Result<Option<(i32, Exit, Usage)>> {
    let (mut status, mut rusage) = (0, [0; 18]);
    let whom = c_long::from(pid.unwrap_or(-1));
    // SAFETY: both are valid places to write: an int, and as many longs as the kernel's rusage has (wait4(2)).
    let got = unsafe {
        libc::syscall(libc::SYS_wait4, whom, &raw mut status, c_long::from(libc::WNOHANG), rusage.as_mut_ptr())
    };
    let usage = Usage::of(rusage);
    match got as i32 {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid if libc::WIFSIGNALED(status) => Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status)), usage))),
        pid => Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status)), usage))),
    }
}

/// Takes the SIGCHLD of an ended child off what is pending for this process, which blocks that signal, without touching any
/// other signal. It is the child's pid; others may have ended, too, since pending signals of a kind are one (signal(7)).
///
/// A child whose end anybody can have noticed has sent its signal by then. The kernel makes it a zombie, wakes its pidfd's
/// readers and sends the signal in one hold of its process table's lock (exit_notify in kernel/exit.c). A reader of a pidfd
/// may be back on another processor before the signal is sent, so that lock is taken here first: to read the priority of a
/// process group (kernel/sys.c) changes nothing, needs no right, and costs the same however many children there are.
pub fn take_end() -> Option<i32> {
    let mut only = MaybeUninit::<libc::sigset_t>::uninit();
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: two integers; then a set that sigemptyset makes, and places that live across the call. For SIGCHLD the kernel
    // fills in si_pid, and a siginfo_t of zeros is one.
    unsafe {
        libc::syscall(libc::SYS_getpriority, libc::PRIO_PGRP, 0);
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), libc::SIGCHLD);
        let got = libc::sigtimedwait(only.as_ptr(), info.as_mut_ptr(), &at_once);
        (got == libc::SIGCHLD).then(|| info.assume_init().si_pid())
    }
}

/// Ends the process at once: no destructors, so that a logging thread that hangs cannot keep us.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// A descriptor of a process, readable once that has ended; close-on-exec (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: two integers; pidfd_open(2) returns a new descriptor, which nobody else owns.
    unsafe {
        match libc::syscall(libc::SYS_pidfd_open, pid, 0) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

/// Sends a signal to the process of this pidfd, or, with `to_group`, to the process group that has its number since it led it,
/// whether it still lives or not (pidfd_send_signal(2), Linux 5.1; for a group Linux 6.9). Nobody else can get the signal.
///
/// # Errors
/// `ESRCH` if nobody is left, `EINVAL` if the kernel knows no groups here.
pub fn send_signal(pidfd: &OwnedFd, signal: i32, to_group: bool) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
    let flags = if to_group { PIDFD_SIGNAL_PROCESS_GROUP } else { 0 };
    // SAFETY: integers, and no siginfo, so that the kernel makes one as for kill(2).
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether the process of this pidfd has ended, reaped or not.
pub fn has_ended(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// The inode number of our own pidfd, which identifies this process beyond its pid (pidfs, Linux 6.9);
/// `None` where the kernel gives all pidfds the same inode or has none.
pub fn own_pidfd_inode() -> Option<u64> {
    let own = std::fs::File::from(pidfd(std::process::id() as i32).ok()?);
    Some(std::os::unix::fs::MetadataExt::ino(&own.metadata().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_as_the_kernel_writes_it() {
        let mut kernel_s = [7; 18];
        kernel_s[..5].copy_from_slice(&[1, 250_000, 2, 500_000, 3]);
        assert_eq!(Usage::of(kernel_s), Usage { cpu_usec: 3_750_000, peak_memory: 3 << 10, ..Usage::default() });
        // The same fields by libc's names, where its structure is the kernel's.
        #[cfg(target_pointer_width = "64")]
        {
            let places = [
                std::mem::offset_of!(libc::rusage, ru_utime),
                std::mem::offset_of!(libc::rusage, ru_stime),
                std::mem::offset_of!(libc::rusage, ru_maxrss),
            ];
            assert_eq!(places.map(|place| place / size_of::<c_long>()), [0, 2, 4]);
        }
    }
}
