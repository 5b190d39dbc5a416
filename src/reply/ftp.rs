//! FTP: 421 instead of the greeting (RFC 959 section 5.4, "Connection Establishment"), a negative reply that is
//! not for good.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("ftp", "421", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "421 {}\r\n", notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("ftp", None, b""), b"421 server at capacity, try again later\r\n");
        assert_eq!(told("ftp", Some("full"), b""), b"421 full\r\n");
        assert_eq!(unavailable("ftp", b""), b"421 service unavailable, try again later\r\n");
    }
}
