//! TLS: a fatal alert, whatever protocol is inside (RFC 8446 section 6).
//!
//! There is no alert for "busy"; internal_error (80) is the one that blames neither the client nor its certificate.
//! The record says version 3.1, as the first ones of a connection do (section 5.1). A client takes it
//! as the answer to its ClientHello, even if it was sent before. No words fit in.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};

pub(super) const PRESET: Preset = Preset::server("tls", "an alert without text", render);

/// The first byte of a TLS connection: the content type of a handshake record (RFC 8446 section 5.1).
pub(super) const HANDSHAKE: u8 = 0x16;
/// Content type alert, version, length; level fatal, internal_error.
pub(super) const ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 80];

fn render(_: &Notice, out: &mut Vec<u8>) {
    out.extend_from_slice(&ALERT);
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("tls", None, b""), b"\x15\x03\x01\0\x02\x02\x50");
        assert_eq!(told("tls", Some("full"), b""), unavailable("tls", b""));
    }
}
