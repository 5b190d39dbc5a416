//! PROXY headers, by which a proxy says whom it speaks for; and the names under which an earlier daemon has stored its clients.
#![forbid(unsafe_code)]

use super::accept::Connection;
use super::adopt::{AWAITED, HEADED, HELD, Preamble, named, stored};
use super::preamble::{News, Preambles};
use super::proxy::{Flaw, Header, parse};
use crate::fuzzing::bytes::{Choices, is_plain_line, pieces};
use crate::peer::Peer;
use crate::policy::grounds::HeaderFault;
use crate::poll::Poll;
use crate::sys::client_fd::ClientFd;
use crate::sys::socket::Address;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// `PIECES BYTES`: what a client sends, a header perhaps, in such pieces.
pub(crate) fn proxy(data: &[u8]) {
    let mut from = Choices(data);
    let (how, bytes) = (from.byte(), from.0);
    let said = parse(bytes);
    is_known_as_soon_as_it_can_be(bytes, &said);
    if let Ok(Some(Header { ends: Some((from, to)), .. })) = &said {
        for address in [from, to] {
            let peer = Peer::new(address.clone(), None);
            assert!(is_plain_line(&peer.to_string()), "{peer:?}");
        }
        is_read_again(from, to);
    }
    if how % 4 == 3 {
        is_taken_off_a_connection(bytes, how / 4, &said); // which takes its time
    }
}

/// More bytes change nothing of what is known, and nothing is known before the last byte of a header.
fn is_known_as_soon_as_it_can_be(bytes: &[u8], said: &Result<Option<Header>, Flaw>) {
    let end = match said {
        Ok(Some(header)) => {
            assert!((1..=bytes.len()).contains(&header.length), "{} of {}", header.length, bytes.len());
            header.length
        }
        _ => bytes.len(),
    };
    let mut is_wrong = false;
    // All of a line; of what is longer enough to see where it ends.
    for length in (0..end).filter(|length| *length < 300 || length % 97 == 0 || end - length < 5) {
        let known = parse(&bytes[..length]);
        is_wrong |= known.is_err();
        match is_wrong {
            true => assert_eq!(known.as_ref(), said.as_ref(), "after {length} bytes"),
            false => assert_eq!(known, Ok(None), "after {length} bytes"),
        }
    }
    let more = [bytes, b"PROXY\r\n\r\n\0"].concat();
    if *said != Ok(None) {
        assert_eq!(parse(&more), *said, "more bytes make another header of it");
        assert_eq!(parse(&bytes[..end]), *said);
    }
}

/// A proxy that writes these addresses is understood.
fn is_read_again(from: &Address, to: &Address) {
    let (Address::Ip(from), Address::Ip(to)) = (from, to) else { return };
    let line = |family, from: IpAddr, to: IpAddr, ports: (u16, u16)| {
        format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
    };
    let ports = (from.port(), to.port());
    let mapped = |at: &SocketAddr| match at.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let octets = [mapped(from).octets(), mapped(to).octets()].concat();
    let ends = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes()].concat();
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"[..], &octets, &ends].concat();
    let v1 = match (from.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => line("TCP4", from.ip(), to.ip(), ports),
        _ => line("TCP6", mapped(from).into(), mapped(to).into(), ports),
    };
    for header in [v1, v2] {
        let ends = Some((Address::Ip(*from), Address::Ip(*to)));
        assert_eq!(parse(&header), Ok(Some(Header { length: header.len(), ends })), "{}", header.escape_ascii());
    }
}

/// Of one byte each, which is what a socket's queue has room for by default.
const MOST_PIECES: usize = 200;

/// On a connection it means the same, however it comes; and what follows it is the client's own, all of it.
fn is_taken_off_a_connection(bytes: &[u8], how: u8, said: &Result<Option<Header>, Flaw>) {
    thread_local!(static POLL: Poll = Poll::new().unwrap());
    POLL.with(|poll| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::restored(ClientFd::new(ours.into(), false), 0, 0).unwrap();
        let (mut preambles, now) = (Preambles::new(true, Vec::new()), Instant::now());
        preambles.arrive(now, 7, connection, poll);
        let mut rest = bytes;
        for piece in pieces(bytes, how).into_iter().take(MOST_PIECES) {
            rest = &rest[piece.len()..];
            theirs.write_all(piece).unwrap();
            preambles.ready(now, 7, poll);
        }
        theirs.write_all(rest).unwrap();
        preambles.ready(now, 7, poll);
        theirs.shutdown(Shutdown::Write).unwrap();
        preambles.ready(now, 7, poll);
        let news = preambles.next_news().unwrap();
        assert!(preambles.is_empty() && preambles.next_news().is_none());
        match (news, said) {
            (News::Ready(7, mut connection), Ok(Some(header))) => {
                match &header.ends {
                    Some((from, _)) => assert_eq!(connection.peer, Peer::new(from.clone(), None)),
                    None => assert_eq!(connection.peer.address, Address::Unix(None)),
                }
                connection.take_header().unwrap();
                let mut rest = Vec::new();
                let mut socket =
                    UnixStream::from(std::os::fd::AsFd::as_fd(&connection.fd).try_clone_to_owned().unwrap());
                socket.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, bytes[header.length..]);
            }
            (News::Faulty(_, HeaderFault::Broken(told)), Err(flaw)) => assert_eq!(told, *flaw),
            (News::Faulty(_, HeaderFault::Closed), Ok(None)) => {}
            (news, said) => panic!("{said:?} is taken for {news:?}"),
        }
    });
}

/// `COUNT NEWLINE NAMES`: LISTEN_FDS and LISTEN_FDNAMES, the names of stored clients among them.
pub(crate) fn passed(data: &[u8]) {
    let mut from = Choices(data);
    let count = String::from_utf8_lossy(from.until(b'\n'));
    let names = String::from_utf8_lossy(from.0);
    match named(&count, &names) {
        Ok(all) => {
            assert!(all.len() <= 65_536 && all.iter().zip(3..).all(|((fd, _), nth)| *fd == nth));
            assert!(all.iter().all(|(_, name)| !name.is_empty() && !name.contains(':')));
            let known = names.split(':').zip(&all).filter(|(name, _)| !name.is_empty());
            known.for_each(|(name, (_, taken))| assert_eq!(name, taken));
        }
        Err(line) => assert!(line.contains("LISTEN_FDS")),
    }
    for name in names.split(':') {
        let Some((ticket, waited, listener, preamble)) = stored(name) else { continue };
        let suffix = match preamble {
            Preamble::None => "",
            Preamble::Whole => HEADED,
            Preamble::Awaited => AWAITED,
        };
        assert_eq!(format!("{HELD}{ticket}-{waited}-{listener}{suffix}"), name, "two names of one client");
        assert!(ticket <= 1 << 53, "no daemon has had so many clients");
    }
}
