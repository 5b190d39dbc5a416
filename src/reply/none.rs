//! Nothing: an orderly end of file, as Accept=yes gives.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};

pub(super) const PRESET: Preset = Preset::server("none", "nothing, just a close", render);

fn render(_: &Notice, _: &mut Vec<u8>) {}
