//! Every preset, whatever its client says, and whatever the administrator has it say.
#![forbid(unsafe_code)]

use super::reader::Reader;
use super::*;
use crate::fuzzing::bytes::{Choices, pieces};

/// Longer than any reply but that of a file, beside what answers requests for encryption.
const LONGEST: usize = 1024;

/// `PRESET MANNER PIECES TEXT NEWLINE WORDS`: MANNER has a bit each for a text of the administrator's, a command that could not be
/// started, a limit without a number and a time after which to come back.
pub(crate) fn reply(data: &[u8]) {
    let mut from = Choices(data);
    let (preset, manner, how) = (from.one_of(&PRESETS), from.byte(), from.byte());
    let text = if manner & 1 == 0 { None } else { Some(from.until(b'\n')) };
    let said = from.0;
    let message = match text.map(|text| String::from_utf8_lossy(text).parse::<Message>()) {
        None => Message::default(),
        Some(Ok(message)) => message,
        Some(Err(_)) => return,
    };
    let choice = Choice::Preset(preset);
    if choice.check(&message).is_err() {
        return;
    }
    let mut replies = Replies::new(choice, message, "host.example");
    let max = if manner & 4 == 0 { u32::MAX } else { 0 };
    let retry = (manner & 8 != 0).then(|| Duration::from_millis(u64::from(manner) << (manner >> 3)));
    let reply = if manner & 2 == 0 { replies.busy(max, max, retry) } else { replies.unavailable() };
    let (whole, encryptions) = told(&reply, &[said]);
    for how in [1, how] {
        assert_eq!(told(&reply, &pieces(said, how)).0, whole, "in other pieces ({how}) another answer");
    }
    assert!(whole.len() <= LONGEST + encryptions, "{} bytes", whole.len());
    judge(preset.name, said, &whole);
}

/// What a client gets that says these parts one after the other, and then no more; and how much of it came before the last word.
fn told(reply: &Reply, parts: &[&[u8]]) -> (Vec<u8>, usize) {
    let (mut out, mut rest) = (reply.opening().to_vec(), Vec::new());
    let (mut parts, mut before) = (parts.iter(), 0);
    while reply.hears() {
        let part = parts.next();
        rest.extend_from_slice(part.copied().unwrap_or_default());
        loop {
            let length = out.len();
            match reply.answer(Input { bytes: &rest, is_all: part.is_none() }, &mut out) {
                Step::Done => {
                    // What was asked for in the last piece is answered together with the last word.
                    let first = out[length..].iter().take_while(|byte| **byte == b'N').count();
                    return (out, before + first);
                }
                Step::Next(taken) => {
                    assert!((1..=rest.len()).contains(&taken), "{taken} of {}", rest.len());
                    before += out.len() - length;
                    drop(rest.drain(..taken));
                }
                Step::More => {
                    assert_eq!(out.len(), length, "something is said, and heard again");
                    break;
                }
            }
        }
        assert!(part.is_some(), "the last word is not said");
    }
    (out, before)
}

/// Whether the client's own software can read it: in most protocols that is one line, and nothing of a second.
fn judge(preset: &str, said: &[u8], out: &[u8]) {
    let shown = out.escape_ascii();
    match preset {
        "none" => assert!(out.is_empty()),
        "text" => assert_line(out, b"\n"),
        "rsync" => assert_line(out.strip_prefix(b"@RSYNCD: 31.0\n").unwrap(), b"\n"),
        "git" => {
            assert_eq!(usize::from_str_radix(std::str::from_utf8(&out[..4]).unwrap(), 16), Ok(out.len()), "{shown}");
            assert_line(&out[4..], b"\n");
        }
        "http" => assert_http(said, out),
        "tls" => assert_eq!(out, tls::ALERT),
        "mysql" => assert_eq!(out[..4], (out.len() as u32 - 4).to_le_bytes(), "{shown}"),
        "postgresql" => assert_postgresql(said, out),
        "ldap" => assert_ldap(said, out),
        "mqtt" => assert_mqtt(out),
        "vnc" => assert_vnc(out),
        // RFC 5804, section 4: quotes and backslashes of a quoted string are escaped, and it may have 1024 bytes.
        "managesieve" => assert_line(out, b"\r\n"),
        _ => {
            assert_line(out, b"\r\n");
            assert!(out.len() <= 512, "a line of {} bytes", out.len());
        }
    }
}

/// One line of printable text.
fn assert_line(out: &[u8], end: &[u8]) {
    let line = out.strip_suffix(end);
    let is_line = line.is_some_and(|line| !line.is_empty() && line.iter().all(|byte| matches!(byte, b' '..=b'~')));
    assert!(is_line, "{}", out.escape_ascii());
}

fn assert_http(said: &[u8], out: &[u8]) {
    let text = std::str::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 503 Service Unavailable"));
    lines.clone().for_each(|line| assert_line(line.as_bytes(), b""));
    let value = |name: &str| lines.clone().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = value("Content-Length").unwrap().parse().unwrap();
    assert!(value("Retry-After").unwrap().parse::<u32>().is_ok_and(|seconds| seconds > 0), "{head}");
    let start = said.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(said.len());
    match said[start..].starts_with(b"HEAD ") {
        true => assert_eq!(body, ""),
        false => assert_eq!(body.len(), length, "{text}"),
    }
}

/// `N` for each request for encryption, and then an alert, an error, or nothing for who wants a query cancelled.
fn assert_postgresql(said: &[u8], out: &[u8]) {
    let requests = out.iter().take_while(|byte| **byte == b'N').count();
    assert!(8 * requests <= said.len(), "an answer to nobody: {}", out.escape_ascii());
    match &out[requests..] {
        [] => {}
        [b'E', rest @ ..] => {
            assert_eq!(rest[..4], (rest.len() as u32).to_be_bytes());
            let fields: Vec<&[u8]> = rest[4..].split(|byte| *byte == 0).collect();
            let codes: Vec<u8> = fields.iter().filter_map(|field| field.first().copied()).collect();
            assert_eq!((&codes[..], fields.len()), (&b"SVCM"[..], 6), "{}", out.escape_ascii());
        }
        alert => assert_eq!(alert, tls::ALERT),
    }
}

/// Tag, content and rest of an element of BER.
fn element(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let mut reader = Reader(bytes);
    let (tag, size) = (reader.byte().unwrap(), reader.byte().unwrap());
    let size = match size {
        0..=0x7f => usize::from(size),
        _ => reader.number(usize::from(size & 0x7f)).unwrap() as usize,
    };
    let content = reader.take(size).unwrap();
    (tag, content, reader.0)
}

/// One or two messages, of which the last is the notice, and the other has the ID of the request.
fn assert_ldap(said: &[u8], out: &[u8]) {
    let (mut rest, mut ids) = (out, Vec::new());
    while !rest.is_empty() {
        let (tag, message, after) = element(rest);
        assert_eq!(tag, 0x30);
        let (tag, id, operation) = element(message);
        assert_eq!(tag, 2);
        ids.push(id);
        let (_, mut members, end) = element(operation);
        assert!(end.is_empty());
        let mut tags = Vec::new();
        while !members.is_empty() {
            let (tag, _, after) = element(members);
            tags.push(tag);
            members = after;
        }
        assert!(tags.starts_with(&[0x0a, 4, 4]), "{tags:x?}");
        rest = after;
    }
    assert_eq!(ids.pop(), Some(&[0][..]));
    assert!(ids.len() <= 1 && ids.iter().all(|id| said.windows(id.len()).any(|part| part == *id)), "{ids:x?}");
}

fn assert_mqtt(out: &[u8]) {
    let Some((first, rest)) = out.split_first() else { return };
    assert_eq!(*first, 0x20);
    let digits = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    let length = rest[..digits].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    assert_eq!(rest.len() - digits, length, "{}", out.escape_ascii());
}

fn assert_vnc(out: &[u8]) {
    let Some(rest) = out.strip_prefix(b"RFB 003.008\n") else { panic!("{}", out.escape_ascii()) };
    if rest.is_empty() {
        return;
    }
    let none = if rest.starts_with(&[0; 4]) && rest.len() > 8 && rest[4..6] == [0, 0] { 4 } else { 1 };
    let text = &rest[none + 4..];
    assert_eq!(rest[none..none + 4], (text.len() as u32).to_be_bytes(), "{}", out.escape_ascii());
    assert_line(text, b"");
}
