//! What a command writes to its standard error, on its way to the journal.
#![forbid(unsafe_code)]

use super::lines::Lines;
use super::record;
use crate::fuzzing::bytes::{Choices, pieces};
use crate::observe::peer::{LogPeer, ShownPeer};
use crate::peer::Peer;
use crate::sys::socket::Address;

/// journald's own default of `LineMax=`.
const LINE_MAX: usize = 48 << 10;

/// `PIECES TIMES LISTENER NEWLINE PEER NEWLINE TEXT`: a UNIX peer of this name, and so many times the text.
pub(crate) fn stderr(data: &[u8]) {
    let mut from = Choices(data);
    let (how, times) = (from.byte(), 1 + usize::from(from.byte()));
    let (listener, name) = (from.until(b'\n'), from.until(b'\n'));
    let text = from.0.repeat(times);
    let lines = told(&[&text]);
    assert_eq!(lines, expected(&text));
    assert_eq!(told(&pieces(&text, how.max(1))), lines, "in other pieces ({how})");

    let listener = String::from_utf8_lossy(listener);
    let address = match std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
        Some(at) => Address::Ip(at),
        None => Address::Unix(Some(name.into())),
    };
    let peer = Peer::new(address, None);
    for detail in [LogPeer::Full, LogPeer::Prefix, LogPeer::None] {
        let shown = ShownPeer::new(peer.clone(), detail);
        let head = record::head("command", 17, &listener, &shown);
        let mut fields = vec![
            ("SYSLOG_IDENTIFIER".to_owned(), b"command".to_vec()),
            ("SYSLOG_FACILITY".into(), b"3".to_vec()),
            ("SOCKCAP_CONNECTION".into(), b"17".to_vec()),
            ("SOCKCAP_LISTENER".into(), listener.as_bytes().to_vec()),
            ("SOCKCAP_PEER".into(), shown.to_string().into_bytes()),
        ];
        let (address, port) = shown.address();
        fields.extend(address.map(|address| ("SOCKCAP_PEER_ADDR".into(), address.into_bytes())));
        fields.extend(port.map(|port| ("SOCKCAP_PEER_PORT".into(), port.to_string().into_bytes())));
        assert!(!shown.to_string().contains(char::is_control), "{shown}");
        // The first line, a long one, and none at all: what is said is a value, and no field of its own.
        for (priority, line) in lines.iter().take(3).chain(lines.iter().max_by_key(|(_, line)| line.len())) {
            let mut entry = head.clone();
            record::line(&mut entry, *priority, line);
            let own = [("PRIORITY".to_owned(), vec![b'0' + priority]), ("MESSAGE".to_owned(), line.clone())];
            assert_eq!(fields_of(&entry), [&fields[..], &own].concat());
        }
    }
}

fn told(parts: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
    let (mut lines, mut told) = (Lines::default(), Vec::new());
    let mut tell = |priority: u8, text: &[u8]| told.push((priority, text.to_vec()));
    parts.iter().for_each(|part| lines.feed(part, &mut tell));
    lines.finish(&mut tell);
    told
}

/// The same, of a text that is there as a whole.
fn expected(text: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    for line in text.split(|byte| matches!(byte, b'\n' | 0)) {
        let mut priority = 6;
        for (nth, mut piece) in line.chunks(LINE_MAX).enumerate() {
            if let (0, [b'<', digit @ b'0'..=b'7', b'>', rest @ ..]) = (nth, piece) {
                (priority, piece) = (digit - b'0', rest);
            }
            if !piece.is_empty() {
                all.push((priority, piece.to_vec()));
            }
        }
    }
    all
}

/// The fields of an entry, as journald reads them (systemd.io/JOURNAL_NATIVE_PROTOCOL).
fn fields_of(mut entry: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let (name, value, after) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let (length, rest) = rest.split_first_chunk::<8>().unwrap();
                let (value, after) = rest.split_at(u64::from_le_bytes(*length) as usize);
                (line, value, after.strip_prefix(b"\n").unwrap())
            }
        };
        let is_name = name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_');
        assert!(is_name && !name.is_empty(), "{}", name.escape_ascii());
        fields.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
        entry = after;
    }
    fields
}
