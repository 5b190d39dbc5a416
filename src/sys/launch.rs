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
//! A legacy clone is used, not clone3, because seccomp filters (`RestrictNamespaces=`) refuse clone3; but for a command that is to be
//! born in a cgroup of its own, where [`try_birth`] has shown that it can.

pub use super::manner::{Pass, Session, StandardError};
pub use super::raw::{Birth, try_birth};

use super::attributes::{Attributes, Own};
use super::client_fd::ClientFd;
use super::exec::{GO, HOLD, PID_DIGITS, Slot, WAITS, child};
use super::raw;
use super::stacks::{BLOCK, STACK, Stacks};
use std::ffi::{CString, c_char};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// What is the same for every connection.
#[derive(Debug)]
pub struct CommandSpec {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments that hold no placeholder, by the index that [`ExecArgs::arg_fixed`] takes.
    pub arguments: Vec<CString>,
    /// The cleaned environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// Entries that some connections get, by the index that [`ExecArgs::env_fixed`] takes.
    pub entries: Vec<CString>,
    /// Where the connection goes.
    pub pass: Pass,
    /// Its session.
    pub session: Session,
    /// RLIMIT_NOFILE (soft, hard) to give back to the command, if the daemon raised its own.
    pub nofile: Option<(u64, u64)>,
    /// What it gets beside these. Boxed, since children hold its address.
    pub attributes: Box<Attributes>,
}

/// How a command comes into its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By clone3(2), Linux 5.7.
    Born,
    /// By writing to cgroup.procs, from the child.
    Enters,
}

/// All memory that children read and run on.
struct Pool {
    spec: CommandSpec,
    #[allow(clippy::vec_box, reason = "a child holds its slot's address while this vector may grow")]
    slots: Vec<Box<Slot>>,
    /// The stack of slot `n` is in block `n / BLOCK`.
    stacks: Vec<Stacks>,
}

/// The pool of launch slots and what all commands share. Not `Send`: pointers into itself.
///
/// A slot is a child between clone and exec. There are as many as are needed at once, so that nobody waits for one:
/// a child whose exec hangs keeps its slot, and the others get new ones, a page of stack and one of words each.
pub struct Spawner {
    pool: ManuallyDrop<Pool>,
    report: OwnedFd,
}

/// One start of a command: which slot it has, and the how manieth of that slot's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    slot: u32,
    nth: u32,
}

/// The same above 3, where `Pass::ListenFds` puts the connection in a child that needs this one afterwards.
fn lifted(low: OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: integers; the result is a new descriptor, which nobody else owns.
    unsafe {
        match libc::fcntl(low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) {
            -1 => Err(io::Error::last_os_error()),
            high => Ok(OwnedFd::from_raw_fd(high)),
        }
    }
}

impl Spawner {
    /// A pool for this spec, and the socket on which [`receive`](super::exec::receive) hears of failed execs.
    ///
    /// # Errors
    /// mmap(2)'s and socketpair(2)'s.
    pub fn new(mut spec: CommandSpec) -> io::Result<(Spawner, OwnedFd)> {
        let mut pair = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socketpair writes two new descriptors, which nobody else owns.
        let (receiver, report) = unsafe {
            if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) == -1 {
                return Err(io::Error::last_os_error());
            }
            (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
        };
        let report = lifted(report)?;
        spec.attributes.domain = spec.attributes.domain.take().map(lifted).transpose()?;
        let pool = Pool { spec, slots: Vec::new(), stacks: vec![Stacks::map()?] };
        Ok((Spawner { pool: ManuallyDrop::new(pool), report }, receiver))
    }

    /// Begins the argument and environment of one command.
    ///
    /// # Errors
    /// mmap(2)'s, if so many children are in exec at once that another stack is needed.
    pub fn begin(&mut self) -> io::Result<ExecArgs<'_>> {
        let at = match self.pool.slots.iter().position(|slot| !slot.is_in_use()) {
            Some(at) => at,
            None => self.grow()?,
        };
        let Pool { spec, slots, .. } = &mut *self.pool;
        let slot = &mut slots[at];
        slot.bytes.clear();
        slot.argv.clear();
        slot.argv_in_bytes.clear();
        slot.env_in_bytes.clear();
        slot.pid_at.clear();
        slot.own = Own::NONE;
        slot.birthplace = None;
        slot.envp.truncate(spec.environment.len());
        Ok(ExecArgs { at: at as u32, slot, spec })
    }

    /// Whether the child of this launch is out of our memory: its exec is over, or its life.
    pub fn has_left(&self, launch: Launch) -> bool {
        let slot = &self.pool.slots[launch.slot as usize];
        slot.launches != launch.nth || !slot.is_in_use()
    }

    /// Leaves the connection to the child of this launch: our copy is closed while the child has one for certain, since the child
    /// does not get to its exec before that. The last copy takes with it what the client has loaded it with ([`ClientFd`]).
    pub fn leave(&self, launch: Launch, connection: ClientFd) {
        let slot = &self.pool.slots[launch.slot as usize];
        if !connection.is_loadable() || raw::suspends() || slot.launches != launch.nth {
            return drop(connection);
        }
        connection.close_as_one_of_many();
        if slot.go.swap(GO, Ordering::AcqRel) == WAITS {
            // SAFETY: a word in a boxed slot; FUTEX_WAKE only takes its address (futex(2)).
            unsafe { libc::syscall(libc::SYS_futex, slot.go.as_ptr(), libc::FUTEX_WAKE, 1) };
        }
    }

    /// How many children are between clone and exec.
    pub fn under_way(&self) -> usize {
        self.pool.slots.iter().filter(|slot| slot.is_in_use()).count()
    }

    /// Gives back the pages of stacks that no child uses, after a burst.
    pub fn rest(&self) {
        for (stacks, slots) in self.pool.stacks.iter().zip(self.pool.slots.chunks(BLOCK)) {
            if slots.iter().all(|slot| !slot.is_in_use()) {
                stacks.give_back();
            }
        }
    }

    fn grow(&mut self) -> io::Result<usize> {
        let Pool { spec, slots, stacks } = &mut *self.pool;
        let at = slots.len();
        if at == stacks.len() * BLOCK {
            stacks.push(Stacks::map()?);
        }
        slots.push(Box::new(Slot {
            tid: AtomicI32::new(0),
            go: AtomicI32::new(GO),
            launches: 0,
            stack_top: stacks[at / BLOCK].top(at % BLOCK),
            program: spec.program.as_ptr(),
            connection: -1,
            report: self.report.as_raw_fd(),
            pass: spec.pass,
            session: spec.session,
            nofile: spec.nofile.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard }),
            attributes: &raw const *spec.attributes,
            own: Own::NONE,
            birthplace: None,
            bytes: Vec::with_capacity(512),
            bytes_start: ptr::null_mut(),
            pid_at: Vec::new(),
            argv: Vec::new(),
            argv_in_bytes: Vec::new(),
            env_in_bytes: Vec::new(),
            argv_start: ptr::null(),
            envp_start: ptr::null(),
            envp: spec.environment.iter().map(|entry| entry.as_ptr()).collect(),
        }));
        Ok(at)
    }
}

impl Drop for Spawner {
    /// While a child is in exec its memory is kept, and lost: the child may need it for as long as it likes, and beyond our
    /// own end, since this memory lives until the last process that shares it has left it (CLONE_VM).
    fn drop(&mut self) {
        if self.pool.slots.iter().all(|slot| !slot.is_in_use()) {
            // SAFETY: this is the one place that drops it, and nobody reads it any more.
            unsafe { ManuallyDrop::drop(&mut self.pool) };
        }
    }
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Spawner").field("spec", &self.pool.spec).field("slots", &self.pool.slots.len()).finish()
    }
}

/// The arguments and the environment of one command while they are put together.
#[derive(Debug)]
pub struct ExecArgs<'a> {
    at: u32,
    slot: &'a mut Slot,
    spec: &'a CommandSpec,
}

/// Stands in `argv` and `envp` for "at this offset of `bytes`" until `bytes` no longer moves.
fn offset(bytes: &[u8]) -> *const c_char {
    ptr::without_provenance(bytes.len())
}

impl<'a> ExecArgs<'a> {
    /// The next argument is `arguments[index]` of the spec.
    pub fn arg_fixed(&mut self, index: usize) {
        self.slot.argv.push(self.spec.arguments[index].as_ptr());
    }

    /// The next argument is what `write` appends. A NUL in it would end it early, so it is left out.
    pub fn arg(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.slot.argv_in_bytes.push(self.slot.argv.len());
        self.slot.argv.push(offset(&self.slot.bytes));
        self.append(write);
    }

    /// One more environment entry: `entries[index]` of the spec.
    pub fn env_fixed(&mut self, index: usize) {
        self.slot.envp.push(self.spec.entries[index].as_ptr());
    }

    /// One more environment entry, `NAME=value`, as `write` appends it.
    pub fn env(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.slot.env_in_bytes.push(self.slot.envp.len());
        self.slot.envp.push(offset(&self.slot.bytes));
        self.append(write);
    }

    /// One more environment entry: what `write` appends, and after it the command's own pid in decimal.
    pub fn env_own_pid(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.env(write);
        let end = self.slot.bytes.len() - 1;
        self.slot.pid_at.push(end);
        self.slot.bytes.resize(end + PID_DIGITS, 0);
    }

    /// Its standard error is this, whatever the others' is.
    pub fn stderr(&mut self, fd: BorrowedFd<'a>) {
        self.slot.own.stderr = fd.as_raw_fd();
    }

    /// It is to be in a cgroup whose folder this is: born in it, or entering it before all else.
    pub fn cgroup(&mut self, folder: BorrowedFd<'a>, way: Way) {
        match way {
            Way::Born => self.slot.birthplace = Some(folder.as_raw_fd()),
            Way::Enters => self.slot.own.cgroup = folder.as_raw_fd(),
        }
    }

    /// Its user and its group are to be of this number.
    pub fn user(&mut self, number: u32) {
        self.slot.own.user = Some(number);
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

    /// Starts the command with `connection`, which the caller still owns and should give to [`Spawner::leave`].
    /// The result is the child's pid and its launch; whether its exec succeeds shows later
    /// ([`receive`](super::exec::receive), [`Spawner::has_left`]). The pid is in `place` before the child runs.
    ///
    /// # Errors
    /// clone(2)'s: `EAGAIN` for RLIMIT_NPROC, pids.max or the like; `ENOMEM`.
    pub fn spawn(self, connection: &ClientFd, place: Option<&AtomicU32>) -> io::Result<(i32, Launch)> {
        let ExecArgs { at, slot, .. } = self;
        let base = slot.bytes.as_mut_ptr();
        slot.bytes_start = base;
        for (pointers, in_bytes) in [(&mut slot.argv, &slot.argv_in_bytes), (&mut slot.envp, &slot.env_in_bytes)] {
            for at in in_bytes {
                pointers[*at] = base.wrapping_add(pointers[*at].addr()).cast_const().cast();
            }
        }
        slot.argv.push(ptr::null());
        slot.envp.push(ptr::null());
        (slot.argv_start, slot.envp_start) = (slot.argv.as_ptr(), slot.envp.as_ptr());
        slot.connection = connection.as_raw_fd();
        let is_free = !connection.is_loadable() || raw::suspends();
        slot.go.store(if is_free { GO } else { HOLD }, Ordering::Relaxed);
        slot.launches = slot.launches.wrapping_add(1);
        let launch = Launch { slot: at, nth: slot.launches };
        slot.tid.store(1, Ordering::Release);
        let argument = ptr::from_mut(slot);
        // SAFETY: the stack is this slot's alone and unused, since tid was zero; the slot is boxed and is
        // neither moved, changed nor freed until the kernel zeroes tid; the child keeps to the rules above.
        let clone = || unsafe {
            match slot.birthplace {
                None => raw::clone(slot.stack_top, &slot.tid, place, child, argument.cast()),
                Some(cgroup) => {
                    let cgroup = BorrowedFd::borrow_raw(cgroup);
                    raw::clone_into(cgroup, (slot.stack_top, STACK), &slot.tid, place, child, argument.cast())
                }
            }
        };
        let mut pid = clone();
        if pid == -(libc::EINVAL as isize) && raw::suspend() {
            slot.go.store(GO, Ordering::Relaxed);
            pid = clone();
        }
        if pid < 0 || raw::suspends() {
            slot.tid.store(0, Ordering::Release);
        }
        if pid < 0 {
            return Err(io::Error::from_raw_os_error(-pid as i32));
        }
        Ok((pid as i32, launch))
    }
}
