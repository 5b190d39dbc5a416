//! What the design takes from the kernel on trust: if one of these fails, the design is wrong on that kernel, not the code.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::common::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

/// The states of include/net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;

fn flags(fd: impl AsFd) -> OFlag {
    OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("F_GETFL"))
}

#[test]
fn listening_again_changes_the_backlog_and_is_clamped() {
    let listener = tcp_listener("127.0.0.1:0", 1);
    assert_eq!(tcp_info(&listener).tcpi_sacked, 1);
    let inherited = listener.try_clone().expect("dup");
    listen(&inherited, i32::MAX);
    assert_eq!(tcp_info(&listener).tcpi_sacked, somaxconn(), "INT_MAX is clamped to the live somaxconn");
    listen(&inherited, 7);
    assert_eq!(tcp_info(&listener).tcpi_sacked, 7, "it can be lowered, too");
}

#[test]
fn listening_again_drops_nobody() {
    let listener = tcp_listener("127.0.0.1:0", 16);
    let to = listener.local_addr().expect("address");
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(to)).collect();
    listen(&listener, 1);
    for client in &clients {
        let (_, peer) = listener.accept().expect("accept");
        assert_eq!(peer, client.local_addr().expect("address"));
    }
}

#[test]
fn tcp_info_of_a_listener_counts_who_waits() {
    let listener = tcp_listener("127.0.0.1:0", 16);
    let to = listener.local_addr().expect("address");
    assert_eq!(tcp_info(&listener).tcpi_unacked, 0);
    let _clients: Vec<TcpStream> = (0..3).map(|_| connect(to)).collect();
    until("three in the queue", || tcp_info(&listener).tcpi_unacked == 3);
    let _one = listener.accept().expect("accept");
    assert_eq!(tcp_info(&listener).tcpi_unacked, 2);
}

#[test]
fn accept_takes_the_oldest_first() {
    let listener = tcp_listener("127.0.0.1:0", 128);
    let to = listener.local_addr().expect("address");
    let mut clients: Vec<TcpStream> = Vec::new();
    while clients.len() < 100 {
        clients.push(connect(to));
        // The last packet of a connection's beginning may come after the client has it.
        until("one more in the queue", || tcp_info(&listener).tcpi_unacked as usize == clients.len());
    }
    for client in &clients {
        let (_, peer) = listener.accept().expect("accept");
        assert_eq!(peer, client.local_addr().expect("address"), "the queue is not first in, first out");
    }
}

#[test]
fn accepted_sockets_do_not_inherit_o_nonblock() {
    let listener = tcp_listener("127.0.0.1:0", 16);
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    assert!(flags(&listener).contains(OFlag::O_NONBLOCK));
    let _client = connect(listener.local_addr().expect("address"));
    assert!(ready(&listener, PollFlags::POLLIN, FUSE));
    let (accepted, _) = listener.accept().expect("accept");
    assert!(!flags(&accepted).contains(OFlag::O_NONBLOCK), "TCP");

    let dir = TempDir::new();
    let listener = UnixListener::bind(dir.join("s")).expect("bind");
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let _client = UnixStream::connect(dir.join("s")).expect("connect");
    let (accepted, _) = listener.accept().expect("accept");
    assert!(!flags(&accepted).contains(OFlag::O_NONBLOCK), "unix");
}

#[test]
fn o_nonblock_of_a_listener_is_shared_with_whoever_passed_it() {
    let ours = tcp_listener("127.0.0.1:0", 16);
    let theirs = ours.try_clone().expect("dup");
    theirs.set_nonblocking(true).expect("O_NONBLOCK");
    assert!(flags(&ours).contains(OFlag::O_NONBLOCK));
}

#[test]
fn a_reset_in_the_queue_shows_as_close_and_an_orderly_end_does_not() {
    let listener = tcp_listener("127.0.0.1:0", 16);
    let to = listener.local_addr().expect("address");
    let stays = connect(to);
    let (accepted, _) = listener.accept().expect("accept");
    assert_eq!(tcp_info(&accepted).tcpi_state, ESTABLISHED);
    drop(stays);

    let mut resets = connect(to);
    resets.write_all(b"hello").expect("write");
    reset(resets);
    let (accepted, _) = listener.accept().expect("a reset connection is still handed out");
    until("CLOSE", || tcp_info(&accepted).tcpi_state == CLOSE);

    // may be a legal half-close: this one still wants its answer
    let ends = connect(to);
    ends.shutdown(std::net::Shutdown::Write).expect("shutdown");
    let (accepted, _) = listener.accept().expect("accept");
    until("CLOSE_WAIT", || tcp_info(&accepted).tcpi_state == CLOSE_WAIT);
}
