//! SSH: a line before the version string that never comes (RFC 4253 section 4.2).
//!
//! A disconnect message with a reason would need the key exchange first. OpenSSH shows such lines only with -v,
//! and its own server refuses in the same way.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset, SpeaksFirst};
use std::io::Write;

pub(super) const PRESET: Preset =
    Preset { name: "ssh", about: "a line before the version", speaks_first: SpeaksFirst::Server(render), rejects_text };

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{}\r\n", notice.with_retry_hint());
}

fn rejects_text(text: &str) -> Option<&'static str> {
    text.starts_with("SSH-").then_some("a line that begins with SSH- is a version string")
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("ssh", None, b""), b"server at capacity, try again later\r\n");
        assert_eq!(told("ssh", Some("full"), b""), b"full\r\n");
        assert_eq!(unavailable("ssh", b""), b"service unavailable, try again later\r\n");
        for (text, fits) in [("SSH-2.0-full", false), ("SSH is full", true), ("no SSH-2", true)] {
            assert_eq!((super::PRESET.rejects_text)(text).is_none(), fits, "{text}");
        }
    }
}
