//! The only unsafe code: system calls that nix and std do not offer, behind safe functions.
//!
//! Every block says why it is sound. Nothing here decides anything.

pub mod exec;
pub mod launch;
pub mod memory;
pub mod process;
mod raw;
pub mod socket;

// The unwinder, which only a panic's backtrace needs, from the archive: the shared libgcc_s is 100 KiB in every process that
// nobody else shares it with, and one more library to load at each start.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
// SAFETY: nothing is declared.
unsafe extern "C" {}

/// An error in words, without Rust's "(os error 24)".
pub fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::Error::from_raw(errno).desc().to_string(),
        None => error.to_string(),
    }
}
