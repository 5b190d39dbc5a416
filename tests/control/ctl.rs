//! sockcapctl and a real daemon: what it shows is so, and its exit status says how it went.

use crate::common::*;
use nix::poll::PollFlags;
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::str::from_utf8;

/// A daemon with a control socket in this folder.
pub(super) fn start(folder: &ControlFolder, args: &[&str]) -> Daemon {
    let socket = folder.socket();
    sockcap(&["--listen", "127.0.0.1:0", "--control", socket.to_str().unwrap()]).args(args).start()
}

pub(super) fn ctl(words: &[&str]) -> Command {
    let mut command = Command::new(ctl_binary());
    command.args(words).stdin(Stdio::null());
    command
}

pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

#[track_caller]
fn run(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("sockcapctl");
    Said { code: status.code(), out: String::from_utf8(stdout).unwrap(), err: String::from_utf8(stderr).unwrap() }
}

/// With the socket's path in the place of `UNIT`.
#[track_caller]
pub(super) fn says(socket: &Path, words: &[&str]) -> Said {
    let unit = |word: &&str| if *word == "UNIT" { socket.to_str().unwrap().to_owned() } else { (*word).to_owned() };
    let words: Vec<_> = words.iter().map(unit).collect();
    run(ctl(&words.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// What it prints when all is well.
#[track_caller]
pub(super) fn done(socket: &Path, words: &[&str]) -> String {
    let said = says(socket, words);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{words:?}: {}", said.out);
    said.out
}

pub(super) fn served(daemon: &Daemon) -> TcpStream {
    let mut client = daemon.connect();
    echoes(&mut client);
    client
}

fn port(client: &TcpStream) -> String {
    client.local_addr().expect("an address").port().to_string()
}

#[test]
fn what_it_shows_is_so() {
    let folder = ControlFolder::new("ctl-shows");
    let socket = folder.socket();
    let daemon = start(&folder, &["--max-connections", "2", "--when-full", "wait", "--max-waiting", "1"]);
    let mut control = Control::connect(&socket);
    let served = [served(&daemon), served(&daemon)];
    let held = daemon.connect();
    control.until("one is held", |runtime| runtime["held"] == 1);
    let _refused = daemon.connect();
    control.until("one is refused", |runtime| runtime["accepted"] == 4);

    let status = done(&socket, &["status", "UNIT"]);
    for line in [
        "      Active: [##########] 2/2\n",
        "     Waiting: [##########] 1/1 held, ",
        "      Served: 0 (accepted 4, gone 0)\n",
        "     Refused: 1: 1 queue-full\n",
    ] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    assert!(!status.contains('\x1b'), "no colours for a pipe: {status}");

    let listed = done(&socket, &["connections", "UNIT"]);
    let ports: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(ports, served.each_ref().map(port), "{listed}");
    let json = done(&socket, &["connections", "UNIT", "--json"]);
    let of: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(of["connection"]["peerPort"].to_string(), port(&served[0]), "{json}");

    let waiting = done(&socket, &["waiting", "UNIT"]);
    let row: Vec<&str> = waiting.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&row[1..3], ["127.0.0.1", &port(&held)], "{waiting}");

    let said = says(&socket, &["ready", "UNIT"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("is not ready: 2/2 commands run, and 1/1 clients wait"), "{}", said.err);

    let reply: Value = serde_json::from_str(&done(&socket, &["--json", "status", "UNIT"])).unwrap();
    assert_eq!((&reply["context"]["whenFull"], &reply["runtime"]["active"]), (&"wait".into(), &2.into()));
    assert!(reply.get("unit").is_none(), "the reply itself: {reply}");
}

#[test]
fn a_drain_is_waited_for_and_ended() {
    let folder = ControlFolder::new("ctl-drain");
    let socket = folder.socket();
    let daemon = start(&folder, &[]);
    done(&socket, &["ready", "UNIT"]);
    let one = served(&daemon);
    let mut waits = ctl(&["drain", "--wait", socket.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    Control::connect(&socket).until("it is drained", |runtime| runtime["phase"] == "drained");
    let said = says(&socket, &["ready", "UNIT"]);
    assert!(said.code == Some(1) && said.err.contains("it is drained"), "{}", said.err);
    assert!(waits.try_wait().unwrap().is_none(), "a command runs");
    drop(one);
    let out = waits.wait_with_output().unwrap();
    assert!(out.status.success() && from_utf8(&out.stdout).unwrap().contains("is drained: no command runs"), "{out:?}");
    done(&socket, &["resume", "UNIT"]);
    let _two = served(&daemon);
}

/// By name, in the directory of a user's own sockets; and what is said when there is none.
#[test]
fn units_are_found_by_name() {
    let folder = ControlFolder::new("ctl-names");
    let socket = folder.path().join("sockcap/hello/control.sock");
    let by = |words: &[&str]| {
        let mut command = ctl(words);
        command.arg("--user").env("XDG_RUNTIME_DIR", folder.path());
        run(command)
    };
    assert_eq!((by(&["list"]).code, by(&["list"]).out.as_str()), (Some(0), "No unit runs sockcap.\n"));
    let said = by(&["status"]);
    assert!(said.code == Some(3) && said.err.contains("no unit runs sockcap: there is no "), "{}", said.err);

    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--control", socket.to_str().unwrap()]).start();
    for name in ["hello", "hello.service", "hello.socket"] {
        assert_eq!(by(&["ready", name]).code, Some(0), "{name}");
    }
    let list = by(&["list"]);
    assert!(list.code == Some(0) && list.out.lines().nth(1).unwrap().starts_with("hello  running "), "{}", list.out);
    let said = by(&["status", "helo"]);
    assert!(said.code == Some(3) && said.err.ends_with("units that run: hello\n"), "{}", said.err);
    // Of several units each reply says whose it is.
    let reply: Value = serde_json::from_str(&by(&["list", "--json"]).out).unwrap();
    assert_eq!(reply["unit"], "hello");

    // A socket that nobody listens at.
    let left = folder.path().join("sockcap/left/control.sock");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let said = by(&["list"]);
    assert!(said.code == Some(4) && said.out.contains("hello"), "{} {}", said.out, said.err);
    assert!(said.err.contains("'left' is not running"), "{}", said.err);
    assert_eq!(by(&["status", "left"]).code, Some(3));
    daemon.stop();
    assert_eq!(by(&["status", "hello"]).code, Some(3));
}

/// `watch | head`: the first line is the state now, and a reader that goes is no mistake.
#[test]
fn watching_ends_with_its_reader_or_its_daemon() {
    let folder = ControlFolder::new("ctl-watch");
    let socket = folder.socket();
    let mut daemon = start(&folder, &[]);
    let begin = || {
        let mut watch = ctl(&["watch", socket.to_str().unwrap()]);
        watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut watch = begin();
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(reply["runtime"]["active"], 0);
    let one = served(&daemon);
    line.clear();
    while !line.contains("\"active\":1") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it goes on");
    }
    drop(lines);
    let out = watch.wait_with_output().unwrap();
    assert_eq!((out.status.code(), from_utf8(&out.stderr).unwrap()), (Some(0), ""));

    drop(one);
    let watch = begin();
    daemon.stop();
    let out = watch.wait_with_output().unwrap();
    let stderr = from_utf8(&out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(3), "{stderr}");
}

/// A terminal with `top` on it, and what it has shown so far.
struct Top {
    master: File,
    slave: OwnedFd,
    before: Termios,
    program: Child,
    shown: String,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Top {
    fn on_terminal(rows: u16, columns: u16, socket: &Path) -> Top {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).expect("a terminal");
        let before = tcgetattr(&slave).expect("its settings");
        let end = || slave.try_clone().expect("its end");
        let mut top = ctl(&["top", socket.to_str().unwrap()]);
        let program = top.env("TERM", "xterm").stdin(end()).stdout(end()).spawn().expect("sockcapctl");
        Top { master: master.into(), slave, before, program, shown: String::new() }
    }

    #[track_caller]
    fn wait_for(&mut self, words: &str) {
        while !self.shown.contains(words) {
            assert!(ready(&self.master, PollFlags::POLLIN, FUSE), "no {words:?} in {}", self.shown);
            let mut bytes = [0; 4096];
            let read = uninterrupted(|| self.master.read(&mut bytes)).expect("read the terminal");
            self.shown += &String::from_utf8_lossy(&bytes[..read]);
        }
    }

    /// It has ended, and the terminal is as it was.
    #[track_caller]
    fn ends(mut self) {
        self.wait_for(LEAVE);
        assert!(self.program.wait().expect("wait").success());
        assert!(self.shown.ends_with(LEAVE), "{:?}", self.shown);
        assert!(tcgetattr(&self.slave).expect("its settings") == self.before, "keys are shown again");
    }
}

#[test]
fn top_is_live_and_leaves_the_terminal_as_it_was() {
    let folder = ControlFolder::new("ctl-top");
    let daemon = start(&folder, &["--max-connections", "4"]);
    let mut top = Top::on_terminal(24, 80, &folder.socket());
    top.wait_for("[----------] 0/4");
    assert!(top.shown.starts_with(ENTER), "{:?}", top.shown);
    let one = served(&daemon);
    top.wait_for("[##--------] 1/4");
    let row = format!("127.0.0.1  {}", port(&one));
    top.wait_for(&row);
    top.master.write_all(b"xq").expect("a key");
    top.ends();

    let mut top = Top::on_terminal(5, 40, &folder.socket());
    top.wait_for("q quits");
    kill(Pid::from_raw(top.program.id() as i32), Signal::SIGTERM).expect("kill");
    top.ends();
}

#[test]
fn top_prints_lines_where_there_is_no_terminal() {
    let folder = ControlFolder::new("ctl-lines");
    let _daemon = start(&folder, &["--max-connections", "4"]);
    let mut top = ctl(&["top", folder.socket().to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let header = lines.next().unwrap().unwrap();
    assert!(header.starts_with("TIME  ") && header.ends_with("  SERVED  REFUSED"), "{header}");
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.len(), header.len(), "columns below their names: {line}");
        assert!(line.contains("  running  [-----]     0/4  ") && !line.contains('\x1b'), "{line}");
    }
    drop(lines);
    assert!(top.wait().unwrap().success());
}
