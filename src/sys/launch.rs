//! Starting a command: clone(2) sharing memory, on a stack from a pool, without waiting for the exec.
//!
//! The parent goes on accepting while the child is still in execve(2): 1.3 times the rate of vfork on
//! two processors. What makes that sound:
//!
//! * the child keeps to the rules of `exec.rs`, and has its own stack;
//! * no signal handler exists in this process (`process::default_signal_actions`), and all signals are
//!   blocked until the last call before the exec;
//! * its descriptor table is its own (no CLONE_FILES): our closing the connection does not race with it.
//!
//! A legacy clone is used, not clone3, because seccomp filters
//! (`RestrictNamespaces=`) refuse clone3; nothing that only clone3 has is needed.

use super::exec::{PID_DIGITS, Slot, child};
use super::raw;
use std::ffi::{CString, c_char, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
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
