//! memcached: the line that its server writes when it refuses a connection (`memcached.c`, option maxconns_fast).
//!
//! That line is an exception: by `protocol.txt` ERROR has no text and stands for an unknown command. So other
//! words come with SERVER_ERROR, after which the server may close.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("memcached", "ERROR", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = match notice.busy && !notice.chosen {
        true => write!(out, "ERROR Too many open connections\r\n"),
        false => write!(out, "SERVER_ERROR {}\r\n", notice.text),
    };
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("memcached", None, b""), b"ERROR Too many open connections\r\n");
        assert_eq!(told("memcached", Some("full"), b""), b"SERVER_ERROR full\r\n");
        assert_eq!(unavailable("memcached", b""), b"SERVER_ERROR service unavailable\r\n");
    }
}
