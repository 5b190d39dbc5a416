//! A trial: whether a command may have what it is to get, found out by a copy of this process, which ends with it.
//!
//! Only the kernel knows: privileges, namespaces, filters of system calls and security modules all have a say.

use super::attributes::{Attributes, Own, Step, apply};
use super::{plain, process};
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;

/// What the kernel says no to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This, with this errno.
    Step(Step, i32),
    /// It is not known, since there was no trial: why.
    Untried(String),
}

/// Three numbers: step and errno.
const REPORT: usize = size_of::<[i32; 3]>();

/// Tries all of it but for standard error. Its SIGCHLD is taken off what is pending, with that of any child that has ended: call it
/// before anybody waits for one, and before there are threads.
///
/// # Errors
/// What fails.
pub fn run(all: &Attributes) -> Result<(), Refused> {
    let untried = |error: io::Error| Refused::Untried(plain(&error));
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| untried(errno.into()))?;
    // SAFETY: the child makes system calls alone, on memory that is its own, and does not return.
    let child = match unsafe { fork() }.map_err(|errno| untried(errno.into()))? {
        ForkResult::Child => {
            // SAFETY: `all` stays where it is; nothing of it needs a connection.
            if let Err((step, errno)) = unsafe { apply(all, Own::NONE) } {
                let [step, detail] = step.to_words();
                let words = [step, detail, errno];
                // SAFETY: a buffer of this length that lives across the call.
                unsafe { libc::write(writer.as_raw_fd(), words.as_ptr().cast(), REPORT) };
            }
            process::exit_now(0);
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    let mut report = Vec::new();
    let read = File::from(reader).read_to_end(&mut report);
    let ended = waitpid(child, None);
    let _ = process::take_end();
    read.map_err(untried)?;
    let words: Vec<i32> =
        report.chunks_exact(4).map(|word| i32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect();
    match (&words[..], ended) {
        (&[step, detail, errno], _) => Err(Refused::Step(Step::from_words([step, detail]), errno)),
        (_, Ok(WaitStatus::Exited(..))) => Ok(()),
        (_, Ok(WaitStatus::Signaled(_, signal, _))) => {
            let by =
                if signal == nix::sys::signal::Signal::SIGSYS { " (SystemCallFilter= of the service)" } else { "" };
            Err(Refused::Untried(format!("the trial was killed by {signal}{by}")))
        }
        (_, Ok(other)) => Err(Refused::Untried(format!("the trial did not end: {other:?}"))),
        (_, Err(errno)) => Err(untried(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_named_and_nothing_lasts() {
        assert_eq!(run(&Attributes::default()), Ok(()));
        const CORE: u32 = nix::sys::resource::Resource::RLIMIT_CORE as u32;
        let core = (CORE, 0, 0);
        let here = std::env::current_dir().unwrap();
        let all = |directory| Attributes { limits: vec![core], directory: Some(directory), ..Attributes::default() };
        assert_eq!(run(&all(c"/".into())), Ok(()));
        assert_eq!(run(&all(c"/nowhere/x".into())), Err(Refused::Step(Step::Directory, libc::ENOENT)));
        let above = Attributes { limits: vec![(CORE, 2, 1)], ..Attributes::default() };
        assert_eq!(run(&above), Err(Refused::Step(Step::Limit(CORE), libc::EINVAL)));
        assert_eq!(std::env::current_dir().unwrap(), here);
    }
}
