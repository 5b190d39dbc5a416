//! The system call conventions of the machines that this program knows (syscall(2), "Architecture calling conventions"): one module for
//! each, with the same two functions. None of them touches thread-local storage, as libc's wrappers do for `errno`.

use std::ffi::{c_long, c_void};

/// What a child does. It does not return: there is nothing on its stack to return to.
pub(super) type Body = unsafe extern "C" fn(*mut c_void) -> !;

/// Whether this machine is among them.
pub(super) const IS_KNOWN: bool = cfg!(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64"
));

/// One system call; a negative result is `-errno`.
///
/// # Safety
/// As for the call itself: pointers must be valid for what the kernel reads and writes through them.
#[inline(always)]
pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
    // SAFETY: as the caller promises.
    unsafe { convention::call(number, args) }
}

/// One system call that makes a child on a stack of its own, clone(2) or clone3(2), whose child runs `body(argument)`. The result is that
/// for the parent: a pid, or `-errno`; `-ENOSYS` where the machine is not known.
///
/// Both sides come back from the kernel with the same registers but for the result and the stack's. The child leaves this code by `body`,
/// with nothing above it that a backtrace could follow.
///
/// # Safety
/// As for the call itself. The new stack is aligned to 16 bytes and the child's alone. `body` calls nothing of libc, and no signal
/// handler exists.
pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
    // SAFETY: as the caller promises.
    unsafe { convention::branch(number, args, body, argument) }
}

#[cfg(target_arch = "x86_64")]
mod convention {
    use super::*;
    use std::arch::asm;

    #[inline(always)]
    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: rcx and r11 are clobbered by the instruction.
        unsafe {
            let result: isize;
            asm!("syscall", inlateout("rax") number as isize => result,
                in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
                lateout("rcx") _, lateout("r11") _, options(nostack));
            result
        }
    }

    pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
        // SAFETY: as above; r12 and r13 are for the child.
        unsafe {
            let result: isize;
            asm!("syscall", "test rax, rax", "jnz 2f",
                "xor ebp, ebp", "mov rdi, r12", "call r13", "ud2", "2:",
                inlateout("rax") number as isize => result,
                in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
                in("r12") argument, in("r13") body, out("rcx") _, out("r11") _, options(nostack));
            result
        }
    }
}

#[cfg(target_arch = "x86")]
mod convention {
    use super::*;
    use std::arch::asm;

    #[inline(always)]
    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: the compiler gives nobody esi, so that the fourth argument and the number come from memory, which lives across this.
        unsafe {
            let result: isize;
            let rest = [args[3], number as usize];
            asm!("push esi", "mov esi, [eax]", "mov eax, [eax + 4]", "int 0x80", "pop esi",
                inlateout("eax") rest.as_ptr() => result,
                in("ebx") args[0], in("ecx") args[1], in("edx") args[2], in("edi") args[4]);
            result
        }
    }

    /// The fourth argument is not passed: clone(2) takes it for CLONE_SETTLS alone, and clone3(2) has two.
    pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
        // SAFETY: as above, and nobody is given ebp, either; both are for the child, whose new stack is aligned at its call.
        unsafe {
            let result: isize;
            let rest = [number as usize, argument.expose_provenance(), body as usize];
            asm!("push esi", "push ebp", "mov esi, [eax + 4]", "mov ebp, [eax + 8]", "mov eax, [eax]",
                "int 0x80", "test eax, eax", "jnz 2f",
                "mov eax, ebp", "xor ebp, ebp", "sub esp, 12", "push esi", "call eax", "ud2", "2:",
                "pop ebp", "pop esi",
                inlateout("eax") rest.as_ptr() => result,
                in("ebx") args[0], in("ecx") args[1], in("edx") args[2], in("edi") args[4]);
            result
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod convention {
    use super::*;
    use std::arch::asm;

    #[inline(always)]
    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: no register but the result's is changed.
        unsafe {
            let result: isize;
            asm!("svc #0", in("x8") number, inlateout("x0") args[0] as isize => result,
                in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], options(nostack));
            result
        }
    }

    pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
        // SAFETY: as above; x5 and x6 are for the child.
        unsafe {
            let result: isize;
            asm!("svc #0", "cbnz x0, 2f",
                "mov x29, xzr", "mov x30, xzr", "mov x0, x6", "blr x5", "brk #1", "2:",
                in("x8") number, inlateout("x0") args[0] as isize => result,
                in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
                in("x5") body, in("x6") argument, options(nostack));
            result
        }
    }
}

#[cfg(target_arch = "arm")]
mod convention {
    use super::*;
    use std::arch::asm;

    #[inline(always)]
    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: r7 may be the frame pointer, which the compiler gives nobody; r8 keeps it.
        unsafe {
            let result: isize;
            asm!("mov r8, r7", "mov r7, r12", "svc #0", "mov r7, r8",
                in("r12") number, inlateout("r0") args[0] as isize => result,
                in("r1") args[1], in("r2") args[2], in("r3") args[3], in("r4") args[4],
                out("r8") _, options(nostack));
            result
        }
    }

    pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
        // SAFETY: as above; r5 and r10 are for the child.
        unsafe {
            let result: isize;
            asm!("mov r8, r7", "mov r7, r12", "svc #0", "mov r7, r8", "cmp r0, #0", "bne 2f",
                "mov r7, #0", "mov r11, #0", "mov lr, #0", "mov r0, r10", "blx r5", "udf #0", "2:",
                in("r12") number, inlateout("r0") args[0] as isize => result,
                in("r1") args[1], in("r2") args[2], in("r3") args[3], in("r4") args[4],
                in("r5") body, in("r10") argument, out("r8") _, options(nostack));
            result
        }
    }
}

#[cfg(target_arch = "riscv64")]
mod convention {
    use super::*;
    use std::arch::asm;

    #[inline(always)]
    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: no register but the result's is changed.
        unsafe {
            let result: isize;
            asm!("ecall", in("a7") number, inlateout("a0") args[0] as isize => result,
                in("a1") args[1], in("a2") args[2], in("a3") args[3], in("a4") args[4], options(nostack));
            result
        }
    }

    pub(super) unsafe fn branch(number: c_long, args: [usize; 5], body: Body, argument: *mut c_void) -> isize {
        // SAFETY: as above; a5 and a6 are for the child.
        unsafe {
            let result: isize;
            asm!("ecall", "bnez a0, 2f",
                "mv fp, zero", "mv ra, zero", "mv a0, a6", "jalr a5", "ebreak", "2:",
                in("a7") number, inlateout("a0") args[0] as isize => result,
                in("a1") args[1], in("a2") args[2], in("a3") args[3], in("a4") args[4],
                in("a5") body, in("a6") argument, options(nostack));
            result
        }
    }
}

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm",
    target_arch = "riscv64"
)))]
mod convention {
    use super::*;

    pub(super) unsafe fn call(number: c_long, args: [usize; 5]) -> isize {
        // SAFETY: the parent thread is suspended until exec or exit, so overwriting its errno is unseen.
        unsafe {
            match libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) {
                -1 => -(*libc::__errno_location() as isize),
                result => result as isize,
            }
        }
    }

    pub(super) unsafe fn branch(_: c_long, _: [usize; 5], _: Body, _: *mut c_void) -> isize {
        -(libc::ENOSYS as isize)
    }
}
