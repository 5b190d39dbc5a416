//! What `--help` says beyond the options themselves.
#![forbid(unsafe_code)]

use crate::reply::PRESETS;

const AFTER_HELP: &str = "\
Each option is also read from the environment (SOCKCAP_MAX_CONNECTIONS=8); the command line wins.
DURATION: 30s, 5min 20s, 500ms, or a bare number of seconds.
Exit status: 0, 1 if the system failed us, 2 for a mistake in options or sockets.";

/// What stands below the options.
pub(super) fn after_help() -> String {
    let presets: String = PRESETS.iter().map(|preset| format!("  {:<12} {}\n", preset.name, preset.about)).collect();
    format!("PRESET, and what a refused client is told:\n{presets}\n{AFTER_HELP}")
}
