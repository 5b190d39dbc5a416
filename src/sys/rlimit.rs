//! Resource limits of this process (prlimit(2)), of 64 bits on every machine: the C library's own type has 32 on some.

pub use nix::sys::resource::Resource;

use std::io;
use std::ptr;

/// # Safety
/// Both are null, or places for soft and hard limit that live across the call.
unsafe fn call(resource: Resource, new: *const [u64; 2], old: *mut [u64; 2]) -> io::Result<()> {
    // SAFETY: as the caller promises; `struct rlimit64` is two numbers of 64 bits. No process but this one is named.
    match unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource as u32, new, old) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Soft and hard limit; `u64::MAX` is none.
///
/// # Errors
/// prlimit(2)'s, such as `ENOSYS` from a filter of system calls.
pub fn get(resource: Resource) -> io::Result<(u64, u64)> {
    let mut limit = [0; 2];
    // SAFETY: the place lives across the call.
    unsafe { call(resource, ptr::null(), &mut limit)? };
    Ok(limit.into())
}

/// Sets both.
///
/// # Errors
/// As for [`get`]; `EPERM` for a hard limit that is higher than it was.
pub fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    // SAFETY: the limits live across the call.
    unsafe { call(resource, &[soft, hard], ptr::null_mut()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel tells them: a limit beyond 32 bits is neither cut nor taken for none.
    #[test]
    fn limits_have_64_bits() {
        let listed = || std::fs::read_to_string("/proc/self/limits").unwrap();
        let now = get(Resource::RLIMIT_FSIZE).unwrap();
        let wide = (5 << 32).min(now.1);
        set(Resource::RLIMIT_FSIZE, wide, now.1).unwrap();
        let (text, read) = (listed(), get(Resource::RLIMIT_FSIZE).unwrap());
        set(Resource::RLIMIT_FSIZE, now.0, now.1).unwrap();
        assert_eq!(read, (wide, now.1));
        let line = text.lines().find(|line| line.starts_with("Max file size")).unwrap();
        assert!(line.contains(&wide.to_string()) || wide == u64::MAX, "{line}");
        assert_eq!(get(Resource::RLIMIT_FSIZE).unwrap(), now);
    }
}
