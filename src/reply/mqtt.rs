//! MQTT: a CONNACK that refuses, in the version of the client's CONNECT.
//!
//! 3.1 and 3.1.1 have return code 3, server unavailable, and no words (MQTT 3.1.1 section 3.2.2.3). 5.0 has
//! reason codes 0x89, server busy, and 0x88, server unavailable, and a Reason String (MQTT 5.0 sections 3.2.2.2
//! and 3.2.2.3.9), unless the packet would be longer than the client allows, so the properties of its CONNECT
//! are read. The rest of a CONNECT, which may be long, is not waited for. Before a CONNECT, a server has
//! nothing to say but to close (section 3.1.4), so silence and garbage get just that.
#![forbid(unsafe_code)]

use super::preset::{Input, Notice, Preset, SpeaksFirst, Step};
use super::reader::{ParseError, Reader};

pub(super) const PRESET: Preset = Preset {
    name: "mqtt",
    about: "CONNACK server busy",
    speaks_first: SpeaksFirst::Client { greeting: b"", answer },
    rejects_text: super::preset::any_line,
};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const REASON_STRING: u8 = 0x1f;

fn answer(input: Input, notice: &Notice, out: &mut Vec<u8>) -> Step {
    let mut reader = Reader(input.bytes);
    let version = version(&mut reader);
    let max_packet = if version == Ok(5) { longest_packet(&mut reader) } else { Ok(0) };
    match (version, max_packet) {
        (Err(ParseError::Incomplete), _) | (_, Err(ParseError::Incomplete)) if !input.is_all => return Step::More,
        (Err(_), _) => {}
        (Ok(5), max_packet) => acknowledge(notice, max_packet.unwrap_or(0), out),
        (Ok(_), _) => out.extend_from_slice(&[CONNACK, 2, 0, 3]),
    }
    Step::Done
}

/// The protocol level that a CONNECT names (section 3.1.2): 3 to 5.
fn version(reader: &mut Reader) -> Result<u8, ParseError> {
    reader.expect(CONNECT)?;
    variable(reader)?;
    let name = match reader.number(2)? {
        size @ (4 | 6) => reader.take(size as usize)?,
        _ => return Err(ParseError::Malformed),
    };
    // Mosquitto's bridges set the highest bit (its `handle_connect.c`).
    let level = reader.byte()? & 0x7f;
    match (name, level) {
        (b"MQIsdp", 3) | (b"MQTT", 4 | 5) => Ok(level),
        _ => Err(ParseError::Malformed),
    }
}

/// Maximum Packet Size among the properties of a CONNECT 5.0 (section 3.1.2.11), which come after flags and keep alive.
fn longest_packet(reader: &mut Reader) -> Result<usize, ParseError> {
    reader.take(3)?;
    let size = variable(reader)?;
    let mut max_packet = usize::MAX;
    let mut properties = Reader(reader.take(size)?);
    while let Ok(property) = properties.byte() {
        let value = match property {
            0x17 | 0x19 => properties.take(1),     // request problem and response information
            0x21 | 0x22 => properties.take(2),     // receive maximum, topic alias maximum
            0x11 => properties.take(4),            // session expiry
            0x15 | 0x16 => field(&mut properties), // authentication
            0x26 => field(&mut properties).and_then(|_| field(&mut properties)), // a user's name and value
            0x27 => properties.number(4).map(|number| {
                max_packet = number as usize;
                &[][..]
            }),
            _ => Err(ParseError::Malformed),
        };
        // They are all there, so an end is an error.
        value.map_err(|_| ParseError::Malformed)?;
    }
    Ok(max_packet)
}

/// Bytes after their number (section 1.5.4).
fn field<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ParseError> {
    let size = reader.number(2)?;
    reader.take(size as usize)
}

/// A number of one to four bytes, lowest seven bits first (section 1.5.5).
fn variable(reader: &mut Reader) -> Result<usize, ParseError> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let byte = reader.byte()?;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(ParseError::Malformed)
}

fn put_variable(mut number: usize, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// CONNACK 5.0 (section 3.2): flags, reason code, properties.
fn acknowledge(notice: &Notice, max_packet: usize, out: &mut Vec<u8>) {
    let text = notice.with_retry_hint();
    let reason = if notice.busy { 0x89 } else { 0x88 };
    let mut body = vec![0, reason];
    put_variable(3 + text.len(), &mut body);
    body.push(REASON_STRING);
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    let mut packet = vec![CONNACK];
    put_variable(body.len(), &mut packet);
    packet.extend(body);
    match packet.len() <= max_packet {
        true => out.extend(packet),
        false => out.extend_from_slice(&[CONNACK, 3, 0, reason, 0]),
    }
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    /// A CONNECT 5.0 with these properties.
    fn connect(properties: &[u8]) -> Vec<u8> {
        let size = properties.len() as u8;
        [&[0x10, 13 + size, 0, 4], &b"MQTT\x05\x02\0\x3c"[..], &[size], properties, b"\0\0"].concat()
    }

    #[test]
    fn lengths_at_their_borders() {
        for (number, bytes) in [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (16_383, &[0xff, 0x7f])] {
            let mut out = Vec::new();
            super::put_variable(number, &mut out);
            assert_eq!(out, bytes, "{number}");
        }
    }

    #[test]
    fn golden() {
        for said in [
            &b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"[..],
            b"\x10\x0e\0\x06MQIsdp\x83",
            b"\x10\x80\x80\x01\0\x04MQTT\x04",
        ] {
            assert_eq!(told("mqtt", Some("full"), said), b"\x20\x02\0\x03", "{said:x?}");
        }
        assert_eq!(told("mqtt", Some("full"), &connect(b"")), b"\x20\x0a\0\x89\x07\x1f\0\x04full");
        let text = b"\x20\x2a\0\x88\x27\x1f\0\x24service unavailable, try again later";
        assert_eq!(unavailable("mqtt", &connect(b"")), text);
        let long = told("mqtt", Some(&"x".repeat(400)), &connect(b""));
        assert_eq!(long[..10], *b"\x20\x97\x03\0\x89\x93\x03\x1f\x01\x90");
        assert_eq!(long.len(), 410);
    }

    #[test]
    fn no_more_than_the_client_allows() {
        let others = b"\x11\0\0\0\x01\x21\0\x01\x22\0\x01\x17\x01\x19\x01\x15\0\x01a\x16\0\0\x26\0\x01a\0\x01b";
        for (most, text) in [(12, &b"\x20\x0a\0\x89\x07\x1f\0\x04full"[..]), (11, b"\x20\x03\0\x89\0")] {
            let said = connect(&[&others[..], b"\x27\0\0\0", &[most]].concat());
            assert_eq!(told("mqtt", Some("full"), &said), text, "at most {most}");
        }
        // 205 bytes of properties: a name of 195 without a value, and the longest packet.
        let head = b"\x10\xdb\x01\0\x04MQTT\x05\x02\0\x3c\xcd\x01\x26\0\xc3";
        let said = [&head[..], &[b'a'; 195], b"\0\0\x27\0\0\0\x0c\0\0"].concat();
        assert_eq!(told("mqtt", Some("full"), &said), b"\x20\x0a\0\x89\x07\x1f\0\x04full");
        assert_eq!(told("mqtt", Some("full"), &said[..100]), b"\x20\x03\0\x89\0", "cut off");
        for bad in [&b"\x27\0"[..], b"\x99", b"\x15\xff\xff", b"\x26\0\0"] {
            assert_eq!(told("mqtt", Some("full"), &connect(bad)), b"\x20\x03\0\x89\0", "{bad:x?}");
        }
    }

    #[test]
    fn silence_and_garbage_are_told_nothing() {
        let all =
            [&b""[..], b"\x10", b"\x10\xff\xff\xff\xff\x01", b"\x10\x0c\0\x04MQTT\x06", b"\x10\x02\xff\xff", b"GET /"];
        for said in all {
            assert_eq!(told("mqtt", None, said), b"", "{said:x?}");
        }
    }
}
