//! A refusal takes a bounded time, a bounded number of descriptors and nobody else's turn, and ends with the whole reply:
//! also where the client has to speak first and does not, where it hardly reads, and where the reply is a long file.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};
use sockcap::reply::{MAX_FILE, PRESETS};

/// Time for a client to speak, and again as much to leave; and what a busy machine may add to both.
const PATIENCE: Duration = Duration::from_secs(2);
/// Less than that.
const AT_ONCE: Duration = Duration::from_millis(1500);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(20);
/// Refusals that linger at once.
const MOST: usize = 256;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: host.example\r\n\r\n";

/// A daemon with one slot, and the client that has it.
fn full(args: &[&str]) -> (Daemon, TcpStream) {
    let listener = tcp_listener("127.0.0.1:0", 1024);
    full_on(listener, args)
}

fn full_on(listener: TcpListener, args: &[&str]) -> (Daemon, TcpStream) {
    let mut all = vec!["--max-connections", "1"];
    all.extend(args);
    let to = listener.local_addr().expect("address");
    let daemon = sockcap(&all).pass(listener).start();
    let mut holder = connect(to);
    echoes(&mut holder);
    (daemon, holder)
}

/// The answer in HTTP, whole and with a clean end.
#[track_caller]
fn is_503(text: &str) {
    assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\nserver at capacity\n"), "{text:?}");
}

/// A client that does as it should is answered at once, whatever others do.
#[track_caller]
fn is_answered_at_once(daemon: &Daemon) {
    promptly("an answer, whoever else is there", AT_ONCE, || {
        let mut client = daemon.connect();
        client.write_all(REQUEST).expect("write");
        is_503(&to_end(client));
    });
}

#[track_caller]
fn took_its_patience(since: Instant) {
    let took = since.elapsed();
    assert!(took > PATIENCE - Duration::from_millis(500) && took < PATIENCE + SLACK, "it took {took:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// clients that should speak first

/// Whatever the protocol: nobody is kept for longer than he may take to speak and then to leave.
#[test]
fn a_client_that_says_nothing() {
    thread::scope(|s| {
        for preset in &PRESETS {
            s.spawn(|| {
                let (mut daemon, mut holder) = full(&["--busy-reply", preset.name]);
                let before = daemon.open_fds().len();
                let since = Instant::now();
                let mut silent = daemon.connect();
                let mut all = Vec::new();
                silent.read_to_end(&mut all).unwrap_or_else(|e| panic!("{}: no clean end: {e}", preset.name));
                assert!(since.elapsed() < PATIENCE + SLACK, "{}: {:?}", preset.name, since.elapsed());
                // and it does not close either
                until("its descriptor given back", || daemon.open_fds().len() == before);
                assert!(since.elapsed() < 2 * PATIENCE + SLACK, "{}: {:?}", preset.name, since.elapsed());
                echoes(&mut holder);
                drop((silent, holder));
                assert_eq!(daemon.stop().refused, 1);
            });
        }
    });
}

#[test]
fn a_client_that_says_nothing_is_answered_in_the_end() {
    let (mut daemon, mut holder) = full(&["--busy-reply", "http"]);
    let since = Instant::now();
    let silent = daemon.connect();
    is_answered_at_once(&daemon);
    echoes(&mut holder);
    let is_answered = ready(&silent, PollFlags::POLLIN, Duration::ZERO);
    assert!(!is_answered || since.elapsed() > AT_ONCE, "answered before it was heard");
    is_503(&to_end(silent));
    took_its_patience(since);
    drop(holder);
    daemon.stop();
}

#[test]
fn a_client_that_says_a_byte_a_second() {
    unless_stalled(PATIENCE, || {
        let (mut daemon, mut holder) = full(&["--busy-reply", "http"]);
        let since = Instant::now();
        let mut drips = daemon.connect();
        for byte in REQUEST {
            drips.write_all(&[*byte]).expect("write");
            if ready(&drips, PollFlags::POLLIN, Duration::from_secs(1)) {
                break;
            }
            is_answered_at_once(&daemon);
            echoes(&mut holder);
        }
        took_its_patience(since);
        is_503(&to_end(drips));
        drop(holder);
        daemon.stop();
    });
}

/// Neither a request that never ends nor one that has been answered already is listened to for ever.
#[test]
fn a_client_that_never_stops_talking() {
    for words in [&b"no line at all "[..], b"GET / HTTP/1.1\r\nX: y\r\n", REQUEST] {
        let (mut daemon, mut holder) = full(&["--busy-reply", "http"]);
        promptly("an answer before its end, and an end", PATIENCE + AT_ONCE, || {
            let since = Instant::now();
            let talks = daemon.connect();
            thread::scope(|s| {
                let mouth = s.spawn(|| {
                    let much = words.repeat(100);
                    while (&talks).write_all(&much).is_ok() {
                        assert!(since.elapsed() < FUSE, "still listened to");
                    }
                });
                assert!(ready(&talks, PollFlags::POLLIN, FUSE));
                assert!(!mouth.is_finished() || since.elapsed() > AT_ONCE, "not answered before it had ended");
                is_answered_at_once(&daemon);
                echoes(&mut holder);
                mouth.join().expect("an end");
            });
            // What had arrived before its writes failed is still there to be read.
            let mut text = Vec::new();
            let _ = (&talks).read_to_end(&mut text);
            is_503(&String::from_utf8_lossy(&text));
        });
        drop(holder);
        daemon.stop();
    }
}

/// It is answered after its headers, and must still be able to send all of its body: a reset would cost it the answer.
#[test]
fn a_client_that_sends_a_long_body_before_it_reads() {
    unless_stalled(PATIENCE, || {
        let (mut daemon, mut holder) = full(&["--busy-reply", "http"]);
        for nth in 0..10 {
            let mut client = daemon.connect();
            client.write_all(b"PUT /x HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n").expect("write");
            assert!(ready(&client, PollFlags::POLLIN, FUSE));
            for part in [&[b'x'; 10][..], &[b'x'; 3_999_990]] {
                client.write_all(part).unwrap_or_else(|e| panic!("client {nth} gives up: {e}"));
            }
            is_503(&to_end(client));
        }
        echoes(&mut holder);
        drop(holder);
        assert_eq!(daemon.stop().refused, 10);
    });
}

/// A client that has shut its side down before it reads has said its last word, and gets its answer at once.
#[test]
fn a_client_that_half_closes_at_once() {
    for preset in &PRESETS {
        let (mut daemon, holder) = full(&["--busy-reply", preset.name]);
        let mut asked = 0;
        promptly(preset.name, AT_ONCE, || {
            for _ in 0..5 {
                let mut client = daemon.connect();
                client.shutdown(Shutdown::Write).expect("shutdown");
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap_or_else(|e| panic!("{}: no clean end: {e}", preset.name));
                // Before a CONNECT, MQTT has no words but the end (MQTT 3.1.1 section 3.1.4).
                let has_words = !["none", "mqtt"].contains(&preset.name);
                assert_eq!(!all.is_empty(), has_words, "{}: {}", preset.name, String::from_utf8_lossy(&all));
                asked += 1;
            }
        });
        drop(holder);
        assert_eq!(daemon.stop().refused, asked);
    }
    let (mut daemon, holder) = full(&["--busy-reply", "http"]);
    for part in [0, 1, 20, REQUEST.len()] {
        let mut client = daemon.connect();
        client.write_all(&REQUEST[..part]).expect("write");
        client.shutdown(Shutdown::Write).expect("shutdown");
        is_503(&to_end(client));
    }
    drop(holder);
    daemon.stop();
}

/// Reads until these bytes have come.
#[track_caller]
fn comes(mut stream: &TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap_or_else(|e| panic!("{e} instead of {expected:x?}"));
    assert_eq!(got, expected, "{}", String::from_utf8_lossy(&got));
}

/// Conversations of several turns, each byte in a packet of its own: the next turn is heard after the answer to the last.
#[test]
fn a_client_that_talks_in_turns() {
    let startup = b"\0\0\0\x15\0\x03\0\0user\0somebody\0\0";
    let startup = [&(startup.len() as u32).to_be_bytes()[..], &startup[4..]].concat();
    let fatal = b"SFATAL\0VFATAL\0C53300\0Mfull\0\0";
    let fatal = [b"E", &(fatal.len() as u32 + 4).to_be_bytes()[..], fatal].concat();
    let reason = b"\0\0\0\0\x04full";
    type Turn<'a> = (&'a [u8], &'a [u8]);
    let conversations: [(&str, &[Turn]); 3] = [
        (
            "postgresql",
            &[
                (b"\0\0\0\x08\x04\xd2\x16\x30", b"N"), // GSSENCRequest
                (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"), // SSLRequest
                (&startup, &fatal),
            ],
        ),
        ("vnc", &[(b"", b"RFB 003.008\n"), (b"RFB 003.008\n", reason)]),
        ("vnc", &[(b"", b"RFB 003.008\n"), (b"RFB 003.003\n", b"\0\0\0\0\0\0\0\x04full")]),
    ];
    for (preset, turns) in conversations {
        let (mut daemon, holder) = full(&["--busy-reply", preset, "--busy-message", "full"]);
        promptly(preset, AT_ONCE, || {
            let mut client = daemon.connect();
            client.set_nodelay(true).expect("TCP_NODELAY");
            for (said, answer) in turns {
                for byte in *said {
                    client.write_all(&[*byte]).expect("write");
                }
                comes(&client, answer);
            }
            assert_eq!(to_end(&client), "");
        });
        drop(holder);
        daemon.stop();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// the bytes of a file

/// All bytes there are, none like its neighbours, so that a lost or doubled part shows.
fn long_file() -> Vec<u8> {
    (0..MAX_FILE).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A client whose window is as small as the kernel allows.
fn narrow(to: SocketAddr) -> TcpStream {
    let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
    socket::setsockopt(&fd, sockopt::RcvBuf, &1).expect("SO_RCVBUF");
    socket::connect(fd.as_raw_fd(), &socket::SockaddrStorage::from(to)).expect("connect");
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(FUSE)).expect("timeout");
    stream
}

/// Reads 1 KiB whenever something is there.
fn sip(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        assert!(ready(&stream, PollFlags::POLLIN, FUSE), "nothing more after {} bytes", all.len());
        let mut part = [0; 1024];
        match uninterrupted(|| stream.read(&mut part)).unwrap_or_else(|e| panic!("{e} after {} bytes", all.len())) {
            0 => return all,
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

/// With the buffers that there are the whole file leaves in one call; with a small one it leaves in many.
#[test]
fn a_long_file_to_a_slow_reader() {
    let dir = TempDir::new();
    let expected = long_file();
    fs::write(dir.join("reply"), &expected).expect("write");
    for buffer in [None, Some(4096)] {
        let listener = tcp_listener("127.0.0.1:0", 64);
        if let Some(bytes) = buffer {
            // a connection inherits it
            socket::setsockopt(&listener, sockopt::SndBuf, &bytes).expect("SO_SNDBUF");
        }
        let (mut daemon, mut holder) = full_on(listener, &["--busy-reply", &format!("file:{}", dir.join("reply"))]);
        let to = daemon.addr(0);
        for kind in ["wide", "narrow"] {
            for ends_first in [false, true] {
                let client = if kind == "wide" { connect(to) } else { narrow(to) };
                if ends_first {
                    client.shutdown(Shutdown::Write).expect("shutdown");
                }
                let got = sip(client);
                let what = format!("send buffer {buffer:?}, {kind}, ends first: {ends_first}");
                assert_eq!(got.len(), expected.len(), "{what}");
                assert!(got == expected, "not the bytes of the file: {what}");
            }
        }
        echoes(&mut holder);
        drop(holder);
        assert_eq!(daemon.stop().refused, 4);
    }
}

/// The file is read once, at the start: what happens to it later changes nothing.
#[test]
fn a_file_that_is_gone() {
    let dir = TempDir::new();
    fs::write(dir.join("reply"), "come back {max}\r\n\0").expect("write");
    let (mut daemon, holder) = full(&["--busy-reply", &format!("file:{}", dir.join("reply"))]);
    fs::remove_file(dir.join("reply")).expect("remove");
    assert_eq!(to_end(daemon.connect()), "come back {max}\r\n\0");
    drop(holder);
    daemon.stop();
}

#[test]
fn a_file_that_is_no_reply() {
    let dir = TempDir::new();
    let mistake = |path: &str| {
        let option = format!("--busy-reply=file:{path}");
        for check in [&["--listen", "127.0.0.1:0"][..], &["--listen", "127.0.0.1:0", "--check"]] {
            let line = sockcap(&[check, &[option.as_str()]].concat()).output().mistake();
            assert!(line.contains("--busy-reply") && line.contains(path), "{line}");
        }
    };
    fs::write(dir.join("long"), vec![b'x'; MAX_FILE + 1]).expect("write");
    mistake(&dir.join("long"));
    mistake(&dir.join("missing"));
    mistake(dir.path().to_str().expect("a path"));
    mistake("/dev/zero");
    // nobody will ever write into it
    nix::unistd::mkfifo(dir.join("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    mistake(&dir.join("fifo"));

    fs::write(dir.join("longest"), vec![b'x'; MAX_FILE]).expect("write");
    let longest = format!("file:{}", dir.join("longest"));
    let checked = sockcap(&["--listen", "127.0.0.1:0", "--check", "--busy-reply", &longest]).output();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// texts

#[test]
fn texts_that_break_the_protocol() {
    let long = "x".repeat(401);
    for preset in &PRESETS {
        for bad in ["come\rback", "come\nback", "come back\r\n", "revenez \u{e0} midi", "\x1b[2J", &long] {
            let args = ["--listen", "127.0.0.1:0", "--busy-reply", preset.name, "--busy-message", bad];
            let line = sockcap(&args).output().mistake();
            assert!(line.contains("--busy-message"), "{}, {bad:?}: {line}", preset.name);
        }
    }
    // a client would take it for the version of the protocol
    let args = ["--listen", "127.0.0.1:0", "--busy-reply", "ssh", "--busy-message", "SSH-x"];
    let line = sockcap(&args).output().mistake();
    assert!(line.contains("SSH-x"), "{line}");
}

// ---------------------------------------------------------------------------------------------------------------------
// crowds

/// Of whom nobody holds the other end any more: then a byte sent to it comes back as a reset. Over the loopback that has happened
/// when all have sent theirs.
fn let_go(crowd: &[TcpStream]) -> Vec<bool> {
    let failed: Vec<bool> = crowd.iter().map(|mut client| client.write_all(b"x").is_err()).collect();
    let was_reset = |client: &TcpStream| client.take_error().expect("SO_ERROR").is_some();
    crowd.iter().zip(failed).map(|(client, failed)| failed || was_reset(client)).collect()
}

/// More than may linger, which neither read nor close: the oldest make room, and no one goes without an answer.
#[test]
fn a_crowd_makes_room_oldest_first() {
    const CROWD: usize = 300;
    let (mut daemon, mut holder) = full(&[]);
    let before = daemon.open_fds().len();
    let mut crowd = Vec::new();
    for nth in 0..CROWD {
        let client = daemon.connect();
        // all of it: after its bytes comes its end
        assert!(ready(&client, HANGUP, FUSE), "no answer for {nth}");
        crowd.push(client);
        let held = daemon.open_fds().len() - before;
        assert!(held <= MOST + 1, "{held} descriptors for {} who were refused", nth + 1);
        if nth == CROWD / 2 {
            // The slot changes hands in their midst.
            holder.shutdown(Shutdown::Write).expect("shutdown");
            assert_eq!(to_end(&holder), "");
            until("an empty daemon", || daemon.commands().is_empty());
            holder = daemon.connect();
            echoes(&mut holder);
        }
    }
    // The last one's end is sent before the oldest makes room for it.
    until("room for the last one", || daemon.open_fds().len() - before <= MOST);
    // It is stopped, so that its patience cannot run out while we look.
    daemon.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", daemon.pid());
    until("stopped", || fs::read_to_string(&stat).is_ok_and(|s| s.contains(") T ")));
    for client in &crowd {
        assert_eq!(to_end(client), BUSY);
    }
    let let_go = let_go(&crowd);
    let gone = let_go.iter().filter(|gone| **gone).count();
    assert!(gone >= CROWD - MOST, "only {gone} were let go");
    assert!(let_go.iter().take(gone).all(|gone| *gone), "not the oldest first: {let_go:?}");
    daemon.signal(Signal::SIGCONT);
    echoes(&mut holder);
    drop((crowd, holder));
    assert_eq!(daemon.stop(), Totals { accepted: 302, served: 2, refused: 300, gone: 0, failed: 0 });
}

/// The same where the client should speak first: who has to make room is told at that moment, the others in time.
#[test]
fn a_crowd_that_says_nothing_is_answered_all_the_same() {
    const CROWD: usize = 300;
    let (mut daemon, mut holder) = full(&["--busy-reply", "http"]);
    let before = daemon.open_fds().len();
    let mut crowds = 0;
    let crowd = promptly("room for a crowd, before anybody's time is over", AT_ONCE, || {
        until("nobody of an earlier crowd", || daemon.open_fds().len() == before);
        crowds += 1;
        let crowd: Vec<TcpStream> = (0..CROWD).map(|_| daemon.connect()).collect();
        for client in &crowd[..CROWD - MOST] {
            assert!(ready(client, PollFlags::POLLIN, FUSE));
        }
        assert!(daemon.open_fds().len() - before <= MOST + 1);
        crowd
    });
    let since = Instant::now();
    for client in crowd {
        is_503(&to_end(client));
    }
    assert!(since.elapsed() < PATIENCE + SLACK);
    echoes(&mut holder);
    until("all descriptors given back", || daemon.open_fds().len() == before);
    drop(holder);
    assert_eq!(daemon.stop().refused, crowds * CROWD as u64);
}
