//! IMAP: an untagged BYE as the greeting (RFC 9051 section 7.1.5) with the code for a failure that passes (RFC
//! 5530 section 3).
//!
//! INUSE and LIMIT, its neighbours, speak of a mailbox and of something that the user asked for.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("imap", "BYE [UNAVAILABLE]", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "* BYE [UNAVAILABLE] {}\r\n", notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("imap", None, b""), b"* BYE [UNAVAILABLE] server at capacity, try again later\r\n");
        assert_eq!(told("imap", Some("full"), b""), b"* BYE [UNAVAILABLE] full\r\n");
        assert_eq!(unavailable("imap", b""), b"* BYE [UNAVAILABLE] service unavailable, try again later\r\n");
    }
}
