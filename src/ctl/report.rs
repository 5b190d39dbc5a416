//! What sockcap counts, for systemd-report: one client of `io.systemd.Metrics` at stdin.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::globals::Globals;

/// Arguments: none.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {}

/// Carries it out.
///
/// # Errors
/// One line.
pub fn run(_options: &Options, _globals: &Globals) -> Result<(), Failure> {
    Err(Failure::failed("not built yet"))
}
