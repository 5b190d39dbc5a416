//! What may be typed: one definition per option, from which help and the environment's names come.
//!
//! Words are judged here one by one; what they mean together is `daemon::settings`.
#![forbid(unsafe_code)]

use crate::daemon::settings::Settings;
use crate::listen::open::{Family, Place};
use crate::observe::event::Severity;
use crate::observe::log::Target;
use crate::observe::peer::LogPeer;
use crate::policy::gate::WhenFull;
use crate::reply::{Choice, LONGEST_FILE, Message, PRESETS};
use crate::sys::launch::{Pass, Session};
use crate::sys::plain;
use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

/// Run one COMMAND per connection of the listening sockets that systemd passes, never more than N at once.
#[derive(Debug, Parser)]
#[command(name = "sockcap", version, override_usage = "sockcap [OPTIONS] -- COMMAND [ARG...]", after_help = after_help())]
#[command(max_term_width = 100)]
pub struct Args {
    /// Where to listen without systemd.
    #[arg(long, value_name = "ADDR", env = "SOCKCAP_LISTEN", help = LISTEN_HELP)]
    listen: Vec<String>,

    /// A name or a bare port means IPv4 only
    #[arg(long, env = "SOCKCAP_IPV4", value_parser = BoolishValueParser::new(), conflicts_with = "ipv6")]
    ipv4: bool,

    /// A name or a bare port means IPv6 only
    #[arg(long, env = "SOCKCAP_IPV6", value_parser = BoolishValueParser::new())]
    ipv6: bool,

    /// Length of the kernel's queue of waiting connections; the kernel clamps it to net.core.somaxconn
    #[arg(long, value_name = "N", env = "SOCKCAP_BACKLOG", default_value_t = i32::MAX, value_parser = backlog)]
    backlog: i32,

    /// Commands at once over all listeners; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_CONNECTIONS", default_value_t = 100, value_parser = number,
          visible_aliases = ["max-clients", "maxclients", "processes"])]
    max_connections: u32,

    /// Commands at once for one listener, or for the one with this FileDescriptorName= (repeatable)
    #[arg(long, value_name = "N|NAME=N", env = "SOCKCAP_MAX_PER_LISTENER")]
    max_per_listener: Vec<String>,

    /// Start a second and further command only while the 1-minute load average is below LOAD
    #[arg(long, value_name = "LOAD", env = "SOCKCAP_LOAD_AVERAGE", visible_alias = "max-load", value_parser = load)]
    load_average: Option<f64>,

    /// What a connection over a limit gets: a refusal, or a place in the queue
    #[arg(long, value_name = "WHAT", env = "SOCKCAP_WHEN_FULL", default_value = "refuse", value_parser = ["refuse", "wait"])]
    when_full: String,

    /// With wait: refuse who has waited so long, counted from the end of the handshake; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_MAX_WAIT", value_parser = duration)]
    max_wait: Option<Duration>,

    /// With wait: refuse who comes while so many wait; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_WAITING", default_value_t = 0, value_parser = number)]
    max_waiting: u32,

    /// The protocol of a refusal, as listed below, or file:PATH for the bytes of a file
    #[arg(long, value_name = "PRESET", env = "SOCKCAP_BUSY_REPLY", default_value = "text",
          value_parser = busy_reply)]
    busy_reply: Choice,

    /// The words of a refusal; {max}, {active} and {retry} are filled in
    #[arg(long, value_name = "TEXT", env = "SOCKCAP_BUSY_MESSAGE", default_value_t)]
    busy_message: Message,

    /// How the command gets its connection: as descriptors 0 and 1, or as 3 with LISTEN_FDS=1
    #[arg(long, value_name = "HOW", env = "SOCKCAP_PASS", default_value = "stdio", value_parser = ["stdio", "listen-fds"])]
    pass: String,

    /// The session of a command: its own, which costs more the more processors there are, or the daemon's
    #[arg(long, value_name = "WHOSE", env = "SOCKCAP_SESSION", default_value = "own", value_parser = ["own", "shared"])]
    session: String,

    /// Send SIGTERM to a command's process group after so long, and SIGKILL after --kill-grace; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_TIME_LIMIT", value_parser = duration)]
    time_limit: Option<Duration>,

    /// Exit with 0 when nothing ran or waited for so long; systemd starts the service again; 0 is never
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_IDLE_EXIT", value_parser = duration)]
    idle_exit: Option<Duration>,

    /// On stop, time for running commands before they are sent SIGTERM
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    drain_timeout: Duration,

    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_KILL_GRACE", default_value = "10s", value_parser = duration)]
    kill_grace: Duration,

    /// Tell of each connection, too
    #[arg(short, long, env = "SOCKCAP_VERBOSE", value_parser = BoolishValueParser::new(), conflicts_with = "quiet")]
    verbose: bool,

    /// Tell of refusals and trouble only
    #[arg(short, long, env = "SOCKCAP_QUIET", value_parser = BoolishValueParser::new())]
    quiet: bool,

    /// Where log entries go; auto is the journal if stderr is connected to it
    #[arg(long, value_name = "WHERE", env = "SOCKCAP_LOG_TARGET", default_value = "auto", value_parser = ["auto", "journal", "stderr"])]
    log_target: String,

    /// How much of a client's address is told; prefix is the first 24 bits of IPv4, 48 of IPv6, and no port
    #[arg(long, value_name = "HOW", env = "SOCKCAP_LOG_PEER", default_value = "full", value_parser = ["full", "prefix", "none"])]
    log_peer: String,

    /// Read everything, print the settings that would hold, and exit with 0 or 2
    #[arg(long, env = "SOCKCAP_CHECK", value_parser = BoolishValueParser::new())]
    check: bool,

    /// The command and its arguments, in which {remote_addr} {remote_port} {local_addr} {local_port} {listener} {id} {uid} {pid} {cid} are filled in; {{ is a brace
    #[arg(value_name = "COMMAND", last = true, action = ArgAction::Append)]
    command: Vec<OsString>,
}

/// Not a doc comment: rustdoc would take the brackets for a link.
const LISTEN_HELP: &str =
    "Listen without systemd: PORT, HOST:PORT, [IPV6]:PORT, /path, @abstract, vsock:CID:PORT (repeatable)";

const AFTER_HELP: &str = "\
Each option is also read from the environment (SOCKCAP_MAX_CONNECTIONS=8); the command line wins.
DURATION: 30s, 5min 20s, 500ms, or a bare number of seconds.
Exit status: 0, 1 if the system failed us, 2 for a mistake in options or sockets.";

fn after_help() -> String {
    let presets: String = PRESETS.iter().map(|preset| format!("  {:<12} {}\n", preset.name, preset.about)).collect();
    format!("PRESET, and what a refused client is told:\n{presets}\n{AFTER_HELP}")
}

fn busy_reply(text: &str) -> Result<Choice, String> {
    let Some(path) = text.strip_prefix("file:") else { return text.parse() };
    let cannot = |error| format!("cannot read '{path}': {}", plain(&error));
    let about = fs::metadata(path).map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("'{path}' is no regular file"));
    }
    // One byte more than is allowed is enough to know.
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    Choice::file(path, bytes)
}

fn per_listener(text: &str) -> Result<(Option<String>, u32), String> {
    let (name, number) = match text.rsplit_once('=') {
        Some((name, number)) => (Some(name.to_owned()), number),
        None => (None, text),
    };
    Ok((name, self::number(number)?))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("expected a number from 0 to {}", u32::MAX))
}

fn backlog(text: &str) -> Result<i32, String> {
    let expected = || format!("expected a number from 0 to {}", i32::MAX);
    text.parse().ok().filter(|backlog| *backlog >= 0).ok_or_else(expected)
}

fn load(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|load: &f64| load.is_finite() && *load > 0.0).ok_or("expected a number above 0".into())
}

/// A bare number is seconds, as in unit files (systemd.time(7)); the rest is humantime's.
fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    let span = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if span > LONGEST { Err("at most ten years".into()) } else { Ok(span) }
}

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Serve.
    Run(Box<Settings>),
    /// Print what would hold.
    Check(Box<Settings>),
    /// Print this (help or version).
    Print(String),
}

/// Reads the command line, and the environment for what it does not say.
///
/// # Errors
/// One line that names the option, the value and what was expected.
#[inline(never)] // its frame of 50 KiB would be `main`'s, and stay
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let matches = match Args::command().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Task::Print(error.to_string()));
        }
        Err(error) => {
            let hint = if is_bare_word(&error) { "; the command comes after --" } else { "" };
            return Err(one_line(&error.to_string()) + hint);
        }
    };
    let args = Args::from_arg_matches(&matches).map_err(|error| one_line(&error.to_string()))?;
    let all = |id: &str, given: &[String]| -> Vec<String> {
        // From the environment a list comes as one value; on the command line a path may hold blanks.
        match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => {
                given.iter().flat_map(|all| all.split_whitespace()).map(str::to_owned).collect()
            }
            _ => given.to_vec(),
        }
    };
    let (mut places, mut limits) = (Vec::new(), Vec::new());
    for text in all("listen", &args.listen) {
        let place = text.parse().map_err(|why| format!("invalid value '{text}' for '--listen <ADDR>': {why}"))?;
        places.push((text, place));
    }
    for text in all("max_per_listener", &args.max_per_listener) {
        let limit = per_listener(&text);
        limits.push(limit.map_err(|why| format!("invalid value '{text}' for '--max-per-listener <N|NAME=N>': {why}"))?);
    }
    if let Err(why) = args.busy_reply.check(&args.busy_message) {
        return Err(format!("invalid value for '--busy-message <TEXT>': {why}"));
    }
    if args.idle_exit.is_some_and(|idle| !idle.is_zero()) && !places.is_empty() {
        return Err("--idle-exit needs systemd's sockets: with --listen nobody would start sockcap again".into());
    }
    let check = args.check;
    let settings = Box::new(args.settings(places, limits));
    Ok(if check { Task::Check(settings) } else { Task::Run(settings) })
}

/// Whether a word that is no option stands before "--": a command, most likely.
fn is_bare_word(error: &clap::Error) -> bool {
    let word = error.get(ContextKind::InvalidArg);
    error.kind() == ErrorKind::UnknownArgument
        && matches!(word, Some(ContextValue::String(word)) if !word.starts_with('-'))
}

/// clap explains in paragraphs; the first says what is wrong, and for missing values the next lines name them.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let first = text.split("\n\n").next().unwrap_or(text);
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl Args {
    /// clap has judged the words: each is one of those listed with its option.
    fn settings(self, listen: Vec<(String, Place)>, max_per_listener: Vec<(Option<String>, u32)>) -> Settings {
        Settings {
            listen,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::V4,
                (_, true) => Family::V6,
                _ => Family::Any,
            },
            backlog: self.backlog,
            max_connections: self.max_connections,
            max_per_listener,
            load_average: self.load_average,
            when_full: if self.when_full == "wait" { WhenFull::Wait } else { WhenFull::Refuse },
            max_wait: self.max_wait.filter(|most| !most.is_zero()),
            max_waiting: self.max_waiting,
            busy_reply: self.busy_reply,
            busy_message: self.busy_message,
            pass: if self.pass == "listen-fds" { Pass::ListenFds } else { Pass::Stdio },
            session: if self.session == "shared" { Session::Shared } else { Session::Own },
            time_limit: self.time_limit.filter(|limit| !limit.is_zero()),
            idle_exit: self.idle_exit.filter(|idle| !idle.is_zero()),
            drain_timeout: self.drain_timeout,
            kill_grace: self.kill_grace,
            most: match (self.verbose, self.quiet) {
                (true, _) => Severity::Info,
                (_, true) => Severity::Warning,
                _ => Severity::Notice,
            },
            log_target: match self.log_target.as_str() {
                "journal" => Target::Journal,
                "stderr" => Target::Stderr,
                _ => Target::Auto,
            },
            log_peer: match self.log_peer.as_str() {
                "prefix" => LogPeer::Prefix,
                "none" => LogPeer::None,
                _ => LogPeer::Full,
            },
            command: self.command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_variable() {
        let command = Args::command();
        command.clone().debug_assert();
        for option in command.get_opts() {
            let long = option.get_long().unwrap();
            let expected = format!("SOCKCAP_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(option.get_env().unwrap().to_str(), Some(expected.as_str()), "--{long}");
        }
    }

    #[test]
    fn durations_as_in_unit_files() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("5min 20s"), Ok(Duration::from_secs(320)));
        for bad in ["", "-1", "5x", "99999999999999999999", "20y"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_names() {
        assert_eq!(per_listener("3"), Ok((None, 3)));
        assert_eq!(per_listener("a=b=3"), Ok((Some("a=b".into()), 3)));
        for bad in ["", "x", "a=", "a=-1", "4294967296"] {
            assert!(per_listener(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(load(bad).is_err(), "{bad}");
        }
    }
}
