//! The command line of sockcapctl: one definition per command, from which help, the manual page and completions come.
#![forbid(unsafe_code)]

use super::check;
use super::convert;
use super::globals::Globals;
use super::metrics;
use super::report;
use clap::{Parser, Subcommand};

/// Look at sockcap while it runs, and change its limits
#[derive(Debug, Parser)]
#[command(name = "sockcapctl", version, disable_help_subcommand = true)]
pub struct Args {
    /// For every command.
    #[command(flatten)]
    pub globals: Globals,

    /// None is `list`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A unit, or all that run.
#[derive(Clone, Debug, clap::Args)]
pub struct MaybeUnit {
    /// Only this unit
    #[arg(value_name = "UNIT")]
    pub unit: Option<String>,
}

/// Units, or all that run.
#[derive(Clone, Debug, clap::Args)]
pub struct Units {
    /// Only these units
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,
}

/// A unit.
#[derive(Clone, Debug, clap::Args)]
pub struct Unit {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,
}

/// Of `sources`.
#[derive(Clone, Debug, clap::Args)]
pub struct Sources {
    /// Only this unit
    #[arg(value_name = "UNIT")]
    pub unit: Option<String>,

    /// At most so many, up to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Of `stop`.
#[derive(Clone, Debug, clap::Args)]
pub struct Stop {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// Connections, by their ids
    #[arg(value_name = "ID", required = true, value_parser = id)]
    pub ids: Vec<u64>,

    /// Send SIGKILL at once, instead of SIGTERM first
    #[arg(long)]
    pub force: bool,
}

/// Of `set`.
#[derive(Clone, Debug, clap::Args)]
pub struct Set {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// Limits by the names of sockcap's options, with or without the dashes, as in max-connections=8
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub limits: Vec<String>,
}

/// Of `forget`.
#[derive(Clone, Debug, clap::Args)]
pub struct Forget {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// An address, uid=N or cid=N, as `sources` shows it
    #[arg(value_name = "SOURCE")]
    pub source: String,
}

/// Of `drain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Drain {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// Return when the last command has ended
    #[arg(long)]
    pub wait: bool,
}

/// Of `log-level`.
#[derive(Clone, Debug, clap::Args)]
pub struct LogLevel {
    /// The unit
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// err, warning, notice, info, or a number from 3 to 6; without it the level is printed
    #[arg(value_name = "LEVEL")]
    pub level: Option<String>,
}

fn id(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| "expected a number of column ID of `sockcapctl connections`".to_owned())
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the units that run, a line each; the default
    List,
    /// Show limits, who waits, who was refused and why
    Status(MaybeUnit),
    /// List the commands that run, and for whom
    Connections(MaybeUnit),
    /// List the clients that wait in order
    Waiting(MaybeUnit),
    /// List sources: connections, refusals, penalties
    Sources(Sources),
    /// Show units, or the connections of one, live; q quits
    Top(MaybeUnit),
    /// Print a line of JSON each time that something has changed
    Watch(Units),
    /// End commands: SIGTERM, and SIGKILL after --kill-grace
    Stop(Stop),
    /// Change limits until the next restart
    Set(Set),
    /// Lift the penalty and the rate of a source
    Forget(Forget),
    /// Start no further commands; those that run go on
    Drain(Drain),
    /// End a drain
    Resume(Unit),
    /// Show or change what is logged
    LogLevel(LogLevel),
    /// Print metrics in the text format of Prometheus
    Metrics(metrics::Options),
    /// Serve metrics to systemd-report, on a socket at stdin
    ServeReport(report::Options),
    /// Tell whether a unit takes clients now: exit status 0 or 1
    Ready(Unit),
    /// Check a unit for mistakes in its settings
    Check(check::Options),
    /// Turn a pair with Accept=yes into units that run sockcap
    Convert(convert::Options),
}
