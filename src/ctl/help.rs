//! `sockcapctl --help`, and the same of one command.
//!
//! The layout is that of sockcap's own help.
#![forbid(unsafe_code)]

use super::failure::Exit;
use crate::cli::help::{about, names, row, wrap};
use clap::{Arg, Command};
use std::fmt::Write;

/// Every command, in the order of help.
pub const GROUPS: [(&str, &[&str]); 4] = [
    ("Look", &["list", "status", "connections", "waiting", "sources", "top", "watch"]),
    ("Change, until the next restart", &["stop", "set", "forget", "drain", "resume", "log-level"]),
    ("Monitoring", &["metrics", "serve-report", "ready"]),
    ("Units", &["check", "convert"]),
];

/// What a UNIT is.
pub const UNIT: &str = "\
UNIT: the name of a unit, with or without .service or .socket, or the path of its control socket; without it all that run.";

/// What stands below the options of a command.
pub fn notes(command: &str) -> &'static str {
    match command {
        "set" => {
            "\
Names, as of sockcap's options: max-connections=8, max-per-listener=NAME=4, max-per-source=8, \
max-per-source=64@24,48 (the levels that are given replace all before), max-rate=10/1s:20, max-rate-per-source=10/min, reserved=2, load-average=4, \
max-wait=30s, max-waiting=100. 0 is no limit."
        }
        _ => "",
    }
}

/// `--help`, of the whole program or of one command.
pub fn help(program: &Command, of: Option<&Command>) -> String {
    let mut out = String::new();
    let command = of.unwrap_or(program);
    wrap(&command.get_about().map(ToString::to_string).unwrap_or_default(), 0, 0, &mut out);
    let _ = writeln!(out, "\nUsage: {}", usage(of)); // writing to a String cannot fail
    match of {
        None => commands(program, &mut out),
        Some(command) => {
            let positionals: Vec<_> = command.get_arguments().filter(|arg| arg.is_positional()).collect();
            if !positionals.is_empty() {
                out.push_str("\nArguments:\n");
            }
            for arg in positionals {
                row(&format!("  {}", value(arg)), &about(arg), &mut out);
            }
        }
    }
    out.push_str("\nOptions:\n");
    let own = of.into_iter().flat_map(Command::get_arguments);
    let all = own.chain(program.get_arguments()).filter(|arg| !arg.is_positional());
    let mut seen = Vec::new();
    for option in all.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
        if !seen.contains(&option.get_id()) {
            row(&names(option), &about(option), &mut out);
            seen.push(option.get_id());
        }
    }
    row("  -h, --help", "Print this help; after a command, that of the command", &mut out);
    row("  -V, --version", "Print the version", &mut out);
    match of {
        None => {
            out.push('\n');
            wrap(UNIT, 0, 0, &mut out);
            wrap(&exits(), 0, 0, &mut out);
        }
        Some(command) if !notes(command.get_name()).is_empty() => {
            out.push('\n');
            wrap(notes(command.get_name()), 0, 0, &mut out);
        }
        Some(_) => {}
    }
    out
}

/// `sockcapctl set UNIT NAME=VALUE...`
pub fn usage(of: Option<&Command>) -> String {
    let Some(command) = of else { return "sockcapctl [OPTIONS] [COMMAND]".to_owned() };
    let mut out = format!("sockcapctl {}", command.get_name());
    let own = command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_global_set());
    for option in own.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
        let _ = write!(out, " [{}]", names(option).trim_start());
    }
    for arg in command.get_arguments().filter(|arg| arg.is_positional()) {
        out.push(' ');
        out.push_str(&value(arg));
    }
    out
}

/// `UNIT`, `[UNIT]`, `ID...`
pub fn value(arg: &Arg) -> String {
    let name = arg.get_value_names().unwrap_or_default().join(" ");
    let many = if matches!(arg.get_action(), clap::ArgAction::Append) { "..." } else { "" };
    if arg.is_required_set() { format!("{name}{many}") } else { format!("[{name}{many}]") }
}

fn commands(program: &Command, out: &mut String) {
    for (heading, names) in GROUPS {
        let _ = writeln!(out, "\n{heading}:");
        for command in names.iter().filter_map(|name| program.find_subcommand(name)) {
            let positionals = command.get_arguments().filter(|arg| arg.is_positional()).map(value);
            let words: Vec<_> = std::iter::once(command.get_name().to_owned()).chain(positionals).collect();
            row(
                &format!("  {}", words.join(" ")),
                &command.get_about().map(ToString::to_string).unwrap_or_default(),
                out,
            );
        }
    }
}

fn exits() -> String {
    let all: Vec<_> = Exit::ALL.iter().map(|(exit, about)| format!("{} {about}", *exit as u8)).collect();
    format!("Exit status: {}.", all.join("; ").replacen("; of", ", of", 1))
}

#[cfg(test)]
mod tests {
    use super::super::args::Args;
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help_fits_and_has_every_command_once() {
        let program = Args::command();
        program.clone().debug_assert();
        let mut all = vec![help(&program, None)];
        all.extend(program.get_subcommands().map(|command| help(&program, Some(command))));
        for text in &all {
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
                assert_eq!(line, line.trim_end(), "blanks at the end");
            }
        }
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut known: Vec<&str> = program.get_subcommands().map(|command| command.get_name()).collect();
        assert_eq!(grouped.len(), known.len());
        known.retain(|name| !grouped.contains(name));
        assert!(known.is_empty(), "in no group: {known:?}");
    }
}
