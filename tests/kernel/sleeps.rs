//! The loop sleeps in epoll_wait(2) and nowhere else: no call of the daemon's main thread could wait for a client, a command, the
//! journal or the manager, whatever these do. strace lists every call, and each is looked up among those that cannot sleep
//! with the arguments that it was given. Nothing here is a matter of time.
//!
//! A read of /proc and a page that comes from the disk are no waits for anybody. After the last epoll_wait come the last words, which
//! wait for the manager and the log with a bound.

use crate::common::*;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// Calls that return at once with any arguments.
const PROMPT: &[&str] = &[
    "brk",
    "clock_gettime",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "exit",
    "exit_group",
    "fstat",
    "ftruncate",
    "getpeername",
    "getpgid",
    "getpid",
    "getpriority",
    "getrandom",
    "getrlimit",
    "getsockname",
    "getsockopt",
    "gettid",
    "kill",
    "lseek",
    "madvise",
    "memfd_create",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "prlimit64",
    "readlink",
    "readlinkat",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socket",
    "socketpair",
    "statx",
    "tgkill",
    "timerfd_create",
    "timerfd_settime",
    "unlink",
    "unlinkat",
];

/// Whether this call could not sleep; `nonblocking`: descriptors whose open file says O_NONBLOCK.
fn cannot_sleep(call: &str, nonblocking: &BTreeSet<i32>) -> bool {
    let (name, arguments) = call.split_once('(').unwrap();
    let has = |words: &str| arguments.contains(words);
    let digits = arguments.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let is_nonblocking = || digits.parse().is_ok_and(|fd| nonblocking.contains(&fd));
    let is_of_the_kernel = || has("</proc/") || has("</sys/");
    match usual_name(name) {
        "epoll_wait" | "restart_syscall" => true,
        "accept4" => is_nonblocking(),
        "recvfrom" | "recvmsg" | "sendto" | "sendmsg" => has("MSG_DONTWAIT") || is_nonblocking(),
        "read" | "write" => is_of_the_kernel() || is_nonblocking(),
        "openat" | "open" => has("\"/proc/") || has("\"/sys/"),
        "getdents64" => is_of_the_kernel(),
        "fcntl" => !has("LKW"),
        "wait4" => has("WNOHANG"),
        "poll" => has(", 0) = "),
        "ppoll" | "rt_sigtimedwait" => has("{tv_sec=0, tv_nsec=0}"),
        // Until the child's exec nobody waits for it.
        "clone" => !has("CLONE_VFORK"),
        // A lock of the allocator or of a channel, which another thread of ours has for some instructions and never while it waits.
        "futex" => has("FUTEX_WAKE") || has("FUTEX_WAIT_PRIVATE, 2, NULL"),
        name => PROMPT.contains(&name),
    }
}

/// strace at the main thread of a daemon.
struct Calls {
    strace: Child,
    table: String,
    nonblocking: BTreeSet<i32>,
    _dir: TempDir,
}

impl Calls {
    fn of(daemon: &Daemon) -> Calls {
        let (dir, pid) = (TempDir::new(), daemon.pid());
        let table = dir.join("calls");
        let mut strace = Command::new("strace")
            .args(["-y", "-o", &table, "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        let mut said = BufReader::new(strace.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("what strace says");
        assert!(line.contains(" attached"), "{line}");
        strace.stderr = Some(said.into_inner());
        let is_nonblocking = |fd: &i32| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
            flags.is_some_and(|flags| i32::from_str_radix(flags, 8).unwrap() & libc::O_NONBLOCK != 0)
        };
        let nonblocking = daemon.open_fds().into_iter().filter(is_nonblocking).collect();
        Calls { strace, table, nonblocking, _dir: dir }
    }

    /// The names of all calls until the loop's last wait, of which none could sleep.
    fn checked(mut self) -> BTreeSet<String> {
        // It ends with the daemon, and has written all then.
        if let Ok(None) = self.strace.try_wait() {
            self.strace.wait().expect("strace");
        }
        let text = fs::read_to_string(&self.table).expect("what strace has written");
        let calls: Vec<&str> = text.lines().filter(|line| !line.starts_with(['+', '-', '['])).collect();
        let last = calls.iter().rposition(|call| call.starts_with("epoll_")).expect("a wait");
        let sleepers: Vec<_> = calls[..last].iter().filter(|call| !cannot_sleep(call, &self.nonblocking)).collect();
        assert!(sleepers.is_empty(), "these could sleep: {sleepers:#?}; O_NONBLOCK: {:?}", self.nonblocking);
        calls[..last].iter().filter_map(|call| Some(usual_name(call.split_once('(')?.0).to_owned())).collect()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        end_tracer(&mut self.strace);
    }
}

/// Clients of all kinds, at a cap of two: served, refused, reset, silent.
fn torture(to: SocketAddr) {
    for _ in 0..3 {
        let living = [Session::open(to), Session::open(to)];
        for _ in 0..8 {
            to_end(connect(to));
            reset(connect(to));
        }
        // Whoever came before it has been seen by then.
        let mut lingering = connect(to);
        assert_eq!(line(&mut lingering), "server at capacity");
        living.into_iter().for_each(Session::leave);
    }
}

#[test]
fn clients_a_deaf_journal_and_a_deaf_manager_do_not_make_the_loop_sleep() {
    if !can_trace("the calls of the loop") {
        return;
    }
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("pipe");
    let ours = tcp_listener("127.0.0.1:0", 64);
    let to = ours.local_addr().expect("address");
    let mut notify = Notify::new();
    let options = ["--max-connections", "2", "--verbose", "--time-limit", "1h", "--log-target", "stderr"];
    let mut daemon =
        sockcap(&options).run(PID_CAT).pass(ours).env("NOTIFY_SOCKET", notify.path()).stderr(writer).spawn();
    notify.wait("READY=1");
    notify.fill();
    let calls = Calls::of(&daemon);
    torture(to);
    daemon.signal(Signal::SIGTERM);
    let all = std::thread::spawn(move || all_of(fs::File::from(reader)));
    assert_eq!(daemon.finish().code(), Some(0));
    drop(all);
    let names = calls.checked();
    for name in ["accept4", "clone", "wait4", "shutdown", "recvfrom", "epoll_ctl"] {
        assert!(names.contains(name), "{name} was not among {names:?}");
    }
}

/// Those that wait, a hand-over to the next daemon, and that one's stop.
#[test]
fn a_hand_over_does_not_make_the_loop_sleep() {
    if !can_trace("the calls of a hand-over") {
        return;
    }
    let Some(mut manager) = Manager::new("the calls of a hand-over", &["a"]) else { return };
    let options = ["--max-connections", "1", "--when-full", "wait", "--max-wait", "1h", "--drain-timeout", "0"];
    let to = manager.addr(0);
    let mut daemon = manager.start(sockcap(&options).run(PID_CAT));
    let calls = Calls::of(&daemon);
    let before = daemon.open_fds().len();
    let living = Session::open(to);
    let waiting = [connect(to), connect(to)];
    until("both are held", || daemon.open_fds().len() == before + 2);
    reset(connect(to));
    manager.end(daemon, Signal::SIGUSR1);
    calls.checked();

    daemon = manager.start(sockcap(&options).run(PID_CAT));
    let calls = Calls::of(&daemon);
    living.leave();
    let [first, second] = waiting;
    Session::of(first).leave();
    let served = Session::of(second);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(to_end(served.stream), "");
    manager.ended(daemon);
    let names = calls.checked();
    assert!(names.contains("pidfd_send_signal") || names.contains("kill"), "{names:?}");
}
