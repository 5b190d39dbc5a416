//! One line of plain text, for people and for protocols without a better word.
#![forbid(unsafe_code)]

use super::{Preset, Saying, Talk};

pub(super) const PRESET: Preset =
    Preset { name: "text", about: "one line of text", talk: Talk::Server(render), objects: super::any_line };

fn render(saying: &Saying, out: &mut Vec<u8>) {
    out.extend_from_slice(saying.text.as_bytes());
    out.push(b'\n');
}
