//! Starting a `sockcap`: its options, sockets, environment and what stands around it.

use super::*;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use nix::errno::Errno;

/// A `sockcap` about to be started.
pub struct Start {
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    fds: Vec<OwnedFd>,
    names: Option<String>,
    listen_fds: Option<String>,
    prelude: String,
    wrap: Vec<OsString>,
    program: OsString,
    command: Vec<OsString>,
    stdin: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    is_subreaper: bool,
}

/// The program under test: the one that cargo has built, or another build of it (`tests/static.sh`).
pub fn binary() -> OsString {
    std::env::var_os("SOCKCAP_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sockcap").into())
}

/// The program that asks it, likewise.
pub fn ctl_binary() -> OsString {
    std::env::var_os("SOCKCAPCTL_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sockcapctl").into())
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
        program: binary(),
        command: vec!["--".into(), "/bin/cat".into()],
        stdin: None,
        stderr: None,
        is_subreaper: false,
    }
}

impl Start {
    /// The command to run per connection.
    pub fn run<S: AsRef<str>>(mut self, command: &[S]) -> Self {
        self.command = std::iter::once("--").chain(command.iter().map(AsRef::as_ref)).map(Into::into).collect();
        self
    }

    /// Another build of sockcap.
    pub fn program(mut self, path: OsString) -> Self {
        self.program = path;
        self
    }

    /// More options.
    pub fn args<S: AsRef<str>>(mut self, args: &[S]) -> Self {
        self.args.extend(args.iter().map(|a| a.as_ref().into()));
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

    /// Orphans become children of sockcap, as they do of PID 1 in a container (PR_SET_CHILD_SUBREAPER lasts over an exec).
    pub fn subreaper(mut self) -> Self {
        self.is_subreaper = true;
        self
    }

    /// What stdin is instead of /dev/null.
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(fd.into());
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
        words.push(std::mem::take(&mut self.program));
        words.append(&mut self.args);
        words.append(&mut self.command);

        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(self.stdin.take().map_or(Stdio::null(), Stdio::from));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SOCKCAP_")
                || name.starts_with("LISTEN_")
                || name == "NOTIFY_SOCKET"
                || name == "JOURNAL_STREAM"
                || name == "INVOCATION_ID"
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
        // A shell starts what it starts with `&` with SIGINT and SIGQUIT ignored, and nohup ignores SIGHUP: what is ignored at the start
        // stays ignored.
        // SAFETY: signal takes integers, and is one system call.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        if !sees_all() {
            // SAFETY: two system calls, on memory of this function's own.
            unsafe {
                command.pre_exec(stay_open);
            }
        }
        if self.is_subreaper {
            // SAFETY: prctl takes integers, and is one system call.
            unsafe {
                command.pre_exec(|| {
                    Errno::result(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
                        .map_err(io::Error::from)
                        .map(drop)
                });
            }
        }
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
        // The harness knows priorities by what is in front of lines.
        let is_set = |name: &str| self.env.iter().any(|(of, _)| of == name);
        let has_target = is_set("JOURNAL_STREAM") || is_set("SOCKCAP_LOG_TARGET");
        let mut command = self.command();
        if !has_target {
            command.env("SOCKCAP_LOG_TARGET", "stderr");
        }
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

/// Makes PR_SET_DUMPABLE do nothing (seccomp(2)): the daemon closes itself to others of its user, and tests without privileges look at
/// its descriptors, too.
fn stay_open() -> io::Result<()> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, equal, end) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET);
    let low = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut filter = [
        op(load, 0, 0, 0), // struct seccomp_data: nr, arch, instruction_pointer, args
        op(equal, 0, 3, libc::SYS_prctl as u32),
        op(load, 0, 0, 16 + low),
        op(equal, 0, 1, libc::PR_SET_DUMPABLE as u32),
        op(end, 0, 0, libc::SECCOMP_RET_ERRNO),
        op(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter lives across the call.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0))?;
    }
    Ok(())
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
