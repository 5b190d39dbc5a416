//! Starting this very program once more, as a process of its own kind beside the daemon.

use super::process::blocked_signals;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// The program that runs in this process, whatever its path leads to by now: proc_pid_exe(5). A sandbox may hide /proc.
const OURSELVES: &CStr = c"/proc/self/exe";

/// Starts this program with these words, the first of which is its own name, and without an environment. `socket` is its standard input
/// and output, its standard error is ours, and all signals that this program blocks are blocked from its first moment on. Returns its pid.
/// Waits until it has begun (posix_spawn(3)).
///
/// # Errors
/// posix_spawn(3)'s.
pub fn start(words: &[CString], socket: BorrowedFd) -> io::Result<i32> {
    // SAFETY: getauxval(3) takes a number; AT_EXECFN is the path that this process was started by, on its stack for as long as it lives.
    let by_path = unsafe { libc::getauxval(libc::AT_EXECFN) as usize };
    let by_path: *const c_char = ptr::with_exposed_provenance(by_path);
    match spawn(OURSELVES.as_ptr(), words, socket) {
        Err(_) if !by_path.is_null() => spawn(by_path, words, socket),
        started => started,
    }
}

fn spawn(path: *const c_char, words: &[CString], socket: BorrowedFd) -> io::Result<i32> {
    let mut argv: Vec<_> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    let (envp, signals) = ([ptr::null_mut()], blocked_signals());
    let done = |result| if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) };
    // SAFETY: both structures are made by their init functions before they are used, and every string, list and set that is passed
    // lives across the call.
    unsafe {
        let mut actions = std::mem::zeroed();
        done(libc::posix_spawn_file_actions_init(&mut actions))?;
        let mut attributes = std::mem::zeroed();
        let result = done(libc::posix_spawnattr_init(&mut attributes)).and_then(|()| {
            let mut pid = 0;
            let result = (|| {
                done(libc::posix_spawnattr_setflags(&mut attributes, libc::POSIX_SPAWN_SETSIGMASK as _))?;
                done(libc::posix_spawnattr_setsigmask(&mut attributes, signals.as_ref()))?;
                for fd in [0, 1] {
                    done(libc::posix_spawn_file_actions_adddup2(&mut actions, socket.as_raw_fd(), fd))?;
                }
                done(libc::posix_spawn(&mut pid, path, &actions, &attributes, argv.as_ptr(), envp.as_ptr()))
            })();
            libc::posix_spawnattr_destroy(&mut attributes);
            result.map(|()| pid)
        });
        libc::posix_spawn_file_actions_destroy(&mut actions);
        result
    }
}
