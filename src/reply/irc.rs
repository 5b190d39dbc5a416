//! IRC: an ERROR message (RFC 2812 section 3.7.4), the last word of a server before it closes a link.
//!
//! "Closing Link:" is what servers begin it with. They go on with the client's address, which is of no use to the
//! client; it is left out.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("irc", "ERROR", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "ERROR :Closing Link: {}\r\n", notice.with_retry_hint());
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("irc", None, b""), b"ERROR :Closing Link: server at capacity, try again later\r\n");
        assert_eq!(told("irc", Some("full"), b""), b"ERROR :Closing Link: full\r\n");
        assert_eq!(unavailable("irc", b""), b"ERROR :Closing Link: service unavailable, try again later\r\n");
    }
}
