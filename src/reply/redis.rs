//! Redis and Valkey: an error reply (RESP, "Simple errors") in the server's own words for a full house.
//!
//! `networking.c` of the server writes this as soon as it has accepted, too, and before any command.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("redis", "-ERR", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "-ERR {}\r\n", notice.or_servers_own("max number of clients reached"));
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("redis", None, b""), b"-ERR max number of clients reached\r\n");
        assert_eq!(told("redis", Some("full"), b""), b"-ERR full\r\n");
        assert_eq!(unavailable("redis", b""), b"-ERR service unavailable\r\n");
    }
}
