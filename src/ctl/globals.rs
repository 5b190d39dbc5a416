//! Options that every command has.
#![forbid(unsafe_code)]

/// They may stand before the command and after it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// Print replies as JSON, as sockcap sends them
    #[arg(long, global = true)]
    pub json: bool,

    /// Units of your own service manager, in $XDG_RUNTIME_DIR
    #[arg(long, global = true)]
    pub user: bool,
}
