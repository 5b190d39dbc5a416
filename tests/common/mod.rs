//! The harness: starts the real `sockcap`, hands it sockets, listens to what it says, and ends it.
//!
//! A test waits for events (a log line, bytes, an end of file, a pidfd); `FUSE` only bounds a test that would hang.
//! The one thing without an event is that nothing happens: `QUIET` is how long that is watched.
//! Every daemon belongs to one test and is ended with it, by pid, together with the commands it started.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};
use nix::unistd::Pid;

/// No wait is longer than this; reaching it is a failure.
pub const FUSE: Duration = Duration::from_secs(20);
/// How long "nothing happens" is watched.
pub const QUIET: Duration = Duration::from_millis(300);
/// The other side has closed or shut down its sending half; nix has no name for it.
pub const HANGUP: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
/// What a refused client reads.
pub const BUSY: &str = "server at capacity\n";
/// What a client reads whose command could not be started.
pub const UNAVAILABLE: &str = "service unavailable\n";
/// A command that says its pid and then echoes.
pub const PID_CAT: &[&str] = &["/bin/sh", "-c", "echo $$; exec /bin/cat"];

/// Tells of a test that could not run here. Goes past the test runner's capture, so that it is seen.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {what}: {why}");
}

/// Whether mounts, other users and resource limits of other processes are ours to change.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

// ---------------------------------------------------------------------------------------------------------------------
// starting

/// A `sockcap` about to be started.
pub struct Start {
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    fds: Vec<OwnedFd>,
    names: Option<String>,
    listen_fds: Option<String>,
    prelude: String,
    wrap: Vec<OsString>,
    command: Vec<OsString>,
    stderr: Option<OwnedFd>,
}

/// The program under test: the one that cargo has built, or another build of it (`tests/static.sh`).
pub fn binary() -> OsString {
    std::env::var_os("SOCKCAP_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sockcap").into())
}

/// Starts with these options; the command is `/bin/cat` until told otherwise.
pub fn sockcap<S: AsRef<str>>(args: &[S]) -> Start {
    Start {
        args: args.iter().map(|a| a.as_ref().into()).collect(),
        env: Vec::new(),
        fds: Vec::new(),
        names: None,
        listen_fds: None,
        prelude: String::new(),
        wrap: Vec::new(),
        command: vec!["--".into(), "/bin/cat".into()],
        stderr: None,
    }
}

impl Start {
    /// The command to run per connection.
    pub fn run<S: AsRef<str>>(mut self, command: &[S]) -> Self {
        self.command = std::iter::once("--").chain(command.iter().map(AsRef::as_ref)).map(Into::into).collect();
        self
    }

    /// No `--` and no command at all.
    pub fn no_command(mut self) -> Self {
        self.command.clear();
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Passes a descriptor as systemd does: 3, 4, ... in the order of the calls.
    pub fn pass(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.fds.push(fd.into());
        self
    }

    /// LISTEN_FDNAMES, as it stands.
    pub fn names(mut self, names: &str) -> Self {
        self.names = Some(names.into());
        self
    }

    /// LISTEN_FDS, where it must not be the number of descriptors.
    pub fn listen_fds(mut self, text: &str) -> Self {
        self.listen_fds = Some(text.into());
        self
    }

    /// Shell words run in sockcap's own process before it: `$$` is its pid.
    pub fn prelude(mut self, shell: &str) -> Self {
        self.prelude.push_str(shell);
        self.prelude.push_str("; ");
        self
    }

    /// A program that becomes sockcap by exec, such as `env` or `setpriv`.
    pub fn wrap<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        self.wrap.extend(words.iter().map(|w| OsString::from(w.as_ref())));
        self
    }

    /// Where stderr goes instead of into the harness.
    pub fn stderr(mut self, fd: OwnedFd) -> Self {
        self.stderr = Some(fd);
        self
    }

    fn command(&mut self) -> Command {
        let mut script = self.prelude.clone();
        let passes = !self.fds.is_empty() || self.listen_fds.is_some();
        if passes && !script.contains("LISTEN_PID") {
            script.insert_str(0, "export LISTEN_PID=$$; ");
        }
        let mut words: Vec<OsString> = Vec::new();
        if !script.is_empty() {
            words.extend(["sh".into(), "-c".into(), format!("{script}exec \"$@\"").into(), "sh".into()]);
        }
        words.append(&mut self.wrap);
        words.push(binary());
        words.append(&mut self.args);
        words.append(&mut self.command);

        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SOCKCAP_")
                || name.starts_with("LISTEN_")
                || name == "NOTIFY_SOCKET"
                || name == "JOURNAL_STREAM"
            {
                command.env_remove(name);
            }
        }
        if passes {
            let count = self.listen_fds.take().unwrap_or_else(|| self.fds.len().to_string());
            command.env("LISTEN_FDS", count);
        }
        if let Some(names) = self.names.take() {
            command.env("LISTEN_FDNAMES", names);
        }
        command.envs(self.env.drain(..));
        let from = std::mem::take(&mut self.fds);
        if !from.is_empty() {
            let mut lifted: Vec<RawFd> = from.iter().map(AsRawFd::as_raw_fd).collect();
            // SAFETY: between fork and exec only fcntl and dup2 run, on memory allocated before the fork;
            // `from` moves into the closure, so the descriptors are open when it runs.
            unsafe {
                command.pre_exec(move || {
                    for (slot, fd) in lifted.iter_mut().zip(&from) {
                        // out of the way first: a source may sit on another one's target
                        *slot = Errno::result(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100))?;
                    }
                    for (to, fd) in (3..).zip(&lifted) {
                        Errno::result(libc::dup2(*fd, to))?;
                    }
                    Ok(())
                });
            }
        }
        command
    }

    /// Starts it and returns at once.
    pub fn spawn(mut self) -> Daemon {
        let mut command = self.command();
        command.stdout(Stdio::null());
        match self.stderr.take() {
            Some(fd) => command.stderr(Stdio::from(fd)),
            None => command.stderr(Stdio::piped()),
        };
        let mut child = command.spawn().expect("start sockcap");
        drop(command); // it holds the descriptors that were passed
        let (send, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stderr);
                let mut raw = Vec::new();
                while reader.read_until(b'\n', &mut raw).is_ok_and(|n| n > 0) {
                    if send.send(Line::parse(&String::from_utf8_lossy(&raw))).is_err() {
                        break;
                    }
                    raw.clear();
                }
            });
        }
        Daemon { child, lines, log: Vec::new(), cursor: 0, listeners: Vec::new(), status: None }
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.wait_for("ready", |l| l.text.starts_with("ready: "));
        daemon.listeners =
            daemon.log.iter().filter_map(|l| l.text.strip_prefix("listening on ").map(str::to_owned)).collect();
        daemon
    }

    /// Runs it to its end, which must come by itself.
    pub fn output(mut self) -> Ended {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start sockcap");
        let stdout = all_of(child.stdout.take().expect("piped"));
        let stderr = all_of(child.stderr.take().expect("piped"));
        let (stdout, stderr) = (stdout.recv_timeout(FUSE), stderr.recv_timeout(FUSE));
        if stdout.is_err() || stderr.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().expect("wait");
        let fused = "sockcap did not end by itself";
        Ended { status, stdout: stdout.expect(fused), stderr: stderr.expect(fused) }
    }
}

/// A `sockcap` that ran to its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The user's mistake: exit 2, one line that says so, and nothing else. Returns the line.
    #[track_caller]
    pub fn mistake(self) -> String {
        self.one_line(&[2])
    }

    /// One of these exit codes, and one line on stderr.
    #[track_caller]
    pub fn one_line(self, codes: &[i32]) -> String {
        assert!(self.status.code().is_some_and(|c| codes.contains(&c)), "exit code not in {codes:?}: {self:?}");
        assert_eq!(self.stdout, "", "something on stdout: {self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "not one line: {self:?}");
        let line = self.stderr.trim_end().to_owned();
        assert!(line.starts_with("sockcap: "), "the line does not name the program: {line}");
        assert!(!line.contains("panicked"), "panic: {line}");
        line
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// running

/// One line of the daemon's stderr.
#[derive(Clone, Debug)]
pub struct Line {
    /// The syslog priority before the text, if there was one.
    pub priority: Option<u8>,
    pub text: String,
}

impl Line {
    fn parse(raw: &str) -> Line {
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
    child: Child,
    lines: Receiver<Line>,
    log: Vec<Line>,
    cursor: usize,
    listeners: Vec<String>,
    status: Option<ExitStatus>,
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

    /// How many descriptors it holds.
    pub fn open_fds(&self) -> Vec<RawFd> {
        let dir = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("its descriptors");
        let mut fds: Vec<RawFd> = dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
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

/// Waits for a state that has no event of its own, such as a number in /proc.
#[track_caller]
pub fn until(what: &str, mut state: impl FnMut() -> bool) {
    let end = Instant::now() + FUSE;
    while !state() {
        assert!(Instant::now() < end, "never came: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// clients

/// Connects, with the fuse on every read and write.
#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, FUSE).unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream.set_write_timeout(Some(FUSE)).expect("timeout");
    stream
}

/// The same words must come back.
#[track_caller]
pub fn echoes<S: Read + Write>(stream: &mut S) {
    stream.write_all(b"are you there\n").expect("write to the command");
    assert_eq!(line(stream), "are you there", "the command does not answer");
}

/// One line, byte by byte, so that nothing behind it is lost.
#[track_caller]
pub fn line<S: Read>(stream: &mut S) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => break,
            Ok(1) => text.push(byte[0]),
            Ok(_) => panic!("the end after {:?}", String::from_utf8_lossy(&text)),
            // A read with a time limit is not restarted (signal(7)), and children of other tests end beside it.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => panic!("{e} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Everything to the end of file, which must be a clean one.
#[track_caller]
pub fn to_end<S: Read>(mut stream: S) -> String {
    let mut all = Vec::new();
    if let Err(e) = stream.read_to_end(&mut all) {
        panic!("no clean end of file: {e} after {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The client must be told the default reason, and then nothing.
#[track_caller]
pub fn refused(stream: impl Read) {
    assert_eq!(to_end(stream), BUSY, "not refused as it should be");
}

/// Nothing must come for a while: the client waits.
#[track_caller]
pub fn waits(stream: &TcpStream) {
    assert!(!ready(stream, PollFlags::POLLIN | HANGUP, QUIET), "somebody who should wait got an answer");
}

/// A client of `PID_CAT`, and the process that serves it.
pub struct Session {
    pub stream: TcpStream,
    pub pid: Pid,
    pidfd: OwnedFd,
}

impl Session {
    /// Takes over a connection whose command is expected to say its pid.
    #[track_caller]
    pub fn of(mut stream: TcpStream) -> Session {
        let first = line(&mut stream);
        let pid = first.parse().unwrap_or_else(|e| panic!("not served ({e}): {first:?}"));
        Session::known(stream, pid)
    }

    /// The same, where the pid has been read already.
    pub fn known(stream: TcpStream, pid: i32) -> Session {
        let pid = Pid::from_raw(pid);
        Session { stream, pid, pidfd: pidfd(pid) }
    }

    #[track_caller]
    pub fn open(to: SocketAddr) -> Session {
        Session::of(connect(to))
    }

    /// Leaves, and returns when the command has ended: its slot is free for whoever comes after this.
    #[track_caller]
    pub fn leave(self) {
        drop(self.stream);
        assert!(ready(&self.pidfd, PollFlags::POLLIN, FUSE), "the command does not end");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// sockets

/// A listening TCP socket of our own, at first with this backlog.
pub fn tcp_listener(addr: &str, backlog: i32) -> TcpListener {
    let addr: SocketAddr = addr.parse().expect("an address");
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    if addr.is_ipv6() {
        // a mapped address stands for dual stack without leaving the loopback
        let mapped = addr.to_string().contains("ffff:");
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &!mapped).expect("IPV6_V6ONLY");
    }
    socket::bind(fd.as_raw_fd(), &socket::SockaddrStorage::from(addr)).expect("bind");
    listen(&fd, backlog);
    TcpListener::from(fd)
}

/// listen(2) with any number at all.
pub fn listen(fd: impl AsFd, backlog: i32) {
    // SAFETY: listen takes an open descriptor and a number; it touches no memory of ours.
    Errno::result(unsafe { libc::listen(fd.as_fd().as_raw_fd(), backlog) }).expect("listen");
}

/// TCP_INFO: of a listener `tcpi_unacked` is the queue's length and `tcpi_sacked` its limit.
pub fn tcp_info(fd: impl AsFd) -> libc::tcp_info {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `size` is the room behind the pointer; the struct is integers only, so zeroes and whatever the kernel
    // writes over them are a valid one.
    unsafe {
        let fd = fd.as_fd().as_raw_fd();
        let to = info.as_mut_ptr().cast();
        Errno::result(libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, to, &mut size)).expect("TCP_INFO");
        info.assume_init()
    }
}

/// The largest backlog that the kernel grants.
pub fn somaxconn() -> u32 {
    fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn").trim().parse().expect("a number")
}

/// Resets the connection instead of closing it in good order.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    socket::setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

// ---------------------------------------------------------------------------------------------------------------------
// surroundings

/// A directory that goes with the test.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sockcap-{}-{n}", std::process::id()));
        fs::create_dir(&path).expect("temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A load average of our choice for one daemon: a file over /proc/loadavg in a mount namespace of its own.
pub struct Load(TempDir);

impl Load {
    pub fn new(load: f32) -> Load {
        let it = Load(TempDir::new());
        fs::write(it.path(), Load::text(load)).expect("write");
        it
    }

    fn path(&self) -> String {
        self.0.join("loadavg")
    }

    fn text(load: f32) -> String {
        format!("{load:.2} {load:.2} {load:.2} 1/100 12345\n")
    }

    /// In one write of the same length, so that nobody reads half of it.
    pub fn set(&self, load: f32) {
        let mut file = fs::OpenOptions::new().write(true).open(self.path()).expect("open");
        file.write_all(Load::text(load).as_bytes()).expect("write");
    }

    /// At most four at once, and a second only while the load is below 2.
    pub fn start(&self, options: &[&str]) -> Daemon {
        let args = [&["--listen", "127.0.0.1:0", "--processes", "4", "--load-average", "2"], options].concat();
        sockcap(&args)
            .wrap(&["unshare", "-m", "sh", "-c", "mount --bind \"$0\" /proc/loadavg && exec \"$@\"", &self.path()])
            .run(PID_CAT)
            .start()
    }
}

/// A service manager's end of NOTIFY_SOCKET.
pub struct Notify {
    socket: UnixDatagram,
    dir: TempDir,
    seen: Vec<String>,
}

impl Notify {
    pub fn new() -> Notify {
        let dir = TempDir::new();
        let socket = UnixDatagram::bind(dir.join("notify")).expect("bind");
        Notify { socket, dir, seen: Vec::new() }
    }

    pub fn path(&self) -> String {
        self.dir.join("notify")
    }

    /// Waits for the next `NAME=VALUE` that fits.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + FUSE;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Some(message) => {
                    if let Some(found) = message.lines().find(|l| fits(l)) {
                        return found.to_owned();
                    }
                }
                None => panic!("no message for '{what}'; there came: {:#?}", self.seen),
            }
        }
    }

    /// Waits for exactly this.
    #[track_caller]
    pub fn wait(&mut self, message: &str) {
        self.wait_for(message, |m| m == message);
    }

    /// The next datagram, if one comes in time.
    pub fn next(&mut self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("timeout");
        let mut buffer = [0; 4096];
        let n = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                got => break got.ok()?,
            }
        };
        let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
        self.seen.push(message.clone());
        Some(message)
    }
}

/// Words that make the rest of a command line run as a user of the tests' own: RLIMIT_NPROC counts all of a user's processes,
/// and does not bind root. `None`, and said so, where that cannot be done.
pub fn another_user(what: &str) -> Option<[&'static str; 4]> {
    let user = ["setpriv", "--reuid=61874", "--regid=61874", "--clear-groups"];
    let done = Command::new(user[0]).args(&user[1..]).arg(binary()).arg("--help").output();
    if !done.is_ok_and(|o| o.status.success()) {
        skip(what, "cannot run sockcap as another user");
        return None;
    }
    Some(user)
}

/// Changes a limit of a running process from outside, as an administrator would. Values as prlimit(1) takes them.
/// Done as `user`, whose process it is, since root in a container may lack CAP_SYS_RESOURCE.
pub fn prlimit(user: &[&str], pid: Pid, limit: &str) {
    let pid = format!("--pid={pid}");
    let words: Vec<&str> = user.iter().copied().chain(["prlimit", &pid, limit]).collect();
    let done = Command::new(words[0]).args(&words[1..]).status().expect("prlimit");
    assert!(done.success(), "prlimit {limit}: {done}");
}
