//! NNTP: 400 as the greeting, for a service that is unavailable for a while (RFC 3977 section 5.1); 502 would
//! be for good.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("nntp", "400", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "400 {}\r\n", notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("nntp", None, b""), b"400 server at capacity, try again later\r\n");
        assert_eq!(told("nntp", Some("full"), b""), b"400 full\r\n");
        assert_eq!(unavailable("nntp", b""), b"400 service unavailable, try again later\r\n");
    }
}
