//! sockcapctl: asks a daemon that runs, through its control socket, and prints what it says.
//!
//! A command is a file of its own, with `Options` for its arguments and `run` that carries it out or returns a [`Failure`]. Those that
//! are asked of a daemon wait at most a few seconds for it.
#![forbid(unsafe_code)]

mod args;
pub mod check;
pub mod convert;
pub mod failure;
pub mod globals;
mod help;
pub mod metrics;
mod mistakes;
pub mod output;
pub mod report;

pub use args::Args;
pub use failure::{Exit, Failure};
pub use help::{GROUPS, notes, usage};

use args::Command;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use globals::Globals;
use std::ffi::OsString;

/// Runs the program. What failed is on stderr by then.
pub fn run(words: impl Iterator<Item = OsString>) -> Exit {
    let words: Vec<OsString> = words.collect();
    match parse_and_carry_out(&words) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            output::complain(&failure.line);
            failure.exit
        }
    }
}

/// `--help`, of the whole program or of the command of this name.
pub fn help_of(name: Option<&str>) -> String {
    let program = Args::command();
    help::help(&program, name.and_then(|name| program.find_subcommand(name)))
}

fn parse_and_carry_out(words: &[OsString]) -> Result<(), Failure> {
    let mut program = Args::command();
    if let Some(of) = mistakes::asks_for_help(&program, words) {
        return output::print(&help::help(&program, of));
    }
    let args = program.try_get_matches_from_mut(words).and_then(|matches| Args::from_arg_matches(&matches));
    match args {
        Ok(args) => carry_out(args.command.unwrap_or(Command::List), &args.globals),
        Err(error) if error.kind() == ErrorKind::DisplayVersion => output::print(&error.to_string()),
        Err(error) => Err(Failure::usage(mistakes::explain(&error, &program, words))),
    }
}

fn carry_out(command: Command, globals: &Globals) -> Result<(), Failure> {
    match command {
        Command::Metrics(options) => metrics::run(&options, globals),
        Command::ServeReport(options) => report::run(&options, globals),
        Command::Check(options) => check::run(&options, globals),
        Command::Convert(options) => convert::run(&options, globals),
        _ => Err(Failure::failed("not built yet")),
    }
}
