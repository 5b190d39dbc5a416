//! Enters the target that `FUZZ_TARGET` names with the bytes of libFuzzer, which has the `main` of this program: its options and
//! folders are the arguments (llvm.org/docs/LibFuzzer.html). `FUZZ_TARGET=list` prints each target, and how many bytes it takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sockcap::fuzzing::{TARGETS, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the memory that is in use. libFuzzer's own bound counts only with a sanitizer.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static MEMORY: Counting = Counting;

// SAFETY: the system's allocator, with two numbers beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(IN_USE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        if name == "list" {
            TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.longest));
            std::process::exit(0);
        }
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            eprintln!("FUZZ_TARGET={name}: there is no such target; FUZZ_TARGET=list prints all");
            std::process::exit(2)
        })
    })
}

fuzz_target!(
    init: { target(); },
    |data: &[u8]| {
        let target = target();
        let before = IN_USE.load(Relaxed);
        MOST.store(before, Relaxed);
        (target.enter)(data);
        let most = MOST.load(Relaxed).saturating_sub(before);
        assert!(most <= target.memory, "{most} bytes of memory are more than {}", target.memory);
    }
);
