//! The stacks that children run on between clone and exec, while they share the daemon's memory.

use std::ffi::c_void;
use std::io;
use std::ptr;

/// Stacks that are mapped at once. An exec takes a few times as long as a clone, so that more children are under way only where
/// processors lack, or where an exec hangs (a dead network file system).
pub(super) const BLOCK: usize = 16;
/// The child's frames and system calls need less than 1 KiB in a release build, a few in a debug one.
pub(super) const STACK: usize = 32 * 1024;
const GUARD: usize = 64 * 1024;

/// Stacks for [`BLOCK`] children, each with a guard below it that an overflow hits.
pub(super) struct Stacks(*mut c_void);

impl Stacks {
    const LENGTH: usize = BLOCK * (STACK + GUARD);

    /// # Errors
    /// mmap(2)'s and mprotect(2)'s.
    pub(super) fn map() -> io::Result<Stacks> {
        // SAFETY: a fresh private mapping; only pieces of it are made writable.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
            let start = libc::mmap(ptr::null_mut(), Self::LENGTH, libc::PROT_NONE, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stacks = Stacks(start);
            for at in 0..BLOCK {
                let bottom = start.byte_add(at * (STACK + GUARD) + GUARD);
                if libc::mprotect(bottom, STACK, libc::PROT_READ | libc::PROT_WRITE) == -1 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(stacks)
        }
    }

    /// The end of one of them, from which it grows down.
    pub(super) fn top(&self, at: usize) -> *mut c_void {
        assert!(at < BLOCK);
        // SAFETY: the end of piece `at` of the mapping, which is BLOCK pieces long.
        unsafe { self.0.byte_add((at + 1) * (STACK + GUARD)) }
    }

    /// Gives back their pages. No child may be on one.
    pub(super) fn give_back(&self) {
        // SAFETY: our own mapping; what is there is of no use to the next child.
        unsafe { libc::madvise(self.0, Self::LENGTH, libc::MADV_DONTNEED) };
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever drops it knows that no child is on it.
        unsafe { libc::munmap(self.0, Self::LENGTH) };
    }
}
