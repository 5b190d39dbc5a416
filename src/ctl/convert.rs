//! From a pair of units with Accept=yes to one that runs sockcap.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::globals::Globals;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A unit with Accept=yes: its name, or the path of its file
    #[arg(value_name = "FOO.socket")]
    pub socket: String,

    /// Write the two units into this directory, instead of to stdout
    #[arg(long, value_name = "DIR")]
    pub output: Option<std::path::PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// One line.
pub fn run(_options: &Options, _globals: &Globals) -> Result<(), Failure> {
    Err(Failure::failed("not built yet"))
}
