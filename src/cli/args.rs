//! The command line: one definition per option, from which help, the manual page and the variables' names come.
//!
//! Words are judged here one by one; what they mean together is `daemon::settings`.
#![forbid(unsafe_code)]

use super::help::after_help;
use super::values::{backlog, busy_reply, duration, load, number};
use crate::daemon::settings::Settings;
use crate::listen::open::{Family, Place};
use crate::observe::event::Severity;
use crate::observe::log::Target;
use crate::observe::peer::LogPeer;
use crate::policy::gate::WhenFull;
use crate::reply::{Choice, Message};
use crate::sys::launch::{Pass, Session};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use std::ffi::OsString;
use std::time::Duration;

/// Run one COMMAND per connection of the listening sockets that systemd passes, never more than N at once.
#[derive(Debug, Parser)]
#[command(name = "sockcap", version, override_usage = "sockcap [OPTIONS] -- COMMAND [ARG...]", after_help = after_help())]
#[command(max_term_width = 100)]
pub struct Args {
    /// Where to listen without systemd.
    #[arg(long, value_name = "ADDR", env = "SOCKCAP_LISTEN", help = LISTEN_HELP)]
    pub(super) listen: Vec<String>,

    /// A name or a bare port means IPv4 only
    #[arg(long, env = "SOCKCAP_IPV4", value_parser = BoolishValueParser::new(), conflicts_with = "ipv6")]
    pub(super) ipv4: bool,

    /// A name or a bare port means IPv6 only
    #[arg(long, env = "SOCKCAP_IPV6", value_parser = BoolishValueParser::new())]
    pub(super) ipv6: bool,

    /// Length of the kernel's queue of waiting connections; the kernel clamps it to net.core.somaxconn
    #[arg(long, value_name = "N", env = "SOCKCAP_BACKLOG", default_value_t = i32::MAX, value_parser = backlog)]
    pub(super) backlog: i32,

    /// Commands at once over all listeners; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_CONNECTIONS", default_value_t = 100, value_parser = number,
          visible_aliases = ["max-clients", "maxclients", "processes"])]
    pub(super) max_connections: u32,

    /// Commands at once for one listener, or for the one with this FileDescriptorName= (repeatable)
    #[arg(long, value_name = "N|NAME=N", env = "SOCKCAP_MAX_PER_LISTENER")]
    pub(super) max_per_listener: Vec<String>,

    /// Start a second and further command only while the 1-minute load average is below LOAD
    #[arg(long, value_name = "LOAD", env = "SOCKCAP_LOAD_AVERAGE", visible_alias = "max-load", value_parser = load)]
    pub(super) load_average: Option<f64>,

    /// What a connection over a limit gets: a refusal, or a place in the queue
    #[arg(long, value_name = "WHAT", env = "SOCKCAP_WHEN_FULL", default_value = "refuse", value_parser = ["refuse", "wait"])]
    pub(super) when_full: String,

    /// With wait: refuse who has waited so long, counted from the end of the handshake; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_MAX_WAIT", value_parser = duration)]
    pub(super) max_wait: Option<Duration>,

    /// With wait: refuse who comes while so many wait; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_WAITING", default_value_t = 0, value_parser = number)]
    pub(super) max_waiting: u32,

    /// The protocol of a refusal, as listed below, or file:PATH for the bytes of a file
    #[arg(long, value_name = "PRESET", env = "SOCKCAP_BUSY_REPLY", default_value = "text",
          value_parser = busy_reply)]
    pub(super) busy_reply: Choice,

    /// The words of a refusal; {max}, {active} and {retry} are filled in
    #[arg(long, value_name = "TEXT", env = "SOCKCAP_BUSY_MESSAGE", default_value_t)]
    pub(super) busy_message: Message,

    /// How the command gets its connection: as descriptors 0 and 1, or as 3 with LISTEN_FDS=1
    #[arg(long, value_name = "HOW", env = "SOCKCAP_PASS", default_value = "stdio", value_parser = ["stdio", "listen-fds"])]
    pub(super) pass: String,

    /// The session of a command: its own, which costs more the more processors there are, or the daemon's
    #[arg(long, value_name = "WHOSE", env = "SOCKCAP_SESSION", default_value = "own", value_parser = ["own", "shared"])]
    pub(super) session: String,

    /// Send SIGTERM to a command's process group after so long, and SIGKILL after --kill-grace; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_TIME_LIMIT", value_parser = duration)]
    pub(super) time_limit: Option<Duration>,

    /// Exit with 0 when nothing ran or waited for so long; systemd starts the service again; 0 is never
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_IDLE_EXIT", value_parser = duration)]
    pub(super) idle_exit: Option<Duration>,

    /// On stop, time for running commands before they are sent SIGTERM
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub(super) drain_timeout: Duration,

    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_KILL_GRACE", default_value = "10s", value_parser = duration)]
    pub(super) kill_grace: Duration,

    /// Tell of each connection, too
    #[arg(short, long, env = "SOCKCAP_VERBOSE", value_parser = BoolishValueParser::new(), conflicts_with = "quiet")]
    pub(super) verbose: bool,

    /// Tell of refusals and trouble only
    #[arg(short, long, env = "SOCKCAP_QUIET", value_parser = BoolishValueParser::new())]
    pub(super) quiet: bool,

    /// Where log entries go; auto is the journal if stderr is connected to it
    #[arg(long, value_name = "WHERE", env = "SOCKCAP_LOG_TARGET", default_value = "auto", value_parser = ["auto", "journal", "stderr"])]
    pub(super) log_target: String,

    /// How much of a client's address is told; prefix is the first 24 bits of IPv4, 48 of IPv6, and no port
    #[arg(long, value_name = "HOW", env = "SOCKCAP_LOG_PEER", default_value = "full", value_parser = ["full", "prefix", "none"])]
    pub(super) log_peer: String,

    /// Read everything, print the settings that would hold, and exit with 0 or 2
    #[arg(long, env = "SOCKCAP_CHECK", value_parser = BoolishValueParser::new())]
    pub(super) check: bool,

    /// The command and its arguments, in which {remote_addr} {remote_port} {local_addr} {local_port} {listener} {id} {uid} {pid} {cid} are filled in; {{ is a brace
    #[arg(value_name = "COMMAND", last = true, action = ArgAction::Append)]
    pub(super) command: Vec<OsString>,
}

/// Not a doc comment: rustdoc would take the brackets for a link.
const LISTEN_HELP: &str =
    "Listen without systemd: PORT, HOST:PORT, [IPV6]:PORT, /path, @abstract, vsock:CID:PORT (repeatable)";

impl Args {
    /// clap has judged the words: each is one of those listed with its option.
    pub(super) fn settings(
        self,
        listen: Vec<(String, Place)>,
        max_per_listener: Vec<(Option<String>, u32)>,
    ) -> Settings {
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
