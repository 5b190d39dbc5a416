//! Keeping an idle daemon small.

use super::rlimit::{self, Resource};
use std::ffi::{c_int, c_void};
use std::time::{Duration, Instant};

/// Delay before start-up memory is given back: by then the log has written its first lines.
const AFTER_START: Duration = Duration::from_millis(10);
/// Time without an event after which the pages of serving are given back, too; the next client costs a few page faults.
const WHEN_QUIET: Duration = Duration::from_secs(10);

/// When the program's own pages are given back: once the start is over, and then whenever it is quiet.
#[derive(Debug, Default)]
pub struct Trim {
    at: Option<Instant>,
    has_begun: bool,
}

impl Trim {
    /// The start is over.
    pub fn started(&mut self, now: Instant) {
        self.at = Some(now + AFTER_START);
    }

    /// A wait is over, since something `has_happened` or it was time.
    pub fn woken(&mut self, now: Instant, has_happened: bool) {
        if has_happened && self.has_begun {
            self.at = Some(now + WHEN_QUIET);
        }
    }

    /// When it is time to [`give_back`].
    pub fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it is time now, which is said once.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.at.take_if(|at| *at <= now).is_some();
        self.has_begun |= is_due;
        is_due
    }
}

/// Gives back memory that is not in use: what the start needed, or what serving needed when it is quiet.
pub fn give_back() {
    forget_past_calls();
    forget_code_pages();
}

/// What parsing options takes of the stack, and more: some 60 KiB, in a debug build nine times that, since each option has its own part.
const STACK: u64 = if cfg!(debug_assertions) { 2 << 20 } else { 512 << 10 };

/// The limit of the stack as it was, which commands inherit; set again when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct StackLimit(Option<(u64, u64)>);

impl Drop for StackLimit {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            let _ = rlimit::set(Resource::RLIMIT_STACK, soft, hard); // lower than it is, which is always allowed
        }
    }
}

/// Room on the stack for parsing options. What it has grown to by then stays when the limit is as before.
///
/// # Errors
/// One line, if the hard limit is too low.
pub fn raise_stack_limit() -> Result<StackLimit, String> {
    let Ok((soft, hard)) = rlimit::get(Resource::RLIMIT_STACK) else { return Ok(StackLimit(None)) };
    if soft >= STACK {
        return Ok(StackLimit(None));
    }
    if hard < STACK || rlimit::set(Resource::RLIMIT_STACK, STACK, hard).is_err() {
        let (hard, need) = (hard >> 10, STACK >> 10);
        return Err(format!("the stack is limited to {hard} KiB (LimitSTACK=, ulimit -s); {need} KiB are needed"));
    }
    Ok(StackLimit(Some((soft, hard))))
}

/// One heap for all threads: the log's thread allocates little, and a heap of its own would cost more than
/// the lock. Only glibc has this setting (mallopt(3)). Call it before threads exist.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns unused stack pages below this frame (parsing options: some 60 KiB), and free heap pages where the C library can
/// (malloc_trim(3)), to the kernel. Call it from the main thread.
fn forget_past_calls() {
    /// Frames below this one that may be in use: this function's own callees.
    const MARGIN: usize = 16 * 1024;
    /// A main thread's stack begins with so much, and nothing else is mapped within its guard gap of 1 MiB.
    const REACH: usize = 128 * 1024;
    // SAFETY: below the stack pointer nothing is in use, MARGIN is far more than the frames of these calls, and pages that
    // come back are zero, which is as good as what dead frames left. Where nothing is mapped the kernel goes on and says so.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let end = ((&raw const page).addr() - MARGIN) & !(page - 1);
        libc::madvise(std::ptr::without_provenance_mut(end - REACH), REACH, libc::MADV_DONTNEED);
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
    }
}

/// Lets the kernel drop this program's own code and constants from our page tables: parsing options has
/// touched nearly all of them, serving touches a part, and what is needed comes back from the page cache by itself.
///
/// It took the idle daemon from 1,376 to 832 KiB (PSS, with a smaller build). Nothing is lost: only segments that are never written.
fn forget_code_pages() {
    // SAFETY: the callback below is called for each loaded object before this returns.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

extern "C" fn forget(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid object. Pages of a file mapping that was never written are
    // read again from the file when they are next touched, this code's own included.
    unsafe {
        let object = &*object;
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into());
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        // The first segment has the headers, which would bring it back if it did not go last.
        let first = headers.iter().position(|h| h.p_type == libc::PT_LOAD).unwrap_or_default();
        let segments = headers[first..].iter().rev().filter(|h| h.p_type == libc::PT_LOAD);
        for header in segments.filter(|h| h.p_flags & libc::PF_W == 0) {
            let start = object.dlpi_addr as usize + header.p_vaddr as usize;
            let (first, end) = (start & !(page - 1), start + header.p_memsz as usize);
            libc::madvise(std::ptr::without_provenance_mut(first), end - first, libc::MADV_DONTNEED);
        }
    }
    1 // the first object is the program itself; libraries are shared with everybody
}
