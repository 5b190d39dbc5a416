//! Between clone and exec: a program on a file system that hangs keeps its own client waiting, and nobody else.

use crate::common::*;
use crate::faults::Tracer;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::net::TcpStream;

/// More than any pool of stacks begins with.
const MANY: usize = 40;
/// Longer than any test.
const HANGS: &str = "execve:delay_enter=600000000";

/// Each client has its child, whose exec hangs, and the client over the cap is told so at once.
#[test]
fn execs_that_hang_delay_nobody_else() {
    if !can_trace("execs that hang") {
        return;
    }
    let cap = MANY.to_string();
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", &cap]).run(PID_CAT).start();
    let tracer = Tracer::attach(daemon.pid(), true, &[HANGS.into()]).expect("strace");
    let clients: Vec<TcpStream> = (0..MANY).map(|_| daemon.connect()).collect();
    until("a child for each", || daemon.commands().len() == MANY);
    refused(daemon.connect());
    drop(tracer);
    for client in clients {
        Session::of(client).leave();
    }
    let served = MANY as u64;
    assert_eq!(daemon.stop(), Totals { accepted: served + 1, served, refused: 1, ..Totals::default() });
}

/// The daemon ends without waiting for an exec, and the child finds its words and its stack when the exec goes on.
#[test]
fn an_exec_that_hangs_outlives_a_hand_over() {
    if !can_trace("an exec that hangs during a hand-over") {
        return;
    }
    let ours = tcp_listener("127.0.0.1:0", 8);
    let to = ours.local_addr().expect("an address");
    let notify = Notify::new();
    let mut daemon = sockcap(&["--max-connections", "2"])
        .pass(ours.try_clone().expect("dup"))
        .env("NOTIFY_SOCKET", notify.path())
        .run(&["/bin/sh", "-c", "echo $$ $REMOTE_PORT {remote_port}; exec /bin/cat"])
        .start();
    let tracer = Tracer::attach(daemon.pid(), true, &[HANGS.into()]).expect("strace");
    let mut clients = [connect(to), connect(to)];
    until("a child for each", || daemon.commands().len() == clients.len());
    let ended = pidfd(daemon.pid());
    daemon.signal(Signal::SIGUSR1);
    assert!(ready(&ended, PollFlags::POLLIN, FUSE), "it does not end");
    drop(tracer);
    for client in &mut clients {
        let port = client.local_addr().expect("an address").port();
        let said = line(client);
        assert!(said.ends_with(&format!(" {port} {port}")), "{said}");
        echoes(client);
    }
    drop(clients);
    assert_eq!(daemon.finish().code(), Some(0));
}

/// `oom_score_adj`, which the kernel adds to a process's share of memory when it looks for a victim.
fn score(pid: Pid) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
    text.trim().parse().expect("a number")
}

/// When memory runs out, a command is killed and not the daemon. What a command has chosen itself stays.
#[test]
fn the_kernel_s_victim_is_a_command() {
    let choice = "read chosen; [ -z \"$chosen\" ] || echo $chosen >/proc/$$/oom_score_adj; \
                  echo $$; exec /bin/cat";
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(&["/bin/sh", "-c", choice]).start();
    let ours = score(daemon.pid());
    if ours == 1000 {
        return skip("the kernel's victim", "everything here has the highest score");
    }
    let open = |said: &[u8]| {
        let mut client = daemon.connect();
        client.write_all(said).expect("write");
        Session::of(client)
    };
    let raised = |session: &Session| until("a score above the daemon's", || score(session.pid) > ours);
    let own_mind = open(b"1000\n");
    let first = open(b"\n");
    raised(&first);
    let second = open(b"\n");
    raised(&second);
    assert_eq!(score(own_mind.pid), 1000);
    assert_eq!(score(daemon.pid()), ours, "the daemon's own");
    [own_mind, first, second].into_iter().for_each(Session::leave);
    assert_eq!(daemon.stop().served, 3);
}

/// A command whose exec hangs shares the daemon's memory, and so its score: it waits until its exec is over.
#[test]
fn an_exec_that_hangs_does_not_make_the_daemon_a_victim() {
    if !can_trace("the score of an exec that hangs") {
        return;
    }
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0"]).run(PID_CAT).start();
    let ours = score(daemon.pid());
    if ours == 1000 {
        return skip("the kernel's victim", "everything here has the highest score");
    }
    let tracer = Tracer::attach(daemon.pid(), true, &[HANGS.into()]).expect("strace");
    let hanging = daemon.connect();
    until("its child", || daemon.commands().len() == 1);
    waits(&hanging);
    assert_eq!(score(daemon.pid()), ours);
    drop(tracer);
    let hanging = Session::of(hanging);
    until("a score above the daemon's", || score(hanging.pid) > ours);
    assert_eq!(score(daemon.pid()), ours);
    hanging.leave();
    assert_eq!(daemon.stop().served, 1);
}

/// As `SystemCallFilter=~@resources` of a unit, with which no command can be given a nice value.
#[test]
fn a_nice_value_that_a_filter_forbids() {
    if !can_trace("a nice value that a filter forbids") {
        return;
    }
    let filter = ["strace", "-f", "-o", "/dev/null", "-e", "inject=setpriority:error=EPERM"];
    let start = sockcap(&["--listen", "127.0.0.1:0", "--nice", "5"]).wrap(&filter);
    let says = "sockcap: cannot give commands the nice value 5 (--nice): Operation not permitted (EPERM): a filter forbids it; ";
    let line = start.output().one_line(&[1]);
    assert!(line.starts_with(says), "{line}");
}

/// As one that kills (`SystemCallErrorNumber=kill`): a signal ends the trial at the start, and neither sockcap nor a command.
#[test]
fn a_filter_that_kills_is_told_at_the_start() {
    if !can_trace("a filter that kills") {
        return;
    }
    let filter = ["strace", "-f", "-o", "/dev/null", "-e", "inject=umask:signal=SIGSYS"];
    let start = sockcap(&["--listen", "127.0.0.1:0", "--nice", "19", "--umask", "7"]).wrap(&filter);
    let line = start.output().one_line(&[1]);
    assert!(line.ends_with("the trial was killed by SIGSYS (SystemCallFilter= of the service)"), "{line}");
}
