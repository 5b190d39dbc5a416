//! System calls for a child that still shares its parent's memory.
//!
//! Such a child may not use libc's wrappers: they store `errno` in thread-local storage, and the
//! thread is the parent's, which runs on meanwhile. Where this file knows the machine's calling
//! convention, the call is made in place and [`SHARES_SAFELY`] is true. Elsewhere libc's `syscall` is
//! used, and `spawn` keeps the parent suspended until the exec (`CLONE_VFORK`), so that nobody looks.

/// Whether a child may run beside its parent in the same memory.
pub(super) const SHARES_SAFELY: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// One system call; a negative result is `-errno`.
///
/// # Safety
/// As for the call itself: pointers must be valid for what the kernel reads and writes through them.
#[inline(always)]
pub(super) unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the x86-64 system call convention (syscall(2)); rcx and r11 are clobbered by the instruction.
    unsafe {
        let result: isize;
        std::arch::asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _, options(nostack));
        result
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the arm64 system call convention (syscall(2)).
    unsafe {
        let result: isize;
        std::arch::asm!("svc #0", in("x8") number, inlateout("x0") args[0] as isize => result,
            in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], options(nostack));
        result
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the RISC-V system call convention (syscall(2)).
    unsafe {
        let result: isize;
        std::arch::asm!("ecall", in("a7") number, inlateout("a0") args[0] as isize => result,
            in("a1") args[1], in("a2") args[2], in("a3") args[3], in("a4") args[4], options(nostack));
        result
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    // SAFETY: the parent thread is suspended until exec or exit, so overwriting its errno is unseen.
    unsafe {
        match libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) {
            -1 => -(*libc::__errno_location() as isize),
            result => result as isize,
        }
    }
}
