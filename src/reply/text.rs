//! One line of plain text, for people and for protocols without a better word.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};

pub(super) const PRESET: Preset = Preset::server("text", "one line of text", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    out.extend_from_slice(notice.text.as_bytes());
    out.push(b'\n');
}
