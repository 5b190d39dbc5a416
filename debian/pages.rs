//! Writes the manual pages and the shell completions into a directory: `cargo run --example pages DIR`.
//!
//! Options come from the definitions that `--help` comes from, reasons and events from the message catalog; the rest of the
//! pages is `sockcap.8.in` and `sockcapctl.8.in`. No part of the daemon; debian/rules and tests/package.rs use it.
#![forbid(unsafe_code)]

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use sockcap::cli::Args;
use sockcap::ctl;
use sockcap::policy::reason::Reason;
use sockcap::reply::PRESETS;
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

const PAGE: &str = include_str!("sockcap.8.in");
const PAGE_OF_CTL: &str = include_str!("sockcapctl.8.in");
/// What `journalctl -x` shows.
pub const CATALOG: &str = include_str!("sockcap.catalog");
/// mandoc calls input lines of more than 80 bytes bad style.
const WIDTH: usize = 78;

#[allow(dead_code, reason = "tests/package.rs takes the functions alone")]
fn main() -> io::Result<()> {
    let Some(dir) = env::args().nth(1) else { return Err(io::Error::other("usage: pages DIR")) };
    fs::create_dir_all(&dir)?;
    fs::write(format!("{dir}/sockcap.8"), manual(&date()))?;
    fs::write(format!("{dir}/sockcapctl.8"), manual_of_ctl(&date()))?;
    for (shell, before, after) in [(Shell::Bash, "", ".bash"), (Shell::Zsh, "_", ""), (Shell::Fish, "", ".fish")] {
        fs::write(format!("{dir}/{before}sockcap{after}"), completions(shell))?;
        fs::write(format!("{dir}/{before}sockcapctl{after}"), completions_of_ctl(shell))?;
    }
    Ok(())
}

/// Of the last change, which debhelper takes from debian/changelog, so that the same source makes the same page
/// (reproducible-builds.org/docs/source-date-epoch).
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let at = epoch.map_or_else(SystemTime::now, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    humantime::format_rfc3339_seconds(at).to_string().chars().take_while(|c| *c != 'T').collect()
}

/// The manual page, man(7).
pub fn manual(date: &str) -> String {
    let command = Args::command();
    let (mut options, mut variables) = (String::new(), String::new());
    let mut heading = None;
    for option in command.get_opts() {
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            options += &format!(".SS {}\n", heading.unwrap_or_default());
        }
        options += &entry(option);
        let long = option.get_long().unwrap_or_default();
        let name = option.get_env().unwrap_or_default().to_string_lossy();
        variables += &format!(".TP\n.B {name}\nSee\n.BR {} .\n", escape(&format!("--{long}")));
    }
    options += ".TP\n.BR \\-h \", \" \\-\\-help \", \" \\-V \", \" \\-\\-version\nPrint help (\\-h: the options that matter most), or the version.\n";
    for line in command.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
        options += &match line.trim_start().split_once(' ').filter(|_| line.starts_with(' ')) {
            Some((name, about)) => format!(".TP\n.B {}\n{}", escape(name), fill(about.trim_start())),
            None if line.is_empty() => String::new(),
            None => format!(".PP\n{}", fill(line)),
        };
    }

    let (mut reasons, mut events) = (String::new(), String::new());
    for (id, subject) in catalog() {
        match Reason::ALL.into_iter().find(|reason| reason.message_id() == id) {
            Some(reason) => {
                let subject = subject.split_once(": ").map_or(subject, |(_, why)| why);
                reasons += &format!(".TP\n.B {}\n{}.br\n{id}\n", escape(reason.slug()), fill(subject));
            }
            None => {
                let subject = subject.replace("@SOCKCAP_COUNT@", "N").replace(" (@SOCKCAP_REASON@)", "");
                events += &format!(".TP\n{id}\n{}", fill(&subject));
            }
        }
    }

    let version = command.get_version().unwrap_or_default();
    let page = PAGE.replace("@DATE@", date).replace("@VERSION@", version);
    let parts = [("OPTIONS", options), ("VARIABLES", variables), ("REASONS", reasons), ("EVENTS", events)];
    parts.into_iter().fold(page, |page, (name, text)| page.replace(&format!("@{name}@\n"), &text))
}

/// The manual page of sockcapctl.
pub fn manual_of_ctl(date: &str) -> String {
    let program = ctl::Args::command();
    let mut commands = String::new();
    for (heading, names) in ctl::GROUPS {
        commands += &format!(".SS {heading}\n");
        for command in names.iter().filter_map(|name| program.find_subcommand(name)) {
            let usage = ctl::usage(Some(command));
            let words = usage.trim_start_matches("sockcapctl ").split_once(' ');
            let (name, rest) = words.unwrap_or((command.get_name(), ""));
            commands += &format!(".TP\n\\fB{}\\fR {}\n", escape(name), escape(rest)).replace(" \n", "\n");
            commands += &fill(&format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()));
            let notes = ctl::notes(command.get_name());
            if !notes.is_empty() {
                commands += &fill(notes);
            }
            let options: String = command.get_arguments().filter(|arg| is_own(arg)).map(entry).collect();
            if !options.is_empty() {
                commands += &format!(".RS\n{options}.RE\n");
            }
        }
    }
    let mut options: String =
        program.get_arguments().filter(|arg| is_own(arg) || arg.is_global_set()).map(entry).collect();
    options += ".TP\n.BR \\-h \", \" \\-\\-help \", \" \\-V \", \" \\-\\-version\n";
    options += "Print help (after a command, that of the command), or the version.\n";
    let exits = ctl::Exit::ALL.iter();
    let exits: String =
        exits.map(|(exit, about)| format!(".TP\n.B {}\n{}", *exit as u8, fill(&sentence(about)))).collect();
    let version = program.get_version().unwrap_or_default();
    let page = PAGE_OF_CTL.replace("@DATE@", date).replace("@VERSION@", version);
    let parts = [("COMMANDS", commands), ("OPTIONS", options), ("EXIT", exits)];
    parts.into_iter().fold(page, |page, (name, text)| page.replace(&format!("@{name}@\n"), &text))
}

/// An option of this command alone.
fn is_own(arg: &Arg) -> bool {
    !arg.is_positional() && !arg.is_global_set() && !["help", "version"].contains(&arg.get_id().as_str())
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

/// The catalog's ids and subjects (journald's catalog format, systemd.io/CATALOG).
pub fn catalog() -> Vec<(&'static str, &'static str)> {
    let entries = CATALOG.split("\n-- ").skip(1);
    entries.map(|entry| (&entry[..32], entry.lines().find_map(|l| l.strip_prefix("Subject: ")).unwrap_or(""))).collect()
}

/// One option: names, what it does, what else there is to know.
fn entry(option: &Arg) -> String {
    let bold = |name: String| format!("\\fB{}\\fR", escape(&name));
    let mut names: Vec<_> = option.get_short().map(|short| bold(format!("-{short}"))).into_iter().collect();
    names.extend(option.get_long().map(|long| bold(format!("--{long}"))));
    let takes_value = option.get_action().takes_values();
    let value = option.get_value_names().filter(|_| takes_value).map(|names| match option.is_require_equals_set() {
        true => format!("[=\\fI{}\\fR]", names.join(" ")),
        false => format!(" \\fI{}\\fR", names.join(" ")),
    });
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(".TP\n{}{}\n{}", names.join(", "), value.unwrap_or_default(), fill(&format!("{help}.")));
    if let ([default], true) = (option.get_default_values(), takes_value) {
        text += &fill(&format!("Default: {}.", default.to_string_lossy()));
    }
    if let Some(aliases) = option.get_visible_aliases() {
        let aliases: Vec<_> = aliases.iter().map(|alias| format!("--{alias}")).collect();
        text += &fill(&format!("Other names: {}.", aliases.join(", ")));
    }
    text
}

/// Lines of input that mean this text.
fn fill(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ').map(escape) {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        if column == 0 && word.starts_with(['.', '\'']) {
            out += "\\&";
        }
        out += &word;
        column += word.len();
    }
    out.push('\n');
    out
}

/// A minus, not a hyphen, so that what is copied from the page can be typed.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A completion script. What the daemon's definitions need not know is added here: which words stand for files or commands.
pub fn completions(shell: Shell) -> String {
    let presets: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    let help = Arg::new("help").short('h').long("help").action(ArgAction::SetTrue).help("Print help");
    let mut command: Command = Args::command().arg(help);
    command = command.mut_args(|arg| match arg.get_id().as_str() {
        "command" => arg.value_hint(ValueHint::CommandName),
        "busy_reply" => arg.value_parser(PossibleValuesParser::new(&presets)),
        "listen" => arg.value_hint(ValueHint::FilePath),
        _ if arg.get_action().takes_values() && arg.get_possible_values().is_empty() => {
            arg.value_hint(ValueHint::Other)
        }
        _ => arg,
    });
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, "sockcap", &mut out);
    String::from_utf8(out).expect("clap writes text")
}

/// The completions of sockcapctl: commands, options, files where there are some.
pub fn completions_of_ctl(shell: Shell) -> String {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::SetTrue).global(true).help("Print help");
    let hinted = |arg: Arg| match arg.get_id().as_str() {
        "textfile" | "socket" => arg.value_hint(ValueHint::FilePath),
        "output" => arg.value_hint(ValueHint::DirPath),
        "level" => arg.value_parser(PossibleValuesParser::new(["err", "warning", "notice", "info"])),
        _ if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        _ => arg,
    };
    let mut program = ctl::Args::command().arg(help);
    let names: Vec<String> = program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        program = program.mut_subcommand(name, |command| command.mut_args(hinted));
    }
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut program, "sockcapctl", &mut out);
    String::from_utf8(out).expect("clap writes text")
}
