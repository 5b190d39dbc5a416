//! Between clone and exec: a program on a file system that hangs keeps its own client waiting, and nobody else.

use crate::common::*;
use crate::faults::{Tracer, can_trace};
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
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
