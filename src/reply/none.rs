//! Nothing: an orderly end of file, as Accept=yes gives.
#![forbid(unsafe_code)]

use super::{Preset, Saying, Talk};

pub(super) const PRESET: Preset =
    Preset { name: "none", about: "nothing, just a close", talk: Talk::Server(render), objects: super::any_line };

fn render(_: &Saying, _: &mut Vec<u8>) {}
