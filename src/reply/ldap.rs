//! LDAP: the response to the first request with result busy (RFC 4511 section 4.1.9), then the Notice of
//! Disconnection (section 4.4.1).
//!
//! Client libraries report a notice alone as if nobody had been there, so the request is read up to the tag
//! that names its operation, and the response carries its message ID. The notice is always unavailable (52):
//! busy (51) is not among its codes. Whoever sends no request that has a response gets the notice alone.
#![forbid(unsafe_code)]

use super::preset::{Input, Notice, Preset, SpeaksFirst, Step};
use super::reader::{ParseError, Reader};

pub(super) const PRESET: Preset = Preset {
    name: "ldap",
    about: "result busy",
    speaks_first: SpeaksFirst::Client { greeting: b"", answer },
    rejects_text: super::preset::any_line,
};

// Tags (ITU-T X.690 section 8.1.2; RFC 4511 section 5.1).
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
const EXTENDED_RESPONSE: u8 = 0x78;
/// `responseName` of an extended response.
const RESPONSE_NAME: u8 = 0x8a;

const BUSY: u8 = 51;
const UNAVAILABLE: u8 = 52;
const NOTICE_OF_DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";

fn answer(input: Input, notice: &Notice, out: &mut Vec<u8>) -> Step {
    let request = request(input.bytes);
    if request == Err(ParseError::Incomplete) && !input.is_all {
        return Step::More;
    }
    let text = notice.with_retry_hint();
    if let Some((id, response)) = request.ok().and_then(|(id, tag)| Some((id, response_to(tag)?))) {
        let code = if notice.busy { BUSY } else { UNAVAILABLE };
        message(id, response, &result(code, &text), out);
    }
    let notice = [result(UNAVAILABLE, &text), element(RESPONSE_NAME, NOTICE_OF_DISCONNECTION)].concat();
    message(&[0], EXTENDED_RESPONSE, &notice, out);
    Step::Done
}

/// The message ID as it was written, and the tag of the operation (section 4.1.1). The rest of the message says nothing
/// that the response would need.
fn request(bytes: &[u8]) -> Result<(&[u8], u8), ParseError> {
    let mut reader = Reader(bytes);
    reader.expect(SEQUENCE)?;
    match reader.byte()? {
        0..=0x7f => {}
        // Long lengths; the form without one is not LDAP (section 5.1).
        size @ 0x81..=0x84 => drop(reader.take(usize::from(size & 0x7f))?),
        _ => return Err(ParseError::Malformed),
    }
    reader.expect(INTEGER)?;
    let size = reader.byte()?;
    if !(1..=4).contains(&size) {
        return Err(ParseError::Malformed);
    }
    let id = reader.take(size.into())?;
    // Neither negative nor 0, which is for notices (section 4.1.1.1).
    if id[0] > 0x7f || id.iter().all(|byte| *byte == 0) {
        return Err(ParseError::Malformed);
    }
    Ok((id, reader.byte()?))
}

/// The tag of the last response to a request with this one; unbind and abandon have none.
fn response_to(request: u8) -> Option<u8> {
    Some(match request {
        0x60 => 0x61,              // bind
        0x63 => 0x65,              // search: SearchResultDone
        0x66 => 0x67,              // modify
        0x68 => 0x69,              // add
        0x4a => 0x6b,              // delete
        0x6c => 0x6d,              // modify DN
        0x6e => 0x6f,              // compare
        0x77 => EXTENDED_RESPONSE, // extended, StartTLS for one
        _ => return None,
    })
}

fn message(id: &[u8], tag: u8, operation: &[u8], out: &mut Vec<u8>) {
    out.extend(element(SEQUENCE, &[element(INTEGER, id), element(tag, operation)].concat()));
}

/// The members of LDAPResult: code, no matched DN, text.
fn result(code: u8, text: &str) -> Vec<u8> {
    [element(ENUMERATED, &[code]), element(OCTET_STRING, b""), element(OCTET_STRING, text.as_bytes())].concat()
}

/// Tag, length, content (ITU-T X.690 section 8.1).
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count().min(3);
    let mut out = vec![tag];
    if content.len() > 0x7f {
        out.push(0x80 | (4 - zeros) as u8);
    }
    out.extend_from_slice(&length[zeros..]);
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::tests::{told, unavailable};

    const NOTICE: &[u8] = b"\x30\x28\x02\x01\0\x78\x23\x0a\x01\x34\x04\0\x04\x04full\x8a\x161.3.6.1.4.1.1466.20036";

    #[test]
    fn golden() {
        // A simple bind without name and password, message 7.
        let bind = b"\x30\x0c\x02\x01\x07\x60\x07\x02\x01\x03\x04\0\x80\0";
        let response = b"\x30\x10\x02\x01\x07\x61\x0b\x0a\x01\x33\x04\0\x04\x04full";
        assert_eq!(told("ldap", Some("full"), bind), [response, NOTICE].concat());
        let text = b"service unavailable, try again later";
        assert_eq!(unavailable("ldap", bind)[..12], *b"\x30\x30\x02\x01\x07\x61\x2b\x0a\x01\x34\x04\0");
        assert_eq!(unavailable("ldap", bind)[14..50], *text);
    }

    #[test]
    fn each_request_has_its_response() {
        let pairs = b"\x60\x61\x63\x65\x66\x67\x68\x69\x4a\x6b\x6c\x6d\x6e\x6f\x77\x78";
        for pair in pairs.chunks(2) {
            // A long length and a long ID; what comes after the tag is not waited for.
            let request = [b"\x30\x84\0\0\x01\0\x02\x04\x7f\xff\xff\xff", &pair[..1]].concat();
            let response =
                [b"\x30\x13\x02\x04\x7f\xff\xff\xff", &pair[1..], b"\x0b\x0a\x01\x33\x04\0\x04\x04full"].concat();
            assert_eq!(told("ldap", Some("full"), &request), [&response, NOTICE].concat(), "{pair:x?}");
        }
    }

    #[test]
    fn long_lengths() {
        for (length, head) in [(127, &b"\x04\x7f"[..]), (128, b"\x04\x81\x80"), (256, b"\x04\x82\x01\0")] {
            let element = element(OCTET_STRING, &vec![b'x'; length]);
            assert_eq!((&element[..head.len()], element.len()), (head, head.len() + length));
        }
    }

    #[test]
    fn whatever_else_gets_the_notice() {
        let all = [
            &b""[..],
            b"\x30",                             // cut off
            b"\x30\x05\x02\x01\x01\x42\0",       // unbind
            b"\x30\x06\x02\x01\x02\x50\x01\x01", // abandon
            b"\x30\x80\x02\x01\x01\x60",         // indefinite length
            b"\x30\x85\0\0\0\0\x05\x02\x01\x01\x60",
            b"\x30\x05\x02\x00\x60",
            b"\x30\x05\x02\xff\x01\x60",
            b"\x30\x05\x02\x01\x00\x60", // the ID of notices
            b"\x30\x05\x02\x01\x80\x60", // a negative ID
            b"\x16\x03\x01\0\x05",
        ];
        for said in all {
            assert_eq!(told("ldap", Some("full"), said), NOTICE, "{said:x?}");
        }
    }
}
