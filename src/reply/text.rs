//! One line of plain text, for people and for protocols without a better word.
#![forbid(unsafe_code)]

use super::preset::{Preset, Saying};

pub(super) const PRESET: Preset = Preset::server("text", "one line of text", render);

fn render(saying: &Saying, out: &mut Vec<u8>) {
    out.extend_from_slice(saying.text.as_bytes());
    out.push(b'\n');
}
