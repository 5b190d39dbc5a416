//! A running `sockcap`: what it says, what it runs, its end and its totals.

use super::*;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One line of the daemon's stderr.
#[derive(Clone, Debug)]
pub struct Line {
    /// The syslog priority before the text, if there was one.
    pub priority: Option<u8>,
    pub text: String,
}

impl Line {
    pub fn parse(raw: &str) -> Line {
        let raw = raw.trim_end_matches('\n');
        if let Some((digit, text)) = raw.strip_prefix('<').and_then(|r| r.split_once('>')) {
            if let Ok(priority) = digit.parse() {
                return Line { priority: Some(priority), text: text.into() };
            }
        }
        Line { priority: None, text: raw.into() }
    }
}

/// The totals that the daemon gives at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub accepted: u64,
    pub served: u64,
    pub refused: u64,
    pub gone: u64,
    pub failed: u64,
}

impl Totals {
    /// Reads `stopped: A accepted, S served, R refused, G gone, F failed to start; longest wait T s`.
    pub fn parse(text: &str) -> Option<Totals> {
        let mut t = Totals::default();
        let (counts, _) = text.strip_prefix("stopped: ")?.split_once("; longest wait ")?;
        for part in counts.split(", ") {
            let (number, word) = part.split_once(' ')?;
            let number = number.parse().ok()?;
            match word {
                "accepted" => t.accepted = number,
                "served" => t.served = number,
                "refused" => t.refused = number,
                "gone" => t.gone = number,
                "failed to start" => t.failed = number,
                _ => return None,
            }
        }
        Some(t)
    }
}

/// All that a pipe says up to its end; a channel, since a pipe has no timeout.
pub fn all_of(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, text) = channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        let _ = send.send(String::from_utf8_lossy(&all).into_owned());
    });
    text
}

/// A running `sockcap`.
pub struct Daemon {
    pub(super) child: Child,
    pub(super) lines: Receiver<Line>,
    pub(super) log: Vec<Line>,
    pub(super) cursor: usize,
    pub(super) listeners: Vec<String>,
    pub(super) status: Option<ExitStatus>,
}

impl Daemon {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for the next line that fits; what came before it is behind us afterwards.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Line) -> bool) -> Line {
        let end = Instant::now() + FUSE;
        loop {
            while self.cursor < self.log.len() {
                self.cursor += 1;
                if fits(&self.log[self.cursor - 1]) {
                    return self.log[self.cursor - 1].clone();
                }
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                Err(why) => panic!("no line for '{what}' ({why}); the log: {:#?}", self.log),
            }
        }
    }

    /// Waits for a line that contains these words.
    #[track_caller]
    pub fn wait_text(&mut self, words: &str) -> Line {
        self.wait_for(words, |l| l.text.contains(words))
    }

    /// Everything said so far.
    pub fn log(&mut self) -> &[Line] {
        self.log.extend(self.lines.try_iter());
        &self.log
    }

    /// How many lines contain these words so far.
    pub fn count(&mut self, words: &str) -> usize {
        self.log().iter().filter(|l| l.text.contains(words)).count()
    }

    /// `ADDRESS as 'NAME'` of every listener, in the order of the log.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// The address of the nth listener, which is an IP one.
    #[track_caller]
    pub fn addr(&self, nth: usize) -> SocketAddr {
        let text = self.listeners[nth].split(" as ").next().expect("an address");
        text.parse().unwrap_or_else(|e| panic!("{e}: {text:?} in {:?}", self.listeners))
    }

    /// A connection to the first listener.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(self.addr(0))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal sockcap");
    }

    /// The commands that live, or have ended and are not reaped yet.
    pub fn commands(&self) -> Vec<Pid> {
        children(self.pid())
    }

    /// How many of them there were at one moment: a look takes its time, in which one may go and the next one come, and whoever is there
    /// at a second look was there when the first was over.
    pub fn commands_at_once(&self) -> usize {
        let first = self.commands();
        self.commands().into_iter().filter(|pid| first.contains(pid)).count()
    }

    /// The process that collects what commands write to their standard error, once it has its name.
    pub fn collector(&self) -> Pid {
        let name = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut found = None;
        until("a collector", || {
            found = children(self.pid()).into_iter().find(|pid| name(pid) == "sockcap-stderr\n");
            found.is_some()
        });
        found.expect("a collector")
    }

    /// The descriptors that it holds, once it has let go of the connections that its commands have: those may speak before.
    pub fn open_fds(&self) -> Vec<RawFd> {
        let path = format!("/proc/{}/fd", self.pid());
        let all = || fs::read_dir(&path).expect("its descriptors").filter_map(|entry| entry.ok());
        until("nothing of its commands' among its descriptors", || {
            let stdin = |pid: &Pid| fs::read_link(format!("/proc/{pid}/fd/0")).ok();
            let theirs: Vec<_> = self.commands().iter().filter_map(stdin).collect();
            let is_theirs = |file: PathBuf| file.to_string_lossy().starts_with("socket:") && theirs.contains(&file);
            !all().filter_map(|entry| fs::read_link(entry.path()).ok()).any(is_theirs)
        });
        let mut fds: Vec<RawFd> = all().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        fds.sort_unstable();
        fds
    }

    /// Processor time used so far, in ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("its stat");
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..].split(' ').collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    /// Waits for the end of it and of everything that writes to its stderr.
    #[track_caller]
    pub fn finish(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let end = Instant::now() + FUSE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("sockcap or a command of it does not end; the log: {:#?}", self.log)
                }
            }
        }
        let status = self.child.wait().expect("wait");
        self.status = Some(status);
        status
    }

    /// The totals of a daemon that has finished in good order; they must add up.
    #[track_caller]
    pub fn totals(&mut self) -> Totals {
        let status = self.finish();
        assert_eq!(status.code(), Some(0), "exit: {status}; the log: {:#?}", self.log);
        let totals = self.log.iter().find_map(|l| Totals::parse(&l.text));
        let t = totals.unwrap_or_else(|| panic!("no totals in {:#?}", self.log));
        assert_eq!(
            t.accepted,
            t.served + t.refused + t.gone + t.failed,
            "somebody was forgotten: {t:?}; the log: {:#?}",
            self.log
        );
        t
    }

    /// SIGTERM, the end, the totals.
    #[track_caller]
    pub fn stop(&mut self) -> Totals {
        self.signal(Signal::SIGTERM);
        self.totals()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        // Stopped first: it can neither start nor reap, so the pids below stay what they are.
        let _ = kill(self.pid(), Signal::SIGSTOP);
        for command in children(self.pid()) {
            let _ = kill(command, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.log.extend(self.lines.try_iter());
            eprintln!("what sockcap said: {:#?}", self.log);
        }
    }
}

/// The children of a process, those included that it has not reaped yet.
pub fn children(parent: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some(rest) = stat.rfind(')').map(|at| &stat[at + 2..]) else { continue };
        let mut fields = rest.split(' ');
        // behind the name come the state and the parent
        if fields.nth(1) == Some(parent.to_string().as_str()) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// Becomes readable when the process has ended.
pub fn pidfd(pid: Pid) -> OwnedFd {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1, which `result` turns into an error.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0)).expect("pidfd_open");
        OwnedFd::from_raw_fd(fd as RawFd)
    }
}

/// Waits for one of these events; false when the time is over first.
pub fn ready(fd: impl AsFd, events: PollFlags, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd.as_fd(), events)];
        match poll(&mut fds, PollTimeout::try_from(left).expect("a short time")) {
            Ok(n) => return n > 0,
            Err(Errno::EINTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

/// How often at least something is tried that a busy machine may have kept from being in time; and it is tried for `FUSE`.
const CHANCES: usize = 5;

/// Runs what must be quick. A busy machine may stop any process for seconds, so it is given some chances: what really waits
/// for something is late each time.
#[track_caller]
pub fn promptly<T>(what: &str, within: Duration, mut run: impl FnMut() -> T) -> T {
    let (mut late, start) = (Vec::new(), Instant::now());
    while late.len() < CHANCES || start.elapsed() < FUSE {
        let since = Instant::now();
        let result = run();
        if since.elapsed() < within {
            return result;
        }
        late.push(since.elapsed());
    }
    panic!("{what}: not once within {within:?}: {late:?}");
}

/// Runs what is true only while nobody is stopped for as long as `span`, since a clock of the daemon's cuts in then: where it fails
/// after that time or more, it is run again. What is really at fault fails each time.
#[track_caller]
pub fn unless_stalled<T>(span: Duration, mut run: impl FnMut() -> T) -> T {
    let (mut late, start) = (0, Instant::now());
    loop {
        let since = Instant::now();
        match catch_unwind(AssertUnwindSafe(&mut run)) {
            Ok(result) => return result,
            Err(panic) if since.elapsed() < span => resume_unwind(panic),
            Err(panic) => {
                late += 1;
                if late >= CHANCES && start.elapsed() >= FUSE {
                    resume_unwind(panic);
                }
            }
        }
    }
}

/// Waits for a state that has no event of its own, such as a number in /proc.
#[track_caller]
pub fn until(what: &str, mut state: impl FnMut() -> bool) {
    let end = Instant::now() + FUSE;
    while !state() {
        assert!(Instant::now() < end, "never came: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Asks again, after each pause, until there is an answer. For what no event tells to who is outside, such as the state of a unit: that is
/// signalled on D-Bus alone.
#[track_caller]
pub fn until_answered<T>(what: &str, fuse: Duration, pause: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < fuse, "in {fuse:?} never: {what}");
        thread::park_timeout(pause);
    }
}
