//! The daemon's end: the link to the collector, and a pipe for each command. Nothing of a command stays here.
#![forbid(unsafe_code)]

use super::collector::Target;
use super::{NAME, WAY_IN, record};
use crate::observe::peer::ShownPeer;
use crate::policy::back_off::{Over, Trouble};
use crate::sys::process::{pidfd, send_signal};
use crate::sys::{again, pass};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::unistd::pipe2;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two starts of a collector in place of one that has ended too early.
const PAUSE: Duration = Duration::from_secs(1);
/// Room for commands that the collector has not taken on yet, as far as the kernel allows (net.core.wmem_max).
const ROOM: usize = 1 << 20;
/// Milliseconds that the collector has to pass on the last lines of a service that has stopped.
const PATIENCE: u16 = 2000;

/// The way from commands to the collector.
#[derive(Debug)]
pub struct Stream {
    target: Target,
    /// `SYSLOG_IDENTIFIER` of the lines.
    identifier: String,
    /// `None`: there was one, and it is gone.
    link: Option<OwnedFd>,
    /// The collector's pid; 0 while it is being started.
    process: Arc<AtomicI32>,
    /// When one was started in another's place.
    started_again: Option<Instant>,
    trouble: Trouble,
}

/// Why a command's lines cannot be told apart.
#[derive(Debug)]
pub struct Failed {
    /// What has failed.
    pub error: io::Error,
    /// Whether it is the first of a run of failures.
    pub is_first: bool,
}

impl Stream {
    /// Starts a collector, and waits until its program has begun. `program`: what commands run, by whose name their lines go.
    ///
    /// # Errors
    /// socketpair(2)'s and posix_spawn(3)'s.
    pub fn start(target: Target, program: &str) -> io::Result<Stream> {
        let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
        let (link, theirs) = pair()?;
        let pid = again::start(&words(target), theirs.as_fd())?;
        Ok(Stream {
            target,
            identifier: name.unwrap_or_default(),
            link: Some(link),
            process: Arc::new(pid.into()),
            started_again: None,
            trouble: Trouble::default(),
        })
    }

    /// A pipe for the command of this connection: its end for writing. All else of it is with the collector. Waits for nobody.
    ///
    /// # Errors
    /// pipe2(2)'s and sendmsg(2)'s: the collector is behind (`EAGAIN`), or gone and may not be started again yet.
    pub fn open(
        &mut self,
        now: Instant,
        (id, listener): (u64, &str),
        peer: &ShownPeer,
    ) -> Result<(OwnedFd, Option<Over>), Failed> {
        let head = match self.target {
            Target::Journal => record::head(&self.identifier, id, listener, peer),
            Target::Stderr | Target::Prefixed => format!("[{id}] ").into_bytes(),
        };
        match self.pipe(now, &head) {
            Ok(end) => Ok((end, self.trouble.succeeded(now, now))),
            Err(error) => Err(Failed { error, is_first: self.trouble.failed(now) }),
        }
    }

    fn pipe(&mut self, now: Instant, head: &[u8]) -> io::Result<OwnedFd> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let mut sent = self.send(head, &read);
        if sent.as_ref().is_err_and(is_gone) {
            self.start_again(now)?;
            sent = self.send(head, &read);
        }
        sent.map(|()| write)
    }

    fn send(&self, head: &[u8], read: &OwnedFd) -> io::Result<()> {
        let link = self.link.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EPIPE))?;
        pass::send(link.as_fd(), head, read.as_fd())
    }

    /// In a thread, since a program's start takes its time. What is sent meanwhile waits in the link.
    fn start_again(&mut self, now: Instant) -> io::Result<()> {
        self.link = None;
        self.process.store(0, Ordering::Relaxed);
        if self.started_again.is_some_and(|last| now < last + PAUSE) {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        self.started_again = Some(now);
        let (link, theirs) = pair()?;
        let (process, words) = (Arc::new(AtomicI32::new(0)), words(self.target));
        self.process = Arc::clone(&process);
        thread::Builder::new().name("stderr".into()).stack_size(64 << 10).spawn(move || {
            // Without one the link is at its end, and the next command tells.
            let pid = again::start(&words, theirs.as_fd()).unwrap_or(0);
            process.store(pid, Ordering::Relaxed);
        })?;
        self.link = Some(link);
        Ok(())
    }

    /// The collector's process, as long as it lives: nobody else can have its number.
    pub fn process(&self) -> Option<i32> {
        let link = self.link.as_ref()?;
        let hung_up = poll(&mut [PollFd::new(link.as_fd(), PollFlags::empty())], PollTimeout::ZERO);
        let pid = self.process.load(Ordering::Relaxed);
        (hung_up == Ok(0) && pid != 0).then_some(pid)
    }

    /// No command is to come any more: the collector ends once it has passed on what those that there are have written.
    pub fn close(self) -> Closed {
        Closed(self.process().and_then(|pid| pidfd(pid).ok()))
    }
}

/// A collector that ends by itself.
#[must_use]
#[derive(Debug)]
pub struct Closed(Option<OwnedFd>);

impl Closed {
    /// Waits for its end, but not for long: every process that wrote to it is gone. If the journal does not take the last lines, they are
    /// lost, since nothing may be left of a service that has stopped.
    pub fn end(self) {
        let Some(process) = self.0 else { return };
        let is_over = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PATIENCE);
        if is_over == Ok(0) {
            let _ = send_signal(&process, libc::SIGKILL, false);
        }
    }
}

/// Our end of a link, and the collector's.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let _ = setsockopt(&ours, sockopt::SndBuf, &ROOM); // as it is, it will do
    Ok((ours, theirs))
}

fn words(target: Target) -> Vec<CString> {
    let words = [WAY_IN, target.word()].map(|word| CString::new(word).unwrap_or_default());
    std::iter::once(NAME.to_owned()).chain(words).collect()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN))
}
