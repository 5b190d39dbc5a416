//! The books of a daemon through lives that nobody foresees: of whoever was accepted it is known at any time what became of them, in
//! total and at each listener. A debug build looks after each turn of its loop and ends at once if one is missing.

use crate::common::*;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::{fs, thread};

const CLIENTS: u64 = 10;
const LIVES: u64 = 40;
const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn says(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

/// Says this, and hears whatever it is told to the end.
fn ends(mut stream: TcpStream, text: &str) {
    says(&mut stream, text);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// One client. None of them cares whether it is served.
fn live(random: &mut Random, to: SocketAddr) {
    let mut stream = connect(to);
    match random.below(9) {
        0 => drop(stream),
        1 => reset(stream),
        2 => {
            says(&mut stream, HEADER);
            reset(stream);
        }
        3 => ends(stream, "PROXY TC"),
        4 => ends(stream, "no header\r\n"),
        5 => {
            // Its place is taken while others come and go.
            says(&mut stream, HEADER);
            for _ in 0..4 {
                let mut other = connect(to);
                says(&mut other, HEADER);
                reset(other);
            }
            ends(stream, "");
        }
        _ => ends(stream, HEADER),
    }
}

/// So many lives at two listeners, while the command comes and goes.
fn lives(seed: u64, ways: &[&str], command: &str) {
    let (one, two) = (tcp_listener("127.0.0.1:0", 64), tcp_listener("127.0.0.1:0", 64));
    let to = [&one, &two].map(|listener| listener.local_addr().expect("its address"));
    let away = format!("{command}.away");
    let mut daemon = sockcap(ways)
        .args(&["--max-connections", "2", "--max-per-listener", "one=1"])
        .pass(one)
        .pass(two)
        .names("one:two")
        .run(&[command])
        .start();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let mut random = Random(seed * CLIENTS + nth);
            thread::spawn(move || {
                for _ in 0..LIVES {
                    let to = to[random.below(2) as usize];
                    live(&mut random, to);
                }
            })
        })
        .collect();
    let is_over = || clients.iter().all(thread::JoinHandle::is_finished);
    while !is_over() {
        fs::rename(command, &away).expect("taken away");
        let failures = daemon.count("cannot start");
        until("a start that fails", || is_over() || daemon.count("cannot start") > failures);
        fs::rename(&away, command).expect("brought back");
        let recoveries = daemon.count("commands start again");
        until("a start that does not", || is_over() || daemon.count("commands start again") > recoveries);
    }
    clients.into_iter().for_each(|client| client.join().expect("a client failed"));
    // Whoever came before these was accepted before them.
    to.into_iter().for_each(|to| ends(connect(to), HEADER));
    until("an idle daemon", || daemon.commands().is_empty());
    assert!(daemon.stop().accepted >= CLIENTS * LIVES + 2, "{ways:?}");
}

#[test]
fn the_books_are_right_after_each_turn() {
    let folder = TempDir::new();
    let command = folder.join("command");
    write_program(&command, b"#!/bin/sh\nexec /bin/cat\n");
    for (seed, ways) in [
        (1, &["--when-full", "refuse"][..]),
        (2, &["--when-full", "wait"]),
        (3, &["--when-full", "wait", "--max-waiting", "5", "--max-per-source", "6"]),
        (4, &["--when-full", "wait", "--max-wait", "20ms", "--proxy-protocol"]),
        (5, &["--when-full", "refuse", "--proxy-protocol"]),
    ] {
        lives(seed, ways, &command);
    }
}
