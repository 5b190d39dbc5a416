//! SMTP: 421 instead of the greeting (RFC 5321 sections 3.8 and 4.2.2), which every client takes for "queue it
//! and come back".
//!
//! 554, the other refusal of section 3.1, is for good and would bounce the mail. The host's name comes first,
//! since 421 is one of the replies whose syntax has a domain; no enhanced code, since none may come before EHLO
//! (RFC 2034 section 3).
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("smtp", "421 and the host name", render);

pub(super) fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "421 {} {}\r\n", notice.host, notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("smtp", None, b""), b"421 host.example server at capacity, try again later\r\n");
        assert_eq!(told("smtp", Some("full"), b""), b"421 host.example full\r\n");
        assert_eq!(unavailable("smtp", b""), b"421 host.example service unavailable, try again later\r\n");
    }
}
