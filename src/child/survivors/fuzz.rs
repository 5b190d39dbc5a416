//! What an environment says, for the checks of [`crate::child::fuzz`].
#![forbid(unsafe_code)]

use super::{Marked, Source};

/// The number of its connection, and its leader.
pub(in crate::child) fn marked(environ: &[u8]) -> Option<(Option<u64>, i32)> {
    super::marked(environ).map(|(marked, leader)| (marked.map(|marked| marked.mark.id), leader))
}

/// All of it: the number of its connection, the label of its listener, the source, the port, the leader.
pub(in crate::child) fn said_of(environ: &[u8]) -> Option<(u64, String, Source, u32, i32)> {
    let (marked, leader) = super::marked(environ)?;
    let Marked { mark, source, peer_port } = marked?;
    Some((mark.id, mark.listener, source, peer_port, leader))
}
