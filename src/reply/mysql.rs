//! MySQL and MariaDB: an ERR packet instead of the handshake (MySQL client/server protocol, "ERR_Packet").
//!
//! Payload length in 3 bytes, sequence number 0, 0xff, error number, all little-endian; no SQLSTATE, since
//! no capabilities have been agreed on yet. 1040 (ER_CON_COUNT_ERROR) and its words are the server's own for
//! a full house. A command that cannot be started is 1135 (ER_CANT_CREATE_THREAD), which the server sends when it
//! has no thread for a connection; 1053 would say that the whole server is going down.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset, SpeaksFirst};

pub(super) const PRESET: Preset =
    Preset { name: "mysql", about: "error 1040", speaks_first: SpeaksFirst::Server(render), rejects_text };

fn render(notice: &Notice, out: &mut Vec<u8>) {
    let text = notice.or_servers_own("Too many connections");
    let error: u16 = if notice.busy { 1040 } else { 1135 };
    out.extend_from_slice(&(text.len() as u32 + 3).to_le_bytes()[..3]);
    out.extend_from_slice(&[0, 0xff]);
    out.extend_from_slice(&error.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn rejects_text(text: &str) -> Option<&'static str> {
    text.starts_with('#').then_some("clients take a leading # for the mark of an SQLSTATE")
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("mysql", None, b""), b"\x17\0\0\0\xff\x10\x04Too many connections");
        assert_eq!(told("mysql", Some("full"), b""), b"\x07\0\0\0\xff\x10\x04full");
        assert_eq!(told("mysql", Some(&"x".repeat(400)), b"")[..7], *b"\x93\x01\0\0\xff\x10\x04");
        assert_eq!(unavailable("mysql", b""), b"\x16\0\0\0\xff\x6f\x04service unavailable");
        assert!((super::PRESET.rejects_text)("#full").is_some() && (super::PRESET.rejects_text)("full #1").is_none());
    }
}
