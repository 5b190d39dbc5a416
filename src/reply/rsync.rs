//! The rsync daemon protocol: greeting, then an `@ERROR` line, which the client prints before it exits with 5.
//!
//! Source: `clientserver.c` of rsync 3.2.7 and 3.5.0 (`start_inband_exchange`, `rsync_module`). The greeting names protocol 31, since
//! 32 would need a list of digests; without a greeting the client complains about that instead. The
//! text for a full house is the one rsync's own `max connections` has, which mirror scripts look for.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("rsync", "rsync's @ERROR line, client exit code 5", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    let (text, max) = (notice.text, notice.max);
    out.extend_from_slice(b"@RSYNCD: 31.0\n@ERROR: ");
    // Writing to a Vec cannot fail.
    let _ = match (notice.busy && !notice.chosen, max) {
        (true, 1..) => writeln!(out, "max connections ({max}) reached -- try again later"),
        (false, _) if notice.chosen => writeln!(out, "{text}"),
        _ => writeln!(out, "{text} -- try again later"),
    };
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn the_administrator_s_words_are_sent_as_they_are() {
        let line = |words: &str| format!("@RSYNCD: 31.0\n@ERROR: {words}\n").into_bytes();
        assert_eq!(told("rsync", Some("come at night"), b""), line("come at night"));
        assert_eq!(told("rsync", None, b""), line("max connections (4) reached -- try again later"));
        assert_eq!(unavailable("rsync", b""), line("service unavailable -- try again later"));
    }
}
