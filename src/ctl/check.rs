//! What a unit lacks, as systemd sees it.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::globals::Globals;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The service
    #[arg(value_name = "UNIT")]
    pub unit: String,
}

/// Carries it out.
///
/// # Errors
/// One line.
pub fn run(_options: &Options, _globals: &Globals) -> Result<(), Failure> {
    Err(Failure::failed("not built yet"))
}
