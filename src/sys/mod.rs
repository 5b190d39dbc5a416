//! The only unsafe code: system calls that nix and std do not offer, behind safe functions.
//!
//! Every block says why it is sound. Nothing here decides anything.

pub mod again;
pub mod attributes;
pub mod client_fd;
pub mod exec;
pub mod filter;
pub mod landlock;
pub mod launch;
mod machine;
mod manner;
pub mod memory;
pub mod pass;
pub mod process;
mod raw;
pub mod receive;
pub mod rlimit;
pub mod shared;
pub mod socket;
mod stacks;
pub mod terminal;
pub mod trial;
pub mod xattr;

// The unwinder, which only a panic's backtrace needs, from the archive: the shared libgcc_s is 100 KiB in every process that
// nobody else shares it with, and one more library to load at each start.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh", kind = "static", modifiers = "-bundle")]
// SAFETY: nothing is declared.
unsafe extern "C" {}

/// An error in strerror(3)'s words, and with its name where it has one: `Too many open files (EMFILE)`. Both are what people
/// search for. Without Rust's "(os error 24)".
pub fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => errno_words(errno),
        None => error.to_string(),
    }
}

/// The same of an errno.
pub fn errno_words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    match nix::Error::from_raw(errno) {
        nix::Error::UnknownErrno => format!("{words} (errno {errno})"),
        name => format!("{words} ({name:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_words_and_a_name() {
        assert_eq!(errno_words(nix::libc::EAGAIN), "Resource temporarily unavailable (EAGAIN)");
        assert_eq!(plain(&std::io::Error::from_raw_os_error(nix::libc::ENOENT)), "No such file or directory (ENOENT)");
        assert!(errno_words(524).ends_with(" (errno 524)"), "{}", errno_words(524));
        assert_eq!(plain(&std::io::Error::other("no errno")), "no errno");
    }
}
