//! The rsync daemon protocol: greeting, then an `@ERROR` line, which the client prints before it exits with 5.
//!
//! Source: `clientserver.c` of rsync 3.2.7 and 3.5.0 (`start_inband_exchange`, `rsync_module`). The greeting names protocol 31, since
//! 32 would need a list of digests; without a greeting the client complains about that instead. The
//! text for a full house is the one rsync's own `max connections` has, which mirror scripts look for.
#![forbid(unsafe_code)]

use super::preset::{Preset, Saying};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("rsync", "rsync's @ERROR line, client exit code 5", render);

fn render(saying: &Saying, out: &mut Vec<u8>) {
    let (text, max) = (saying.text, saying.max);
    out.extend_from_slice(b"@RSYNCD: 31.0\n@ERROR: ");
    // Writing to a Vec cannot fail.
    let _ = match (saying.busy && !saying.chosen, max) {
        (true, 1..) => writeln!(out, "max connections ({max}) reached -- try again later"),
        (false, _) if saying.chosen => writeln!(out, "{text}"),
        _ => writeln!(out, "{text} -- try again later"),
    };
}
