//! The child: from clone to exec, on memory that it still shares with the daemon; and the report of an exec that failed.
//!
//! The child makes only raw system calls, on memory that was made ready before (`Slot`) and that nobody touches until the
//! kernel zeroes `tid` (CLONE_CHILD_CLEARTID: at exec or death). It allocates nothing, takes no lock, uses no thread-local storage.
//!
//! An exec that fails sends errno and the connection itself back through a socket pair, so that the
//! client can still be told.

use super::attributes::{Attributes, Failed, Own, Step, apply, direct, done, enter};
use super::manner::{Pass, Session};
use super::{pass, raw};
use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// First descriptor that socket activation passes (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const LISTEN_FDS_START: usize = 3;
/// Digits of the largest pid (2^22, proc_sys_kernel(5)) and more, and the NUL.
pub(super) const PID_DIGITS: usize = 11;

/// So much of a program the kernel itself looks at (BINPRM_BUF_SIZE of linux/binfmts.h).
pub const HEAD: usize = 256;

/// An exec that failed.
#[derive(Debug)]
pub struct FailedExec {
    /// The child that tried; it exits with 127.
    pub pid: i32,
    /// What it was about.
    pub step: Step,
    /// Why, as errno.
    pub errno: i32,
    /// How its program begins, up to [`HEAD`] bytes, if it can be read: that tells more than errno.
    pub head: Option<Vec<u8>>,
    /// The connection, so that the client can be told.
    pub connection: Option<OwnedFd>,
}

/// What one child works from. It reads all of it, and writes its own pid to the places meant for that in `bytes`.
pub(super) struct Slot {
    /// Not zero while a child may still use this slot; the kernel zeroes it and wakes its futex.
    pub(super) tid: AtomicI32,
    /// Whether the parent has closed its copy of the connection: [`HOLD`], [`WAITS`] or [`GO`].
    pub(super) go: AtomicI32,
    /// How many children have had this slot.
    pub(super) launches: u32,
    pub(super) stack_top: *mut c_void,
    pub(super) program: *const c_char,
    pub(super) connection: c_int,
    pub(super) report: c_int,
    pub(super) pass: Pass,
    pub(super) session: Session,
    pub(super) nofile: Option<libc::rlimit64>,
    /// In the spec, which outlives every child.
    pub(super) attributes: *const Attributes,
    pub(super) own: Own,
    /// The folder of the cgroup that it is to be born in; open until the clone is over.
    pub(super) birthplace: Option<RawFd>,
    pub(super) bytes: Vec<u8>,
    pub(super) bytes_start: *mut u8,
    /// Positions in `bytes` that wait for the child's pid, each with room for [`PID_DIGITS`].
    pub(super) pid_at: Vec<usize>,
    pub(super) argv: Vec<*const c_char>,
    /// Positions in `argv` whose words are in `bytes`.
    pub(super) argv_in_bytes: Vec<usize>,
    pub(super) envp: Vec<*const c_char>,
    /// The same for `envp`.
    pub(super) env_in_bytes: Vec<usize>,
    pub(super) argv_start: *const *const c_char,
    pub(super) envp_start: *const *const c_char,
}

impl Slot {
    /// Whether a child may still use it.
    pub(super) fn is_in_use(&self) -> bool {
        self.tid.load(Ordering::Acquire) != 0
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Slot").field("tid", &self.tid).finish()
    }
}

/// Runs in the child, on the slot's stack, in the parent's memory.
pub(super) unsafe extern "C" fn child(slot: *mut c_void) -> ! {
    // SAFETY: the parent passed its slot and leaves it alone until tid is zero. Only this child writes to it,
    // and only to the places in `bytes` meant for it. Everything reachable was made ready before the clone.
    unsafe {
        let slot = slot.cast::<Slot>();
        let failed = match prepare_and_exec(slot) {
            Err(failed) => failed,
            Ok(never) => match never {},
        };
        wait_for_parent(slot);
        send_back(slot, failed);
        loop {
            raw::call(libc::SYS_exit_group, [127, 0, 0, 0, 0]);
        }
    }
}

/// # Safety
/// As for [`child`]. Returns if no new program took over.
unsafe fn prepare_and_exec(slot: *mut Slot) -> Result<Infallible, Failed> {
    // SAFETY: see `child`; every pointer given to the kernel is into the slot, the spec or this stack.
    unsafe {
        let own = (*slot).own;
        if own.cgroup >= 0 {
            enter(own.cgroup)?;
        }
        let pid = lead((*slot).session)?;
        let places: &[usize] = &(*slot).pid_at;
        for at in places {
            write_decimal((*slot).bytes_start.add(*at), pid);
        }
        direct((*slot).attributes, own, (*slot).connection)?;
        take((*slot).connection as usize, (*slot).pass)?;
        if let Some(limit) = &(*slot).nofile {
            let limit: *const libc::rlimit64 = limit;
            raw::call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, limit.addr(), 0, 0]);
        }
        apply((*slot).attributes, own)?;
        wait_for_parent(slot);
        let none = 0u64;
        raw::call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, (&raw const none).addr(), 0, 8, 0]);
        let (argv, envp) = ((*slot).argv_start, (*slot).envp_start);
        let exec = raw::call(libc::SYS_execve, [(*slot).program.addr(), argv.addr(), envp.addr(), 0, 0]);
        Err((Step::Exec, -exec as i32))
    }
}

/// Makes this process the leader of its group, and of its session if it is to have one. Returns its number.
///
/// A child leads neither yet, so that only a filter of system calls can refuse these; a session's number is its leader's pid.
///
/// # Safety
/// As for [`child`].
unsafe fn lead(session: Session) -> Result<u32, Failed> {
    // SAFETY: integers.
    let pid = unsafe {
        match session {
            Session::Own => raw::call(libc::SYS_setsid, [0; 5]),
            Session::Shared => {
                raw::call(libc::SYS_setpgid, [0; 5]);
                raw::call(libc::SYS_getpid, [0; 5])
            }
        }
    };
    done(Step::Session, pid).map(|pid| pid as u32)
}

/// Puts the connection where the command looks for it.
///
/// # Safety
/// As for [`child`].
unsafe fn take(connection: usize, pass: Pass) -> Result<(), Failed> {
    // SAFETY: integers; the descriptors are this child's own.
    unsafe {
        let copy_to = |fd: usize| done(Step::Connection, raw::call(libc::SYS_dup3, [connection, fd, 0, 0, 0]));
        match pass {
            Pass::Stdio => copy_to(0).and_then(|_| copy_to(1)),
            Pass::ListenFds if connection == LISTEN_FDS_START => {
                let kept = raw::call(libc::SYS_fcntl, [connection, libc::F_SETFD as usize, 0, 0, 0]);
                done(Step::Connection, kept)
            }
            Pass::ListenFds => copy_to(LISTEN_FDS_START),
        }
        .map(drop)
    }
}

/// The parent is to close its copy of the connection.
pub(super) const HOLD: i32 = 0;
/// The child sleeps until it has.
pub(super) const WAITS: i32 = 1;
/// It has, or need not.
pub(super) const GO: i32 = 2;
/// Seconds and nanoseconds, of the width that futex(2) takes them in; libc's type may be that of futex_time64(2). No parent takes so long,
/// unless it was killed in between.
static MAX_WAIT: [c_long; 2] = [5, 0];

/// Returns once the parent has closed its copy of the connection, so that the child's is the last.
///
/// # Safety
/// As for [`child`].
unsafe fn wait_for_parent(slot: *mut Slot) {
    // SAFETY: the word is atomic, and the slot stays where it is; FUTEX_WAIT reads it and the time (futex(2)).
    unsafe {
        let go = &(*slot).go;
        if go.compare_exchange(HOLD, WAITS, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let most = &raw const MAX_WAIT;
        while go.load(Ordering::Acquire) == WAITS {
            let wait = libc::FUTEX_WAIT as usize;
            let slept = raw::call(libc::SYS_futex, [go.as_ptr().addr(), wait, WAITS as usize, most.addr(), 0]);
            if slept == -(libc::ETIMEDOUT as isize) {
                return;
            }
        }
    }
}

/// Sends pid, errno, what it was about, the program's head and the connection to the parent. If that fails the client sees a plain close.
///
/// The child reads the head, since its file system may take its time.
///
/// # Safety
/// As for [`child`].
unsafe fn send_back(slot: *mut Slot, (step, errno): Failed) {
    // SAFETY: all buffers are on this stack, and so much of `head` is sent as was written; CMSG_* only compute places
    // within `control`.
    unsafe {
        let mut head = MaybeUninit::<[u8; HEAD]>::uninit();
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK) as usize;
        let file = raw::call(libc::SYS_openat, [libc::AT_FDCWD as usize, (*slot).program.addr(), flags, 0, 0]);
        let got = match file {
            0.. => raw::call(libc::SYS_read, [file as usize, head.as_mut_ptr().addr(), HEAD, 0, 0]),
            error => error,
        };
        let [step, detail] = step.to_words();
        let mut words = [raw::call(libc::SYS_getpid, [0; 5]) as i32, errno, got as i32, step, detail];
        let mut parts = [
            libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: WORDS },
            libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: got.max(0) as usize },
        ];
        let mut control = [0u64; 4];
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = 2;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<c_int>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<c_int>() as u32) as _;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned((*slot).connection);
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as usize;
        raw::call(libc::SYS_sendmsg, [(*slot).report as usize, (&raw const message).addr(), flags, 0, 0]);
    }
}

/// # Safety
/// `at` has room for [`PID_DIGITS`] bytes.
unsafe fn write_decimal(at: *mut u8, number: u32) {
    let (mut digits, mut rest) = (1, number);
    while rest > 9 {
        digits += 1;
        rest /= 10;
    }
    // SAFETY: at most 10 digits and the NUL.
    unsafe {
        at.add(digits).write(0);
        rest = number;
        while digits > 0 {
            digits -= 1;
            at.add(digits).write(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
    }
}

/// Pid, errno, read(2)'s result for the head, and the step.
const WORDS: usize = size_of::<[i32; 5]>();

/// The next failed exec that was sent to this receiver; `None` when there is none.
pub fn receive(receiver: BorrowedFd) -> Option<FailedExec> {
    let mut message = [0; WORDS + HEAD];
    let (length, connection) = pass::receive(receiver, &mut message).ok()?;
    let (words, head) = message[..length].split_at_checked(WORDS)?;
    let word = |nth: usize| i32::from_ne_bytes(std::array::from_fn(|byte| words[4 * nth + byte]));
    let [pid, errno, read, step, detail] = std::array::from_fn(word);
    let head = (read >= 0).then(|| head.to_vec());
    Some(FailedExec { pid, step: Step::from_words([step, detail]), errno, head, connection })
}

/// Whether this process may execute `program`: a regular file with a permission bit for us.
///
/// # Errors
/// stat(2)'s and access(2)'s; `EACCES` if it is no regular file.
pub fn executable(program: &CStr) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(program.to_bytes()));
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    // SAFETY: a NUL-terminated path that lives across the call.
    match unsafe { libc::access(program.as_ptr(), libc::X_OK) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
