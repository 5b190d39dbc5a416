//! What sockcap counts, in the text format of Prometheus.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::globals::Globals;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this unit
    #[arg(value_name = "UNIT")]
    pub unit: Option<String>,

    /// Write to FILE, for the textfile collector of node_exporter: whole, or not at all
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<std::path::PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// One line.
pub fn run(_options: &Options, _globals: &Globals) -> Result<(), Failure> {
    Err(Failure::failed("not built yet"))
}
