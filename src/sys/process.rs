//! Signals and children: what must be exact and what nix gets wrong.

use std::io;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status (0 to 255).
    Code(i32),
    /// By this signal, real-time ones included.
    Signal(i32),
}

/// Gives every signal its default action, for this process and so for the commands it starts.
///
/// Rust's runtime and systemd (`IgnoreSIGPIPE=`, systemd.exec(5)) both start programs with SIGPIPE
/// ignored, and an ignored signal stays ignored across exec. It also removes Rust's own handlers, so
/// that a child which shares our memory before its exec has none to run.
pub fn default_signal_actions() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask; the C library refuses the numbers
        // that are its own or cannot be changed, and that refusal is what we want.
        unsafe {
            let action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Reaps the child `pid`, or any child for `None`, without blocking. `Ok(None)`: nothing to reap.
///
/// nix's `waitpid` reaps a child that a real-time signal killed, but returns `EINVAL` and loses the
/// pid: a slot would leak.
///
/// # Errors
/// `ECHILD` if there is no such child (wait(2)).
pub fn reap(pid: Option<i32>) -> io::Result<Option<(i32, Exit)>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place to write; a null rusage is allowed (wait4(2)).
    let got = unsafe { libc::wait4(pid.unwrap_or(-1), &mut status, libc::WNOHANG, std::ptr::null_mut()) };
    match got {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid if libc::WIFSIGNALED(status) => Ok(Some((pid, Exit::Signal(libc::WTERMSIG(status))))),
        pid => Ok(Some((pid, Exit::Code(libc::WEXITSTATUS(status))))),
    }
}

/// Ends the process at once: no destructors, so that a logging thread that hangs cannot keep us.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// The inode number of our own pidfd, which identifies this process beyond its pid (pidfs, Linux 6.9);
/// `None` where the kernel gives all pidfds the same inode or has none.
pub fn own_pidfd_inode() -> Option<u64> {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    // SAFETY: pidfd_open(2) returns a new descriptor, which nobody else owns.
    let fd = unsafe {
        match libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) {
            -1 => return None,
            fd => OwnedFd::from_raw_fd(fd as i32),
        }
    };
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?).into()
}
