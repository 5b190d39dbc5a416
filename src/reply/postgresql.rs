//! PostgreSQL: "no" to encryption, then an ErrorResponse to the startup packet (manual, chapter
//! "Frontend/Backend Protocol", sections "Message Flow: Start-up" and "Message Formats").
//!
//! An error as the answer to SSLRequest or GSSENCRequest is not shown to the user, since it might be forged;
//! after an `N` the client sends its startup packet in the clear, and libpq shows the answer to that. A client
//! that insists on encryption says so itself, or begins with a TLS record and gets an alert. Who cancels a
//! query expects no answer. 53300 (too_many_connections) and its words are the server's own for a full house; a
//! command that cannot be started is 57P03 (cannot_connect_now), which clients take for a server that is still
//! starting.
#![forbid(unsafe_code)]

use super::preset::{Input, Notice, Preset, SpeaksFirst, Step};
use super::reader::{ParseError, Reader};
use super::tls;

pub(super) const PRESET: Preset = Preset {
    name: "postgresql",
    about: "FATAL 53300",
    speaks_first: SpeaksFirst::Client { greeting: b"", answer },
    rejects_text: super::preset::any_line,
};

const CANCEL: u32 = 80877102;
const SSL: u32 = 80877103;
const GSSENC: u32 = 80877104;
/// Bytes of an SSLRequest and of a GSSENCRequest.
const REQUEST: usize = 8;
/// A startup packet with its length: MAX_STARTUP_PACKET_LENGTH of the server's `pqcomm.h`, which does not count that.
const MAX_STARTUP_PACKET: usize = 10_000 + 4;

fn answer(input: Input, notice: &Notice, out: &mut Vec<u8>) -> Step {
    let mut taken = 0;
    loop {
        match packet(&input.bytes[taken..]) {
            Ok((REQUEST, SSL | GSSENC)) => {
                out.push(b'N');
                taken += REQUEST;
            }
            Ok((_, CANCEL)) => return Step::Done,
            Err(ParseError::Incomplete) if !input.is_all => {
                return if taken > 0 { Step::Next(taken) } else { Step::More };
            }
            // What is not the protocol, or no whole packet, gets the answer too: it costs nothing.
            _ => break,
        }
    }
    match input.bytes.get(taken) {
        Some(&tls::HANDSHAKE) => out.extend_from_slice(&tls::ALERT),
        _ => error(notice, out),
    }
    Step::Done
}

/// The length and the code of a packet that is there as a whole.
fn packet(bytes: &[u8]) -> Result<(usize, u32), ParseError> {
    let mut reader = Reader(bytes);
    // With this first byte, a packet would have 352 MiB.
    if bytes.first() == Some(&tls::HANDSHAKE) {
        return Err(ParseError::Malformed);
    }
    let length = reader.number(4)? as usize;
    if !(REQUEST..=MAX_STARTUP_PACKET).contains(&length) {
        return Err(ParseError::Malformed);
    }
    let code = reader.number(4)?;
    reader.take(length - REQUEST)?;
    Ok((length, code))
}

fn error(notice: &Notice, out: &mut Vec<u8>) {
    let code = if notice.busy { "53300" } else { "57P03" };
    let text = notice.or_servers_own("sorry, too many clients already");
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0");
    out.push(b'E');
    out.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(fields.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::tests::{told, unavailable};

    const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
    const BUSY: &[u8] = b"E\0\0\0\x3bSFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0";
    const WANTS_SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const WANTS_GSSENC: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

    #[test]
    fn golden() {
        assert_eq!(told("postgresql", None, STARTUP), BUSY);
        let full = b"E\0\0\0\x20SFATAL\0VFATAL\0C53300\0Mfull\0\0";
        assert_eq!(told("postgresql", Some("full"), STARTUP), full);
        let unready = b"E\0\0\0\x2fSFATAL\0VFATAL\0C57P03\0Mservice unavailable\0\0";
        assert_eq!(unavailable("postgresql", STARTUP), unready);
    }

    #[test]
    fn no_to_encryption_comes_first() {
        let said = [WANTS_GSSENC, WANTS_SSL, STARTUP].concat();
        assert_eq!(told("postgresql", None, &said), [b"NN", BUSY].concat());
        let notice = Notice { text: "", chosen: false, max: 1, retry: 10, busy: true, host: "" };
        let (mut some, mut all) = (Vec::new(), Vec::new());
        assert_eq!(answer(Input { bytes: WANTS_SSL, is_all: false }, &notice, &mut some), Step::Next(8));
        assert_eq!(some, b"N");
        assert_eq!(answer(Input { bytes: &said, is_all: true }, &notice, &mut all), Step::Done);
        assert_eq!(all, [b"NN", BUSY].concat());
    }

    #[test]
    fn the_whole_startup_packet_is_heard_first() {
        let notice = Notice { text: "", chosen: false, max: 1, retry: 10, busy: true, host: "" };
        let mut out = Vec::new();
        for heard in 0..STARTUP.len() {
            let input = Input { bytes: &STARTUP[..heard], is_all: false };
            assert_eq!(answer(input, &notice, &mut out), Step::More, "{input:?}");
        }
        assert_eq!(out, b"");
    }

    #[test]
    fn who_cancels_is_told_nothing_and_tls_an_alert() {
        assert_eq!(told("postgresql", None, b"\0\0\0\x10\x04\xd2\x16\x2epid.key."), b"");
        assert_eq!(told("postgresql", None, b"\x16\x03\x01"), tls::ALERT);
        assert_eq!(told("postgresql", None, &[WANTS_SSL, b"\x16"].concat()), [b"N", &tls::ALERT[..]].concat());
    }

    #[test]
    fn silence_and_garbage_are_told_too() {
        for said in [
            &b""[..],
            b"\0\0",
            b"\0\0\0\x07\0\x03\0\0",
            b"\0\0\x27\x15\0\x03\0\0",
            b"\xff\xff\xff\xff",
            b"GET / HTTP/1.1",
        ] {
            assert_eq!(told("postgresql", None, said), BUSY, "{said:?}");
        }
    }
}
