//! sockcapctl: asks a daemon that runs, through its control socket, and prints what it says.
//!
//! A command is a file of its own, with `Options` for its arguments and `run` that carries it out or returns a [`Failure`]. Those that
//! are asked of a daemon wait at most a few seconds for it.
#![forbid(unsafe_code)]

mod args;
pub mod ask;
mod change;
pub mod check;
pub mod client;
pub mod convert;
pub mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod globals;
mod help;
mod limits;
mod list;
pub mod metrics;
mod mistakes;
pub mod output;
mod ready;
pub mod report;
mod screen;
mod status;
mod syntax;
mod tables;
mod top;
pub mod units;
mod watch;
pub mod words;

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
        Command::List => list::run(globals),
        Command::Status(of) => status::run(of.unit.as_deref(), globals),
        Command::Connections(of) => tables::connections(of.unit.as_deref(), globals),
        Command::Waiting(of) => tables::waiting(of.unit.as_deref(), globals),
        Command::Sources(of) => tables::sources(of.unit.as_deref(), of.limit, globals),
        Command::Top(of) => top::run(of.unit.as_deref(), globals),
        Command::Watch(of) => watch::run(&of.units, globals),
        Command::Stop(of) => change::stop(&of, globals),
        Command::Set(of) => change::set(&of, globals),
        Command::Forget(of) => change::forget(&of, globals),
        Command::Drain(of) => change::drain(&of, globals),
        Command::Resume(of) => change::resume(&of.unit, globals),
        Command::LogLevel(of) => change::log_level(&of, globals),
        Command::Ready(of) => ready::run(&of.unit, globals),
    }
}
