//! Nothing: an orderly end of file, as Accept=yes gives.
#![forbid(unsafe_code)]

use super::preset::{Preset, Saying};

pub(super) const PRESET: Preset = Preset::server("none", "nothing, just a close", render);

fn render(_: &Saying, _: &mut Vec<u8>) {}
