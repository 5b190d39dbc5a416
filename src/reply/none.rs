//! Nothing: an orderly end of file, as Accept=yes gives.
#![forbid(unsafe_code)]

use super::{Preset, Saying};

pub(super) const PRESET: Preset = Preset { name: "none", about: "an end of file and no word", render };

fn render(_: &Saying, _: &mut Vec<u8>) {}
