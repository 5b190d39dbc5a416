//! Starting a command: clone(2) sharing memory, on a stack from a pool, without waiting for the exec.
//!
//! The parent goes on accepting while the child is still in execve(2): 1.3 times the rate of vfork on
//! two processors. What makes that sound:
//!
//! * the child makes only raw system calls, on memory that was made ready before (`Slot`) and that
//!   nobody touches until the kernel zeroes `tid` (CLONE_CHILD_CLEARTID: at exec or death);
//! * it has its own stack; it allocates nothing, takes no lock, uses no thread-local storage;
//! * no signal handler exists in this process (`process::default_signal_actions`), and all signals are
//!   blocked until the last call before the exec;
//! * its descriptor table is its own (no CLONE_FILES): our closing the connection does not race with it.
//!
//! An exec that fails sends errno and the connection itself back through a socket pair, so that the
//! client can still be told. A legacy clone is used, not clone3, because seccomp filters
//! (`RestrictNamespaces=`) refuse clone3; nothing that only clone3 has is needed.

use super::raw;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Children between clone and exec at once; each costs a page of stack and one of words once used. An exec takes a few times as
/// long as a clone, so that more are under way only where processors lack, and then to wait for one costs no speed: with 32 slots as
/// many connections a second, 32 clients at once, and a p99 longer by a tenth.
const SLOTS: usize = 16;
/// The child's frames and system calls need less than 1 KiB in a release build, a few in a debug one.
const STACK: usize = 32 * 1024;
const GUARD: usize = 64 * 1024;
/// How long to wait for a slot when all children hang in exec (a dead network file system).
const SLOT_PATIENCE: Duration = Duration::from_secs(1);
/// First descriptor that socket activation passes (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const LISTEN_FDS_START: usize = 3;
/// Digits of the largest pid (2^22, proc_sys_kernel(5)) and more, and the NUL.
const PID_DIGITS: usize = 11;

/// How the command finds its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// On descriptors 0 and 1, as inetd does.
    Stdio,
    /// On descriptor 3, with LISTEN_FDS=1 and the command's own LISTEN_PID.
    ListenFds,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Pass::Stdio => "stdio",
            Pass::ListenFds => "listen-fds",
        })
    }
}

/// Whose session (setsid(2)) a command is in. It leads a process group of its own in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Its own. For each the kernel makes a scheduling group with a part for every processor that the machine may have, and
    /// frees it at the end (sched_autogroup_create_attach, Linux 2.6.38).
    Own,
    /// The daemon's.
    Shared,
}

impl std::fmt::Display for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Session::Own => "own",
            Session::Shared => "shared",
        })
    }
}

/// What is the same for every connection.
#[derive(Debug)]
pub struct Image {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments that hold no placeholder, by the index that [`Words::arg_fixed`] takes.
    pub arguments: Vec<CString>,
    /// The cleaned environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// Entries that some connections get, by the index that [`Words::env_fixed`] takes.
    pub entries: Vec<CString>,
    /// Where the connection goes.
    pub pass: Pass,
    /// Its session.
    pub session: Session,
    /// RLIMIT_NOFILE (soft, hard) to give back to the command, if the daemon raised its own.
    pub nofile: Option<(u64, u64)>,
}

/// An exec that failed.
#[derive(Debug)]
pub struct Report {
    /// The child that tried; it exits with 127.
    pub pid: i32,
    /// Why, as errno.
    pub errno: i32,
    /// The connection, so that the client can be told.
    pub connection: Option<OwnedFd>,
}

/// What one child works from. It reads all of it, and writes its own pid to the places meant for that in `bytes`.
struct Slot {
    /// Not zero while a child may still use this slot; the kernel zeroes it and wakes its futex.
    tid: AtomicI32,
    stack_top: *mut c_void,
    program: *const c_char,
    connection: c_int,
    report: c_int,
    pass: Pass,
    session: Session,
    nofile: Option<libc::rlimit64>,
    bytes: Vec<u8>,
    bytes_start: *mut u8,
    /// Positions in `bytes` that wait for the child's pid, each with room for [`PID_DIGITS`].
    own_pid: Vec<usize>,
    argv: Vec<*const c_char>,
    /// Positions in `argv` whose words are in `bytes`.
    own: Vec<usize>,
    envp: Vec<*const c_char>,
    /// The same for `envp`.
    own_env: Vec<usize>,
    argv_start: *const *const c_char,
    envp_start: *const *const c_char,
}

/// The pool of slots and what all commands share. Not `Send`: pointers into itself.
pub struct Spawner {
    image: Image,
    #[allow(clippy::vec_box, reason = "a child holds its slot's address while this vector may grow")]
    slots: Vec<Box<Slot>>,
    stacks: *mut c_void,
    report: OwnedFd,
}

impl Spawner {
    /// A pool for this image, and the socket on which [`receive`] hears of failed execs.
    ///
    /// # Errors
    /// mmap(2)'s and socketpair(2)'s.
    pub fn new(image: Image) -> io::Result<(Spawner, OwnedFd)> {
        let mut pair = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socketpair writes two new descriptors, which nobody else owns. The sending one is moved
        // above 3, where `Pass::ListenFds` puts the connection in the child.
        let (receiver, report) = unsafe {
            if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) == -1 {
                return Err(io::Error::last_os_error());
            }
            let (receiver, low) = (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]));
            match libc::fcntl(low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) {
                -1 => return Err(io::Error::last_os_error()),
                high => (receiver, OwnedFd::from_raw_fd(high)),
            }
        };
        // SAFETY: a fresh private mapping; each slot's stack is its own piece of it, with a guard below that
        // an overflow hits.
        let stacks = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
            let stacks = libc::mmap(ptr::null_mut(), SLOTS * (STACK + GUARD), libc::PROT_NONE, flags, -1, 0);
            if stacks == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            for slot in 0..SLOTS {
                let bottom = stacks.byte_add(slot * (STACK + GUARD) + GUARD);
                if libc::mprotect(bottom, STACK, libc::PROT_READ | libc::PROT_WRITE) == -1 {
                    let error = io::Error::last_os_error();
                    libc::munmap(stacks, SLOTS * (STACK + GUARD));
                    return Err(error);
                }
            }
            stacks
        };
        let spawner = Spawner { image, slots: Vec::new(), stacks, report };
        Ok((spawner, receiver))
    }

    /// Begins the argument and environment of one command. Waits for a slot if children hang in exec.
    ///
    /// # Errors
    /// `EAGAIN` if none became free in a second.
    pub fn begin(&mut self) -> io::Result<Words<'_>> {
        let at = match self.slots.iter().position(|slot| slot.tid.load(Ordering::Acquire) == 0) {
            Some(at) => at,
            None if self.slots.len() < SLOTS => self.grow(),
            None => self.wait_for_slot()?,
        };
        let slot = &mut self.slots[at];
        slot.bytes.clear();
        slot.argv.clear();
        slot.own.clear();
        slot.own_env.clear();
        slot.own_pid.clear();
        slot.envp.truncate(self.image.environment.len());
        Ok(Words { slot, image: &self.image })
    }

    /// Gives back the pages of stacks that no child uses, after a burst.
    pub fn rest(&self) {
        if self.slots.iter().all(|slot| slot.tid.load(Ordering::Acquire) == 0) {
            // SAFETY: our own mapping, and no child is on it: what is there is of no use to the next.
            unsafe { libc::madvise(self.stacks, SLOTS * (STACK + GUARD), libc::MADV_DONTNEED) };
        }
    }

    fn grow(&mut self) -> usize {
        let at = self.slots.len();
        // SAFETY: the end of piece `at` of the mapping, which is SLOTS pieces long and at < SLOTS.
        let stack_top = unsafe { self.stacks.byte_add((at + 1) * (STACK + GUARD)) };
        self.slots.push(Box::new(Slot {
            tid: AtomicI32::new(0),
            stack_top,
            program: self.image.program.as_ptr(),
            connection: -1,
            report: self.report.as_raw_fd(),
            pass: self.image.pass,
            session: self.image.session,
            nofile: self.image.nofile.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard }),
            bytes: Vec::with_capacity(512),
            bytes_start: ptr::null_mut(),
            own_pid: Vec::new(),
            argv: Vec::new(),
            own: Vec::new(),
            own_env: Vec::new(),
            argv_start: ptr::null(),
            envp_start: ptr::null(),
            envp: self.image.environment.iter().map(|entry| entry.as_ptr()).collect(),
        }));
        at
    }

    fn wait_for_slot(&self) -> io::Result<usize> {
        let until = Instant::now() + SLOT_PATIENCE;
        let tick = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        loop {
            for (at, slot) in self.slots.iter().enumerate() {
                if slot.tid.load(Ordering::Acquire) == 0 {
                    return Ok(at);
                }
            }
            if Instant::now() >= until {
                return Err(io::Error::from_raw_os_error(libc::EAGAIN));
            }
            // The first slot is as good as any to sleep on; the tick finds another that is faster.
            // SAFETY: the word lives in a boxed slot; FUTEX_WAIT only reads it (futex(2)).
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.slots[0].tid.as_ptr(),
                    libc::FUTEX_WAIT,
                    1,
                    &tick,
                    ptr::null::<u32>(),
                    0,
                );
            }
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        for slot in &self.slots {
            while slot.tid.load(Ordering::Acquire) != 0 {
                std::thread::yield_now(); // a child still reads the slot: its memory must outlive the exec
            }
        }
        // SAFETY: our own mapping, and no child is on it any more.
        unsafe { libc::munmap(self.stacks, SLOTS * (STACK + GUARD)) };
    }
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Spawner").field("image", &self.image).field("slots", &self.slots.len()).finish()
    }
}

/// The words of one command while they are put together.
#[derive(Debug)]
pub struct Words<'a> {
    slot: &'a mut Slot,
    image: &'a Image,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Slot").field("tid", &self.tid).finish()
    }
}

/// Stands in `argv` and `envp` for "at this offset of `bytes`" until `bytes` no longer moves.
fn offset(bytes: &[u8]) -> *const c_char {
    ptr::without_provenance(bytes.len())
}

impl Words<'_> {
    /// The next argument is `arguments[index]` of the image.
    pub fn arg_fixed(&mut self, index: usize) {
        self.slot.argv.push(self.image.arguments[index].as_ptr());
    }

    /// The next argument is what `write` appends. A NUL in it would end it early, so it is left out.
    pub fn arg(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.slot.own.push(self.slot.argv.len());
        self.slot.argv.push(offset(&self.slot.bytes));
        self.append(write);
    }

    /// One more environment entry: `entries[index]` of the image.
    pub fn env_fixed(&mut self, index: usize) {
        self.slot.envp.push(self.image.entries[index].as_ptr());
    }

    /// One more environment entry, `NAME=value`, as `write` appends it.
    pub fn env(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.slot.own_env.push(self.slot.envp.len());
        self.slot.envp.push(offset(&self.slot.bytes));
        self.append(write);
    }

    /// One more environment entry: what `write` appends, and after it the command's own pid in decimal.
    pub fn env_own_pid(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.env(write);
        let end = self.slot.bytes.len() - 1;
        self.slot.own_pid.push(end);
        self.slot.bytes.resize(end + PID_DIGITS, 0);
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.slot.bytes.len();
        write(&mut self.slot.bytes);
        self.close(from);
    }

    /// Apart from what is generic, which there is a copy of for each word.
    fn close(&mut self, from: usize) {
        if self.slot.bytes[from..].contains(&0) {
            let kept: Vec<u8> = self.slot.bytes.drain(from..).filter(|byte| *byte != 0).collect();
            self.slot.bytes.extend(kept);
        }
        self.slot.bytes.push(0);
    }

    /// Starts the command with `connection`, whose descriptor the caller still owns and should close.
    /// The result is the child's pid; whether its exec succeeds shows later ([`receive`]).
    ///
    /// # Errors
    /// clone(2)'s: `EAGAIN` for RLIMIT_NPROC, pids.max or the like; `ENOMEM`.
    pub fn spawn(self, connection: BorrowedFd) -> io::Result<i32> {
        let slot = self.slot;
        let base = slot.bytes.as_mut_ptr();
        slot.bytes_start = base;
        for (words, own) in [(&mut slot.argv, &slot.own), (&mut slot.envp, &slot.own_env)] {
            for at in own {
                words[*at] = base.wrapping_add(words[*at].addr()).cast_const().cast();
            }
        }
        slot.argv.push(ptr::null());
        slot.envp.push(ptr::null());
        (slot.argv_start, slot.envp_start) = (slot.argv.as_ptr(), slot.envp.as_ptr());
        slot.connection = connection.as_raw_fd();
        slot.tid.store(1, Ordering::Release);
        let argument = ptr::from_mut(slot);
        // SAFETY: the stack is this slot's alone and unused, since tid was zero; the slot is boxed and is
        // neither moved, changed nor freed until the kernel zeroes tid; the child keeps to the rules above.
        let pid = unsafe { raw::clone(slot.stack_top, &slot.tid, child, argument.cast()) };
        if pid < 0 {
            slot.tid.store(0, Ordering::Release);
            return Err(io::Error::from_raw_os_error(-pid as i32));
        }
        Ok(pid as i32)
    }
}

/// Runs in the child, on the slot's stack, in the parent's memory.
unsafe extern "C" fn child(slot: *mut c_void) -> ! {
    // SAFETY: the parent passed its slot and leaves it alone until tid is zero. Only this child writes to it,
    // and only to the places in `bytes` meant for it. Everything reachable was made ready before the clone.
    unsafe {
        let slot = slot.cast::<Slot>();
        let errno = prepare_and_exec(slot);
        send_back(slot, errno);
        loop {
            raw::call(libc::SYS_exit_group, [127, 0, 0, 0, 0]);
        }
    }
}

/// # Safety
/// As for [`child`]. Returns errno if no new program took over.
unsafe fn prepare_and_exec(slot: *mut Slot) -> i32 {
    // SAFETY: see `child`; every pointer given to the kernel is into the slot, the image or this stack.
    unsafe {
        // A child leads neither yet, so these cannot fail; a session's number is its leader's pid.
        let pid = match (*slot).session {
            Session::Own => raw::call(libc::SYS_setsid, [0; 5]),
            Session::Shared => {
                raw::call(libc::SYS_setpgid, [0; 5]);
                raw::call(libc::SYS_getpid, [0; 5])
            }
        };
        let places: &[usize] = &(*slot).own_pid;
        for at in places {
            write_decimal((*slot).bytes_start.add(*at), pid as u32);
        }
        let connection = (*slot).connection as usize;
        let failed = match (*slot).pass {
            Pass::Stdio => {
                let (input, output) = (
                    raw::call(libc::SYS_dup3, [connection, 0, 0, 0, 0]),
                    raw::call(libc::SYS_dup3, [connection, 1, 0, 0, 0]),
                );
                input.min(output)
            }
            Pass::ListenFds => {
                if connection == LISTEN_FDS_START {
                    raw::call(libc::SYS_fcntl, [connection, libc::F_SETFD as usize, 0, 0, 0])
                } else {
                    raw::call(libc::SYS_dup3, [connection, LISTEN_FDS_START, 0, 0, 0])
                }
            }
        };
        if failed < 0 {
            return -failed as i32;
        }
        if let Some(limit) = &(*slot).nofile {
            let limit: *const libc::rlimit64 = limit;
            raw::call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, limit.addr(), 0, 0]);
        }
        let none = 0u64;
        raw::call(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, (&raw const none).addr(), 0, 8, 0]);
        let (argv, envp) = ((*slot).argv_start, (*slot).envp_start);
        -raw::call(libc::SYS_execve, [(*slot).program.addr(), argv.addr(), envp.addr(), 0, 0]) as i32
    }
}

/// Sends pid, errno and the connection to the parent. If that fails the client sees a plain close.
///
/// # Safety
/// As for [`child`].
unsafe fn send_back(slot: *mut Slot, errno: i32) {
    // SAFETY: all buffers are on this stack; CMSG_* only compute places within `control`.
    unsafe {
        let mut words = [raw::call(libc::SYS_getpid, [0; 5]) as i32, errno];
        let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of::<[i32; 2]>() };
        let mut control = [0u64; 4];
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
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

/// The next failed exec that was sent to this receiver; `None` when there is none.
pub fn receive(receiver: BorrowedFd) -> Option<Report> {
    let mut words = [0i32; 2];
    let mut control = [0u64; 4];
    // SAFETY: all buffers live across the call; a descriptor that arrives is new, and ours alone.
    unsafe {
        let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of::<[i32; 2]>() };
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<[u64; 4]>() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        if libc::recvmsg(receiver.as_raw_fd(), &mut message, flags) != size_of::<[i32; 2]>() as isize {
            return None;
        }
        let header = libc::CMSG_FIRSTHDR(&message);
        let has_fd = !header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS;
        let connection = has_fd.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()));
        Some(Report { pid: words[0], errno: words[1], connection })
    }
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
