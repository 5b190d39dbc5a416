//! POP3: -ERR instead of the greeting (RFC 1939 section 3) with the code for a failure of the system that
//! passes (RFC 3206 section 4).
//!
//! The code is there so that nobody takes the failure for a wrong password; who does not know it reads it as
//! text (RFC 2449 section 8).
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("pop3", "-ERR [SYS/TEMP]", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "-ERR [SYS/TEMP] {}\r\n", notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("pop3", None, b""), b"-ERR [SYS/TEMP] server at capacity, try again later\r\n");
        assert_eq!(told("pop3", Some("full"), b""), b"-ERR [SYS/TEMP] full\r\n");
        assert_eq!(unavailable("pop3", b""), b"-ERR [SYS/TEMP] service unavailable, try again later\r\n");
    }
}
