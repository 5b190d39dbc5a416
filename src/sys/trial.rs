//! A trial: whether a command may have what it is to get, found out by a copy of this process, which ends with it.
//!
//! Only the kernel knows: privileges, namespaces, filters of system calls and security modules all have a say.

use super::attributes::{Attributes, Own, Step, apply};
use super::{plain, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
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
    /// This `oom_score_adj`, with this errno.
    Score(i32),
    /// It is not known, since there was no trial: why.
    Untried(String),
}

/// Where a [`Step`] is otherwise.
const SCORE: [i32; 2] = [-1, 0];

/// Sets that of this process, as the daemon sets that of its commands.
fn set_score(score: &str) -> Result<(), i32> {
    let errno = |result: isize| if result < 0 { Err(Errno::last_raw()) } else { Ok(result as i32) };
    // SAFETY: integers, a string, and a buffer of this length, which live across the calls.
    unsafe {
        // Like a command after its exec: its file belongs to its own user, whatever the daemon has made of itself.
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        let file = errno(libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) as isize)?;
        errno(libc::write(file, score.as_ptr().cast(), score.len())).map(drop)
    }
}

/// All of it, in the copy. The score comes first: with the command's limits there may be no descriptor left for it.
///
/// # Safety
/// As for [`apply`]: in a copy of this process, which ends soon.
unsafe fn attempt(all: &Attributes, score: Option<&str>) -> Result<(), ([i32; 2], i32)> {
    score.map_or(Ok(()), set_score).map_err(|errno| (SCORE, errno))?;
    // SAFETY: `all` stays where it is; nothing of it needs a connection.
    unsafe { apply(all, Own::NONE) }.map_err(|(step, errno)| (step.to_words(), errno))
}

/// Tries all that does not need a connection, and whether the daemon may give this `oom_score_adj` to its commands.
///
/// The SIGCHLD of the copy is taken off what is pending, with that of any other child that has ended: call it before anybody waits for
/// those, and before there are threads.
///
/// # Errors
/// What fails.
pub fn run(all: &Attributes, score: Option<i32>) -> Result<(), Refused> {
    let score = score.map(|score| score.to_string());
    let untried = |error: io::Error| Refused::Untried(plain(&error));
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| untried(errno.into()))?;
    // SAFETY: the child makes system calls alone, on memory that is its own, and does not return.
    let child = match unsafe { fork() }.map_err(|errno| untried(errno.into()))? {
        ForkResult::Child => {
            // SAFETY: this is the copy; then a buffer of this length that lives across the call.
            unsafe {
                if let Err(([step, detail], errno)) = attempt(all, score.as_deref()) {
                    let report = [step, detail, errno];
                    libc::write(writer.as_raw_fd(), report.as_ptr().cast(), size_of_val(&report));
                }
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
        (&[step, _, errno], _) if step == SCORE[0] => Err(Refused::Score(errno)),
        (&[step, detail, errno], _) => Err(Refused::Step(Step::from_words([step, detail]), errno)),
        (_, Ok(WaitStatus::Exited(..))) => Ok(()),
        (_, Ok(WaitStatus::Signaled(_, signal, _))) => {
            let by = if signal == Signal::SIGSYS { " (SystemCallFilter= of the service)" } else { "" };
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
        assert_eq!(run(&Attributes::default(), None), Ok(()));
        const CORE: u32 = nix::sys::resource::Resource::RLIMIT_CORE as u32;
        let core = (CORE, 0, 0);
        let here = std::env::current_dir().unwrap();
        let all = |directory| Attributes { limits: vec![core], directory: Some(directory), ..Attributes::default() };
        assert_eq!(run(&all(c"/".into()), Some(1000)), Ok(()));
        assert_eq!(run(&all(c"/nowhere/x".into()), Some(1000)), Err(Refused::Step(Step::Directory, libc::ENOENT)));
        let above = Attributes { limits: vec![(CORE, 2, 1)], ..Attributes::default() };
        assert_eq!(run(&above, None), Err(Refused::Step(Step::Limit(CORE), libc::EINVAL)));
        assert_eq!(run(&Attributes::default(), Some(1001)), Err(Refused::Score(libc::EINVAL)));
        let no_files = (nix::sys::resource::Resource::RLIMIT_NOFILE as u32, 0, 0);
        assert_eq!(run(&Attributes { limits: vec![no_files], ..Attributes::default() }, Some(1000)), Ok(()));
        assert_eq!(std::env::current_dir().unwrap(), here);
    }
}
