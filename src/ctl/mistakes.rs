//! What clap refuses, in one line that says what to type.
#![forbid(unsafe_code)]

use super::help::usage;
use crate::cli::variables::nearest;
use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use std::error::Error as _;
use std::ffi::OsString;

/// Of which command help is asked for, `None` of all, if it is.
pub fn asks_for_help<'a>(program: &'a Command, words: &[OsString]) -> Option<Option<&'a Command>> {
    let mut words = words.iter().skip(1).map_while(|word| word.to_str().filter(|word| *word != "--"));
    let all: Vec<&str> = words.by_ref().collect();
    let mut of = all.iter().filter(|word| !word.starts_with('-'));
    match of.next() {
        Some(&"help") => Some(of.next().and_then(|name| program.find_subcommand(name))),
        name => all
            .iter()
            .any(|word| ["-h", "--help"].contains(word))
            .then(|| name.and_then(|name| program.find_subcommand(name))),
    }
}

/// One line that names what is wrong, and what would be right.
pub fn explain(error: &Error, program: &Command, words: &[OsString]) -> String {
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let name = words.iter().skip(1).filter_map(|word| word.to_str()).find(|word| !word.starts_with('-'));
    let command = name.and_then(|name| program.find_subcommand(name));
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = given(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known = program.get_subcommands().map(|command| command.get_name().to_owned());
            match nearest(word, "", known) {
                Some(meant) => format!("unknown command '{word}'; did you mean {meant}?"),
                None => format!("unknown command '{word}'; --help lists the commands"),
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => match error.source() {
            Some(why) => {
                let [value, argument] = [ContextKind::InvalidValue, ContextKind::InvalidArg].map(given);
                let (value, argument) = (value.unwrap_or_default(), argument.unwrap_or_default());
                format!("invalid value '{value}' for {argument}: {why}")
            }
            None => one_line(error),
        },
        ErrorKind::UnknownArgument if given(ContextKind::InvalidArg).is_some_and(|word| !word.starts_with('-')) => {
            let word = given(ContextKind::InvalidArg).unwrap_or_default();
            format!("one argument too many, '{word}'; usage: {}", usage(command))
        }
        _ => format!("{}; usage: {}", one_line(error), usage(command)),
    }
}

/// clap explains in paragraphs; the first says what is wrong, and for missing values the next lines name them.
fn one_line(error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let first = text.split("\n\n").next().unwrap_or(text);
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
