//! The collector: reads what all commands write to their standard error, and passes it on line by line.
//!
//! It may wait for the journal, as long as that takes: then pipes fill, and commands wait in write(2), as they do for a stream of journald.
//! Each pipe gets its turn: a command that floods delays the lines of others by no more than a small piece of its own. Memory for a
//! command is bounded by the longest line.
//!
//! A process of the same user can open the end of a pipe that is here (proc_pid_fd(5)), so that no read of one may wait.
#![forbid(unsafe_code)]

use super::lines::Lines;
use super::quota::Quota;
use super::{MAX_HEAD, NAME, WAY_IN, record};
use crate::observe::event::Event;
use crate::observe::log::{self, IDENTIFIER, JOURNAL_SOCKET};
use crate::sys::{memory, pass, plain};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

/// Read of one pipe in its turn, in bytes. A thousand lines of it take the journal some milliseconds.
const PIECE: usize = 4096;
/// Pipes that have their turn, and commands that are taken on, before the link is looked at again.
const AT_ONCE: usize = 64;
/// The link is known by its descriptor, which is its standard input.
const LINK: u64 = 0;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The journal.
    Journal,
    /// Standard error, each with the number of its connection.
    Stderr,
    /// The same, with the priority in front (sd-daemon(3)).
    Prefixed,
}

impl Target {
    /// Where the log goes now.
    pub fn of(log: log::Target) -> Target {
        match log.reaches_journal() {
            true => Target::Journal,
            false if log.has_prefix() => Target::Prefixed,
            false => Target::Stderr,
        }
    }

    /// As an argument.
    pub(super) fn word(self) -> &'static str {
        match self {
            Target::Journal => "journal",
            Target::Stderr => "stderr",
            Target::Prefixed => "prefixed",
        }
    }
}

/// The target, if these arguments of a program make it a collector.
pub fn target(mut arguments: impl Iterator<Item = OsString>) -> Option<Target> {
    if arguments.nth(1)? != WAY_IN {
        return None;
    }
    let word = arguments.next()?;
    [Target::Journal, Target::Stderr, Target::Prefixed].into_iter().find(|target| word == target.word())
}

/// One command's.
struct Source {
    pipe: File,
    /// What each of its lines begins with.
    head: Box<[u8]>,
    lines: Lines,
    quota: Quota,
}

/// The way out.
struct Way {
    /// `None`: standard error.
    journal: Option<UnixDatagram>,
    /// Whether lines on standard error have the prefix of sd-daemon(3).
    has_prefix: bool,
    /// The entry that is being written.
    record: Vec<u8>,
    /// Lines that the journal did not take.
    lost: u64,
}

struct Collector {
    epoll: Epoll,
    /// By the descriptor of their pipe.
    sources: HashMap<u64, Source>,
    way: Way,
    /// Whether the daemon may still send commands.
    is_linked: bool,
}

/// Collects until the daemon, at standard input, and all its commands are gone. Call it with all signals blocked.
///
/// # Errors
/// If nobody passes commands, and epoll_wait(2)'s.
pub fn run(target: Target) -> Result<(), String> {
    let _ = nix::sys::prctl::set_name(NAME); // what ps(1) shows
    let link = io::stdin();
    if getsockopt(&link, sockopt::SockType) != Ok(SockType::SeqPacket) {
        return Err(format!("{WAY_IN} is for sockcap itself: --stderr stream has it"));
    }
    let failed = |error: io::Error| format!("cannot collect what commands write: {}", plain(&error));
    let mut collector = Collector::new(target).map_err(failed)?;
    memory::give_back(); // what the start of a whole sockcap has touched
    while collector.is_linked || !collector.sources.is_empty() {
        collector.turn().map_err(failed)?;
    }
    collector.way.tell_losses();
    Ok(())
}

impl Collector {
    fn new(target: Target) -> io::Result<Collector> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(io::stdin(), EpollEvent::new(EpollFlags::EPOLLIN, LINK))?;
        let journal = if target == Target::Journal { Some(UnixDatagram::unbound()?) } else { None };
        let way = Way { journal, has_prefix: target == Target::Prefixed, record: Vec::new(), lost: 0 };
        Ok(Collector { epoll, sources: HashMap::new(), way, is_linked: true })
    }

    /// Waits, and gives each pipe that has something its turn. The kernel lists those first that were listed least recently.
    fn turn(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); AT_ONCE];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for number in events[..count].iter().map(EpollEvent::data) {
            if let Some(source) = self.sources.get_mut(&number) {
                if !source.pass_on(&mut self.way) {
                    self.sources.remove(&number); // closing it takes it out of the set
                }
            }
            // Each time, so that the link has room for the daemon's next command however many pipes are full.
            self.take_on();
        }
        Ok(())
    }

    /// Takes on those commands that the daemon has passed, some at once.
    fn take_on(&mut self) {
        let mut head = [0; MAX_HEAD];
        for _ in 0..AT_ONCE {
            if !self.is_linked {
                return;
            }
            match pass::receive(io::stdin().as_fd(), &mut head) {
                Ok((0, _)) => self.unlink(),
                Ok((length, Some(pipe))) => self.begin(&head[..length], pipe),
                Ok((_, None)) => self.way.lost += 1, // no descriptor was free: whatever that command writes
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.unlink(),
                Err(_) => return,
            }
        }
    }

    fn unlink(&mut self) {
        self.is_linked = false;
        let _ = self.epoll.delete(io::stdin()); // or the end of it would be told again and again
    }

    fn begin(&mut self, head: &[u8], pipe: OwnedFd) {
        let number = pipe.as_raw_fd() as u64;
        let is_watched = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
            && self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok();
        match is_watched {
            true => drop(self.sources.insert(number, Source::new(head, pipe))),
            false => self.way.lost += 1,
        }
    }
}

impl Source {
    fn new(head: &[u8], pipe: OwnedFd) -> Source {
        Source { pipe: pipe.into(), head: head.into(), lines: Lines::default(), quota: Quota::default() }
    }

    /// Passes on what is there, as far as it is this one's turn; `false` at the end.
    fn pass_on(&mut self, way: &mut Way) -> bool {
        let mut piece = [0; PIECE];
        let Source { pipe, head, lines, quota } = self;
        let read = pipe.read(&mut piece);
        if let Some(count) = quota.due(Instant::now()) {
            way.tell_suppressed(head, count);
        }
        let mut tell = |priority, text: &[u8]| {
            if !way.is_limited() || quota.admits() {
                way.tell(head, priority, text);
            }
        };
        match read {
            Ok(0) => {
                lines.finish(&mut tell);
                if let Some(count) = quota.end() {
                    way.tell_suppressed(head, count);
                }
                false
            }
            Ok(length) => {
                lines.feed(&piece[..length], &mut tell);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

impl Way {
    /// Whether what one writes is taken from what others may.
    fn is_limited(&self) -> bool {
        self.journal.is_some()
    }

    /// So many lines of the connection with this head were left out, which only the journal's limit asks for.
    fn tell_suppressed(&mut self, head: &[u8], count: u64) {
        let event = Event::StderrSuppressed { count };
        let of_command = head.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut ours = Way::ours(&event, count);
        ours.extend_from_slice(&head[of_command..]);
        self.tell(&ours, event.severity().number(), event.to_string().as_bytes());
    }

    /// What an entry of our own begins with.
    fn ours(event: &Event, count: u64) -> Vec<u8> {
        let mut head = Vec::new();
        record::field(&mut head, "SYSLOG_IDENTIFIER", IDENTIFIER.as_bytes());
        record::field(&mut head, "MESSAGE_ID", event.message_id().as_bytes());
        record::field(&mut head, "SOCKCAP_COUNT", count.to_string().as_bytes());
        head
    }

    fn tell(&mut self, head: &[u8], priority: u8, text: &[u8]) {
        match self.write(head, priority, text) {
            Ok(()) => self.tell_losses(),
            Err(_) => self.lost += 1,
        }
    }

    /// Waits for a journal that is behind. One that is not there is no reason to wait, since nobody can tell for how long.
    fn write(&mut self, head: &[u8], priority: u8, text: &[u8]) -> io::Result<()> {
        let Way { journal, has_prefix, record, .. } = self;
        record.clear();
        let Some(journal) = journal else {
            if *has_prefix {
                record.extend_from_slice(&[b'<', b'0' + priority, b'>']);
            }
            record.extend_from_slice(head);
            record.extend_from_slice(text);
            record.push(b'\n');
            return io::stderr().write_all(record);
        };
        record.extend_from_slice(head);
        record::line(record, priority, text);
        loop {
            match journal.send_to(record, JOURNAL_SOCKET) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Tells how many lines were lost, once others are taken again.
    fn tell_losses(&mut self) {
        if self.lost == 0 {
            return;
        }
        let event = Event::StderrLost { count: self.lost };
        let head = if self.journal.is_some() { Way::ours(&event, self.lost) } else { Vec::new() };
        if self.write(&head, event.severity().number(), event.to_string().as_bytes()).is_ok() {
            self.lost = 0;
        }
    }
}
