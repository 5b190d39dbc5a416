//! Commands apart from each other (`--isolate=signals`), and the daemon apart from all of them: a command that its client has taken
//! over, tried against another client's and against the daemon, each of them of one user.

use crate::common::*;
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};

/// What a tracer may do; each is EPERM or EACCES to whom it is closed.
const TRACES: [&str; 7] = ["ptrace", "process_vm_readv", "mem", "environ", "maps", "fd", "pidfd_getfd"];
/// A limit may end a process as a signal does.
const SIGNALS: [&str; 4] = ["kill", "tgkill", "pidfd_send_signal", "prlimit"];

/// The program, compiled where every user can run it.
struct Attacker(TempDir);

impl Attacker {
    fn new(what: &str) -> Option<Attacker> {
        let folder = TempDir::new();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trouble/attacker.c");
        match Command::new("cc").args(["-o", &folder.join("attacker"), source]).output() {
            Ok(compiled) if compiled.status.success() => Some(Attacker(folder)),
            failed => {
                skip(what, &format!("cannot compile C: {failed:?}"));
                None
            }
        }
    }

    fn start(&self, options: &[&str]) -> Start {
        sockcap(&["--listen", "127.0.0.1:0"]).args(options).run(&[self.0.join("attacker")])
    }
}

/// One such command and its client.
struct Taken {
    client: TcpStream,
    pid: i32,
    address: u64,
    dumpable: i32,
}

impl Taken {
    fn over(client: TcpStream) -> Taken {
        let mut client = client;
        let words = line(&mut client);
        let mut numbers = words.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
        let mut next = || numbers.next().expect("a number");
        Taken { pid: next() as i32, address: next(), dumpable: next() as i32, client }
    }

    fn ask(&mut self, words: &str) -> String {
        writeln!(self.client, "{words}").expect("it reads");
        line(&mut self.client).trim_end().to_owned()
    }

    /// By name, what it can do to this process.
    fn attack(&mut self, pid: i32, address: u64) -> Vec<(String, String)> {
        writeln!(self.client, "attack {pid} {address}").expect("it reads");
        let lines = std::iter::repeat_with(|| line(&mut self.client)).map(|line| line.trim_end().to_owned());
        let pairs = lines.take_while(|line| line != "done");
        pairs
            .map(|line| line.split_once(' ').map(|(name, end)| (name.to_owned(), end.to_owned())).expect("two"))
            .collect()
    }
}

/// Each of these works, or none does.
#[track_caller]
fn expect(done: &[(String, String)], names: &[&str], works: bool) {
    for name in names {
        let (_, end) = done.iter().find(|(other, _)| other == name).expect("it was tried");
        let is_as_expected = if works { end == "works" } else { ["EPERM", "EACCES"].contains(&&**end) };
        assert!(is_as_expected, "{name} {end}, expected that it works: {works}; all: {done:?}");
    }
}

/// Where the daemon's memory begins, which its commands cannot see.
fn memory_of(daemon: &Daemon) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).expect("maps");
    u64::from_str_radix(maps.split('-').next().expect("an address"), 16).expect("an address")
}

/// Whether the daemon closes itself: the harness keeps it from that where it has to look into it without privileges.
fn is_closed(what: &str) -> bool {
    if !sees_all() {
        skip(what, "needs CAP_SYS_PTRACE");
    }
    sees_all()
}

/// Whether a process may trace another one of its user here (the Yama module may forbid it).
fn may_trace() -> bool {
    fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").map_or(true, |scope| scope.trim() == "0")
}

/// Whether this kernel keeps signals in.
fn has_scopes(what: &str) -> bool {
    let text = sockcap(&["--check", "--isolate", "--listen", "0"]).output().stdout;
    let abi =
        text.split_once("(Landlock ABI ").and_then(|(_, rest)| rest.split([')', ':']).next()?.parse::<u32>().ok());
    let has = abi.is_some_and(|abi| abi >= 6);
    if !has {
        let line = text.lines().find(|line| line.starts_with("isolate")).unwrap_or_default();
        skip(what, &format!("needs Linux 6.12 with Landlock: {line}"));
    }
    has
}

/// With it nothing works against a neighbour or the daemon, of one ordinary user; without it, all that is to be kept out does against
/// a neighbour, and signals against the daemon.
#[test]
fn a_command_cannot_reach_its_neighbour_or_the_daemon() {
    let what = "commands of one user";
    if !is_closed(what) || !has_scopes(what) {
        return;
    }
    let (Some(attacker), Some(user)) = (Attacker::new(what), another_user(what)) else { return };
    let program = attacker.0.join("attacker");
    let ran = Command::new(user[0]).args(&user[1..]).arg(&program).stdin(Stdio::null()).output().expect("setpriv");
    if !ran.status.success() {
        return skip(what, "another user may not run a program here");
    }
    for is_apart in [true, false] {
        let options: &[&str] = if is_apart { &["--isolate=signals"] } else { &[] };
        let mut daemon = attacker.start(options).wrap(&user).start();
        let (mut taken, mut neighbour) = (Taken::over(daemon.connect()), Taken::over(daemon.connect()));
        assert_eq!((taken.dumpable, neighbour.dumpable), (1, 1), "commands may be traced by whoever else may");
        let done = taken.attack(neighbour.pid, neighbour.address);
        expect(&done, &SIGNALS, !is_apart);
        if is_apart || may_trace() {
            expect(&done, &TRACES, !is_apart);
        }
        let done = taken.attack(daemon.pid().as_raw(), memory_of(&daemon));
        expect(&done, &SIGNALS, !is_apart);
        expect(&done, &["ptrace", "process_vm_readv", "mem", "environ", "fd", "pidfd_getfd"], false);
        let ended = taken.ask(&format!("signal 15 {}", neighbour.pid));
        if is_apart {
            assert_eq!(ended, "signal EPERM");
            assert!(neighbour.ask("abstract nobody").starts_with("abstract "), "it lives");
            drop(neighbour);
        } else {
            assert_eq!((ended.as_str(), to_end(neighbour.client)), ("signal works", String::new()));
        }
        drop(taken);
        daemon.stop();
    }
}

/// The same of root, whom nothing else keeps from anything. A kernel may let it read environment and memory maps in any case (CAP_PERFMON).
#[test]
fn a_command_of_root_cannot_reach_its_neighbour_or_the_daemon() {
    let what = "commands of root";
    if !is_root() {
        return skip(what, "needs root");
    }
    if !is_closed(what) || !has_scopes(what) {
        return;
    }
    let Some(attacker) = Attacker::new(what) else { return };
    for is_apart in [true, false] {
        let options: &[&str] = if is_apart { &["--isolate=signals"] } else { &[] };
        let mut daemon = attacker.start(options).start();
        let (mut taken, neighbour) = (Taken::over(daemon.connect()), Taken::over(daemon.connect()));
        for (pid, address) in [(neighbour.pid, neighbour.address), (daemon.pid().as_raw(), memory_of(&daemon))] {
            let done = taken.attack(pid, address);
            expect(&done, &SIGNALS, !is_apart);
            expect(&done, &["ptrace", "process_vm_readv", "mem", "fd", "pidfd_getfd"], !is_apart);
        }
        drop((taken, neighbour));
        daemon.stop();
    }
}

/// Abstract sockets that were made outside are closed to it, others are not its matter.
#[test]
fn an_abstract_socket_of_others_is_closed() {
    let what = "abstract sockets";
    let (true, Some(attacker)) = (has_scopes(what), Attacker::new(what)) else { return };
    let name = format!("sockcap{}", std::process::id());
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bind");
    for (options, expected) in [(&["--isolate"][..], "abstract EPERM"), (&[], "abstract works")] {
        let mut daemon = attacker.start(options).start();
        let mut taken = Taken::over(daemon.connect());
        assert_eq!(taken.ask(&format!("abstract {name}")), expected);
        drop(taken);
        daemon.stop();
    }
}

/// Its own children are its own, the daemon ends it as ever, and how it ends is known.
#[test]
fn what_is_apart_lives_and_ends_as_ever() {
    let what = "commands apart";
    let (true, Some(attacker)) = (has_scopes(what), Attacker::new(what)) else { return };
    let folder = ControlFolder::new("apart");
    let socket = folder.socket();
    let options =
        ["--isolate", "-v", "--time-limit", "1h", "--kill-grace", "1h", "--control", &socket.to_string_lossy()];
    let mut daemon = attacker.start(&options).start();
    let mut taken = Taken::over(daemon.connect());
    assert_eq!(taken.ask("own"), "own_limit works");
    assert_eq!(line(&mut taken.client).trim_end(), "own_read works");
    assert_eq!(line(&mut taken.client).trim_end(), "own_kill works");
    assert_eq!(line(&mut taken.client).trim_end(), format!("own_end {}", libc::SIGTERM));
    writeln!(taken.client, "exit 7").expect("it reads");
    daemon.wait_text("exited with status 7");

    let stopped = Taken::over(daemon.connect());
    let mut control = Control::connect(&socket);
    let ids = control.list("ListConnections", "connection");
    control.call("Stop", serde_json::json!({ "id": ids[0]["id"] }));
    assert_eq!(to_end(stopped.client), "");
    daemon.wait_text("was killed by signal 15");

    let left = Taken::over(daemon.connect());
    daemon.signal(Signal::SIGTERM);
    daemon.wait_text("accepting no more connections");
    daemon.signal(Signal::SIGTERM); // skips the wait
    assert_eq!(to_end(left.client), "");
    daemon.totals();

    let mut daemon = attacker.start(&["--isolate", "-v", "--time-limit", "100ms"]).start();
    let late = Taken::over(daemon.connect());
    assert_eq!(to_end(late.client), "");
    daemon.wait_text("reached the time limit of 0.1 s");
    daemon.wait_text("was killed by signal 15");
    daemon.stop();
}

/// A command may have Landlock of its own: sockcap among sockcap's commands.
#[test]
fn a_command_may_keep_its_own_apart() {
    let what = "Landlock within Landlock";
    if !has_scopes(what) {
        return;
    }
    let check = [binary().to_string_lossy().into_owned(), "--check".into(), "--isolate=signals".into()];
    let check: Vec<String> = check.into_iter().chain(["--listen", "0", "--", "/bin/cat"].map(str::to_owned)).collect();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--isolate=signals"]).run(&check).start();
    let text = to_end(daemon.connect());
    assert!(text.contains("isolate             signals (Landlock ABI "), "{text}");
    daemon.stop();
}
