//! The git protocol: one pkt-line with ERR (gitprotocol-pack, "Git Transport"), which the client prints as
//! "remote error".
//!
//! The four hex digits count themselves (gitprotocol-common, "pkt-line Format"). The client asks first, but
//! takes an error that is already there; plain text would be shown as "bad line length character".
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("git", "remote error", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    let line = format!("ERR {}\n", notice.with_retry_hint());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{:04x}{line}", line.len() + 4);
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        assert_eq!(told("git", None, b""), b"002cERR server at capacity, try again later\n");
        assert_eq!(told("git", Some("full"), b""), b"000dERR full\n");
        assert_eq!(told("git", Some(&"x".repeat(400)), b"")[..8], *b"0199ERR ");
        assert_eq!(unavailable("git", b""), b"002dERR service unavailable, try again later\n");
    }
}
