//! A refused client sees the reason and a clean end, whatever it is doing at that moment, and costs nobody else anything.
//!
//! The six kinds of client are those under which other servers were found to lose their message; the control at the
//! end shows that they still do when a server closes plainly, so that this suite can fail.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use nix::poll::PollFlags;

/// How many clients of one kind come at once.
const CLIENTS: usize = 20;

/// What a client does with its connection.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Silent,
    /// Writes so many times, each after the server has had its say, and gives up when a write fails.
    Writes(usize),
    /// Sends 4 MB before it reads, and gives up when a write fails.
    Uploads,
    /// The same, but reads when a write fails.
    UploadsThenReads,
}

const UPLOAD: usize = 4 << 20;

/// One client; what it read up to a clean end of file, or how it was let down.
fn client(kind: Kind, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(to);
    match kind {
        Kind::Silent => {}
        Kind::Writes(times) => {
            for nth in 0..times {
                stream.write_all(b"a word from the client\n")?;
                if nth == 0 {
                    ready(&stream, HANGUP, FUSE);
                }
            }
        }
        Kind::Uploads => stream.write_all(&vec![b'x'; UPLOAD])?,
        Kind::UploadsThenReads => drop(stream.write_all(&vec![b'x'; UPLOAD])),
    }
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What `CLIENTS` of a kind got, all at the same time.
fn clients(kind: Kind, to: SocketAddr) -> Vec<io::Result<String>> {
    thread::scope(|s| {
        let all: Vec<_> = (0..CLIENTS).map(|_| s.spawn(move || client(kind, to))).collect();
        all.into_iter().map(|c| c.join().expect("client")).collect()
    })
}

/// A daemon with one slot, and the client that has it.
fn full(args: &[&str]) -> (Daemon, TcpStream) {
    let mut all = vec!["--listen", "127.0.0.1:0", "--max-connections", "1"];
    all.extend(args);
    let daemon = sockcap(&all).start();
    let mut holder = daemon.connect();
    echoes(&mut holder);
    (daemon, holder)
}

#[track_caller]
fn all_are_told(kind: Kind) {
    // The time that a refused client has to close.
    unless_stalled(Duration::from_secs(2), || {
        let (mut daemon, mut holder) = full(&[]);
        for (nth, got) in clients(kind, daemon.addr(0)).into_iter().enumerate() {
            match got {
                Ok(text) => assert_eq!(text, BUSY, "client {nth}, {kind:?}"),
                Err(e) => panic!("client {nth}, {kind:?}: {e}"),
            }
        }
        echoes(&mut holder);
        drop(holder);
        assert_eq!(
            daemon.stop(),
            Totals { accepted: CLIENTS as u64 + 1, served: 1, refused: CLIENTS as u64, gone: 0, failed: 0 }
        );
    });
}

#[test]
fn a_silent_client() {
    all_are_told(Kind::Silent);
}

#[test]
fn a_client_that_writes_once() {
    all_are_told(Kind::Writes(1));
}

#[test]
fn a_client_that_writes_twice() {
    all_are_told(Kind::Writes(2));
}

#[test]
fn a_client_that_writes_three_times() {
    all_are_told(Kind::Writes(3));
}

#[test]
fn a_client_that_uploads() {
    all_are_told(Kind::Uploads);
}

#[test]
fn a_client_that_uploads_and_reads_when_that_fails() {
    all_are_told(Kind::UploadsThenReads);
}

/// The control: a server that writes and closes loses its message with a client that goes on talking.
#[test]
fn a_plain_close_would_lose_the_message() {
    let listener = tcp_listener("127.0.0.1:0", 64);
    let to = listener.local_addr().expect("address");
    let server = thread::spawn(move || {
        for _ in 0..CLIENTS {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.write_all(BUSY.as_bytes()).expect("write");
        }
    });
    let told = clients(Kind::Writes(3), to).into_iter().filter(|got| got.as_deref().is_ok_and(|t| t == BUSY)).count();
    server.join().expect("server");
    assert!(told < CLIENTS, "the clients of this suite cannot lose a message");
}

/// The real client of the protocol: it prints what it was told, and its exit code says that trying again may help.
#[test]
fn rsync_is_told() {
    if Command::new("rsync").arg("--version").output().is_err() {
        return skip("rsync_is_told", "no rsync here");
    }
    let (mut daemon, holder) = full(&["--busy-reply", "rsync"]);
    for run in 0..10 {
        let done = Command::new("timeout")
            .args(["20", "rsync", &format!("rsync://{}/", daemon.addr(0))])
            .output()
            .expect("rsync");
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(said.contains("@ERROR: max connections (1) reached -- try again later"), "run {run}: {said}");
        assert_eq!(done.status.code(), Some(5), "run {run}: {said}");
    }
    drop(holder);
    assert_eq!(daemon.stop().refused, 10);
}

#[test]
fn the_rsync_preset_is_greeting_and_error() {
    let (mut daemon, holder) = full(&["--busy-reply", "rsync"]);
    let mut client = daemon.connect();
    client.write_all(b"@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\nmodule\n").expect("write");
    assert_eq!(to_end(client), "@RSYNCD: 31.0\n@ERROR: max connections (1) reached -- try again later\n");
    drop(holder);
    daemon.stop();
}

#[test]
fn a_text_of_ones_own() {
    let (mut daemon, holder) = full(&["--busy-message", "all {max} taken, {active} active, try in {retry} s"]);
    let said = to_end(daemon.connect());
    assert!(said.starts_with("all 1 taken, 1 active, try in "), "{said:?}");
    assert!(said.ends_with(" s\n") && !said.contains('{'), "{said:?}");
    drop(holder);
    daemon.stop();
}

#[test]
fn no_text_is_still_a_clean_end() {
    let (mut daemon, holder) = full(&["--busy-reply", "none"]);
    for kind in [Kind::Silent, Kind::Writes(1), Kind::Writes(3)] {
        for got in clients(kind, daemon.addr(0)) {
            assert_eq!(got.unwrap_or_else(|e| panic!("{kind:?}: {e}")), "");
        }
    }
    drop(holder);
    daemon.stop();
}

/// Each SSLRequest has an answer of one byte; who asks again and again is heard to the bound, and then told.
#[test]
fn who_asks_without_end_is_answered_within_bounds() {
    let (mut daemon, holder) = full(&["--busy-reply", "postgresql", "--busy-message", "full"]);
    let mut client = daemon.connect();
    let requests = b"\0\0\0\x08\x04\xd2\x16\x2f".repeat(100);
    for round in 0..20 {
        client.write_all(&requests).expect("write");
        let mut said = [0; 100];
        client.read_exact(&mut said).unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!(said, [b'N'; 100]);
    }
    client.write_all(&requests).expect("write");
    let said = to_end(client);
    // 16 KiB are heard.
    assert_eq!(said.find(|c| c != 'N'), Some(2048 - 2000), "{said:?}");
    assert!(said.ends_with("\0Mfull\0\0"), "{said:?}");
    drop(holder);
    daemon.stop();
}

/// Without reading from it, the daemon's descriptor for a refused client is gone after about two seconds.
#[test]
fn a_refused_client_that_never_closes_is_let_go() {
    let (mut daemon, mut holder) = full(&[]);
    let before = daemon.open_fds().len();
    let since = Instant::now();
    let mut stays = daemon.connect();
    let mut said = [0; BUSY.len()];
    stays.read_exact(&mut said).expect("the message");
    assert_eq!(said, BUSY.as_bytes());
    assert!(ready(&stays, HANGUP, FUSE));
    let is_there = daemon.open_fds().len() == before + 1;
    // A machine that was stopped for as long as that proves nothing.
    assert!(is_there || since.elapsed() > Duration::from_millis(1500), "it was not given time to read");

    // meanwhile nobody else is held up
    promptly("five others, beside one that stays", Duration::from_millis(1500), || {
        for _ in 0..5 {
            refused(daemon.connect());
        }
        echoes(&mut holder);
    });

    until("its descriptor given back", || daemon.open_fds().len() == before);
    let held = since.elapsed();
    assert!(held > Duration::from_millis(1500), "held for {held:?}");
    drop((stays, holder));
    daemon.stop();
}

/// Talking does not prolong it: who keeps sending is let go all the same.
#[test]
fn a_refused_client_that_never_stops_talking_is_let_go() {
    let (mut daemon, holder) = full(&[]);
    let since = Instant::now();
    let mut talks = daemon.connect();
    while talks.write_all(b"and another thing\n").is_ok() {
        assert!(since.elapsed() < FUSE, "still listened to");
        // the end of it all shows as an error; until then a word now and then
        ready(&talks, PollFlags::empty(), Duration::from_millis(20));
    }
    let held = since.elapsed();
    assert!(held > Duration::from_millis(1500), "held for {held:?}");
    drop(holder);
    daemon.stop();
}

/// Hundreds of refused clients that stay cost a bounded number of descriptors and hold up nobody.
#[test]
fn a_crowd_that_never_closes_is_bounded() {
    let (mut daemon, mut holder) = full(&[]);
    let before = daemon.open_fds().len();
    let crowd: Vec<TcpStream> = (0..600)
        .map(|_| {
            let mut stream = daemon.connect();
            assert_eq!(line(&mut stream), BUSY.trim_end());
            stream
        })
        .collect();
    echoes(&mut holder);
    holder.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(to_end(&holder), "");
    until("an empty daemon", || daemon.commands().is_empty());
    let mut next = daemon.connect();
    echoes(&mut next);
    until("all descriptors given back", || daemon.open_fds().len() <= before);
    drop((crowd, next));
    assert_eq!(daemon.stop(), Totals { accepted: 602, served: 2, refused: 600, gone: 0, failed: 0 });
    // At most 256 linger; that others were closed plainly, and how many, is told.
    assert_eq!(daemon.count(" refused connections early: more than 256 "), 1, "{:?}", daemon.log());
}

/// A stop does not wait for refused clients that stay.
#[test]
fn a_refused_client_does_not_hold_up_a_stop() {
    let (mut daemon, holder) = full(&["--drain-timeout", "60s"]);
    let mut stays = daemon.connect();
    assert_eq!(line(&mut stays), BUSY.trim_end());
    drop(holder);
    let since = Instant::now();
    daemon.stop();
    assert!(since.elapsed() < Duration::from_secs(30), "the stop took {:?}", since.elapsed());
}
