//! The command line: one definition per option, from which help, the manual page and the variables' names come.
//!
//! Words are judged here one by one; what they mean together is `daemon::settings`.
#![forbid(unsafe_code)]

use super::connection::{Connection, isolate};
use super::help;
use super::process::ProcessArgs;
use super::resources::UserPool;
use super::values::*;
use crate::daemon::settings::{Isolate, Settings};
use crate::listen::place::{Family, Place};
use crate::listen::waiting::HalfClose;
use crate::observe::event::Severity;
use crate::observe::log::Target;
use crate::observe::peer::LogPeer;
use crate::policy::gate::WhenFull;
use crate::policy::limit::rule::Penalties;
use crate::policy::network::{Network, Prefixes};
use crate::policy::queue::QueueOrder;
use crate::reply::{Choice, Message};
use crate::sys::launch::{Pass, Session};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgAction, Parser};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Run one COMMAND per connection of the sockets that systemd passes, never more than N at once
#[derive(Debug, Parser)]
#[command(name = "sockcap", version, override_usage = help::USAGE, after_help = help::after())]
pub struct Args {
    /// Where to listen without systemd.
    #[arg(long, value_name = "ADDR", env = "SOCKCAP_LISTEN", help = LISTEN_HELP, help_heading = "Listening")]
    pub(super) listen: Vec<String>,

    /// Restrict host names and bare ports to IPv4
    #[arg(long, env = "SOCKCAP_IPV4", value_parser = switch,
          help_heading = "Listening", hide_short_help = true)]
    pub(super) ipv4: bool,

    /// Restrict host names and bare ports to IPv6
    #[arg(long, env = "SOCKCAP_IPV6", value_parser = switch, help_heading = "Listening", hide_short_help = true)]
    pub(super) ipv6: bool,

    /// Length of the kernel's queue of connections; the kernel caps it at net.core.somaxconn
    #[arg(long, value_name = "N", env = "SOCKCAP_BACKLOG", default_value_t = i32::MAX, value_parser = backlog,
          help_heading = "Listening", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) backlog: i32,

    /// Read each client's address from a PROXY protocol header (version 1 or 2), which has to be there
    #[arg(long, env = "SOCKCAP_PROXY_PROTOCOL", value_parser = switch,
          help_heading = "Listening", hide_short_help = true)]
    pub(super) proxy_protocol: bool,

    /// Who may send a PROXY header: ADDRESS, NETWORK/BITS, uid=N, cid=N (repeatable); default loopback and UNIX
    #[arg(
        long,
        value_name = "NETWORK",
        env = "SOCKCAP_PROXY_FROM",
        help_heading = "Listening",
        hide_short_help = true
    )]
    pub(super) proxy_from: Vec<String>,

    /// Commands running at once over all listeners; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_CONNECTIONS", default_value_t = 100, value_parser = number,
          visible_aliases = ["max-clients", "maxclients", "processes"], help_heading = "Limits", allow_negative_numbers = true)]
    pub(super) max_connections: u32,

    /// Commands running at once per listener, or for the one with this FileDescriptorName= (repeatable)
    #[arg(
        long,
        value_name = "N|NAME=N",
        env = "SOCKCAP_MAX_PER_LISTENER",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub(super) max_per_listener: Vec<String>,

    /// Commands running and clients held at once of one source, or of one network of N@PREFIX (repeatable)
    #[arg(
        long,
        value_name = "N|N@PREFIX",
        env = "SOCKCAP_MAX_PER_SOURCE",
        help_heading = "Limits",
        allow_negative_numbers = true
    )]
    pub(super) max_per_source: Vec<String>,

    /// Bits of an IPv4 and of an IPv6 address that make one source
    #[arg(long, value_name = "V4,V6", env = "SOCKCAP_SOURCE_PREFIX", default_value = "32,64", value_parser = prefixes,
          help_heading = "Limits", hide_short_help = true)]
    pub(super) source_prefix: Prefixes,

    /// Commands started in DURATION over all listeners, and BURST at once, by default N; 0 is no limit
    #[arg(long, value_name = "N/DURATION[:BURST]", env = "SOCKCAP_MAX_RATE", value_parser = rate,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) max_rate: Option<RateLimit>,

    /// Connections of one source in DURATION, and BURST at once, by default N; 0 is no limit
    #[arg(long, value_name = "N/DURATION[:BURST]", env = "SOCKCAP_MAX_RATE_PER_SOURCE", value_parser = rate,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) max_rate_per_source: Option<RateLimit>,

    /// Refuse a source for how its commands ended: a status, signal, time-limit, oom, or the preset sshd
    #[arg(long, value_name = "STATUS=DURATION[:always],...", env = "SOCKCAP_PENALTY", value_parser = penalties,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) penalty: Option<Penalized>,

    /// Refuse a source once its penalties add up to this
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_PENALTY_MIN", default_value = "15s", value_parser = duration,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) penalty_min: Duration,

    /// The most that the penalties of a source add up to; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_PENALTY_MAX", default_value = "10min", value_parser = limit,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) penalty_max: Duration,

    /// Sources that a rate per source or penalties remember; who is being limited is not forgotten for others
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_SOURCES", default_value_t = 65536, value_parser = sources,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) max_sources: u32,

    /// Clients that limits on sources and rates spare: ADDRESS, NETWORK/BITS, uid=N, cid=N (repeatable)
    #[arg(long, value_name = "NETWORK", env = "SOCKCAP_EXEMPT", help_heading = "Limits", hide_short_help = true)]
    pub(super) exempt: Vec<String>,

    /// Slots of --max-connections that only clients of --exempt may take
    #[arg(long, value_name = "N", env = "SOCKCAP_RESERVED", default_value_t = 0, value_parser = count,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) reserved: u32,

    /// Start further commands, after the first, only while the 1-minute load average is below LOAD
    #[arg(long, value_name = "LOAD", env = "SOCKCAP_LOAD_AVERAGE", visible_alias = "max-load", value_parser = load,
          help_heading = "Limits", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) load_average: Option<f64>,

    /// Start further commands, after the first, only while tasks are stalled less than P % of the time
    #[arg(long, value_name = "cpu=P,memory=P,io=P", env = "SOCKCAP_MAX_PRESSURE", value_parser = pressure,
          help_heading = "Limits", hide_short_help = true)]
    pub(super) max_pressure: Option<Pressures>,

    /// Only log and count what these limits (or all but that on all connections) would refuse
    #[arg(long, value_name = "LIMIT,...", env = "SOCKCAP_DRY_RUN", value_parser = dry_run, num_args = 0..=1,
          require_equals = true, default_missing_value = "yes", help_heading = "Limits", hide_short_help = true)]
    pub(super) dry_run: Option<DryRun>,

    /// Refuse a connection over a limit, or let it wait for its turn
    #[arg(long, value_name = "refuse|wait", env = "SOCKCAP_WHEN_FULL", default_value = "refuse",
          value_parser = ["refuse", "wait"], help_heading = "Waiting and refusing")]
    pub(super) when_full: String,

    /// With wait: refuse a client that has waited this long since its handshake; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_MAX_WAIT", value_parser = limit,
          help_heading = "Waiting and refusing", allow_negative_numbers = true)]
    pub(super) max_wait: Option<Duration>,

    /// With wait: refuse new clients while N are waiting; 0 is no limit
    #[arg(long, value_name = "N", env = "SOCKCAP_MAX_WAITING", default_value_t = 0, value_parser = number,
          help_heading = "Waiting and refusing", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) max_waiting: u32,

    /// With wait: keep the place of a client that has shut down its side and sent nothing, or count it as gone
    #[arg(long, value_name = "serve|gone", env = "SOCKCAP_HALF_CLOSE", default_value = "serve",
          value_parser = ["serve", "gone"], help_heading = "Waiting and refusing", hide_short_help = true)]
    pub(super) half_close: String,

    /// With wait: serve first who came first, or the waiting source with the fewest running
    #[arg(long, value_name = "fifo|fair", env = "SOCKCAP_QUEUE_ORDER", default_value = "fifo",
          value_parser = ["fifo", "fair"], help_heading = "Waiting and refusing", hide_short_help = true)]
    pub(super) queue_order: String,

    /// Protocol of a refusal: a PRESET that --help lists, or file:PATH for the bytes of a file
    #[arg(long, value_name = "PRESET", env = "SOCKCAP_BUSY_REPLY", default_value = "text", value_parser = busy_reply,
          help_heading = "Waiting and refusing")]
    pub(super) busy_reply: Choice,

    /// Text of a refusal; {max}, {active} and {retry} are replaced
    #[arg(
        long,
        value_name = "TEXT",
        env = "SOCKCAP_BUSY_MESSAGE",
        default_value_t,
        help_heading = "Waiting and refusing",
        hide_short_help = true
    )]
    pub(super) busy_message: Message,

    /// Give the command its connection as descriptors 0 and 1, or as descriptor 3 with LISTEN_FDS=1
    #[arg(long, value_name = "stdio|listen-fds", env = "SOCKCAP_PASS", default_value = "stdio",
          value_parser = ["stdio", "listen-fds"], help_heading = "The command", hide_short_help = true)]
    pub(super) pass: String,

    /// Run each command in a session of its own (costs more with more CPUs) or in the daemon's
    #[arg(long, value_name = "own|shared", env = "SOCKCAP_SESSION", default_value = "own",
          value_parser = ["own", "shared"], help_heading = "The command", hide_short_help = true)]
    pub(super) session: String,

    /// Name that the command gets as its own, for tcpd and programs that behave according to their name; default COMMAND
    #[arg(long, value_name = "NAME", env = "SOCKCAP_ARGV0", value_parser = NonEmptyStringValueParser::new(),
          help_heading = "The command", hide_short_help = true)]
    pub(super) argv0: Option<String>,

    #[command(flatten)]
    pub(super) process: ProcessArgs,

    /// Keep commands apart: signals, cgroup, or both; yes is all that can be had, and with '-' before it a part may be missing
    #[arg(long, value_name = "PART,...", env = "SOCKCAP_ISOLATE", value_parser = isolate, num_args = 0..=1,
          require_equals = true, default_missing_value = "yes", help_heading = "The command", hide_short_help = true)]
    pub(super) isolate: Option<Isolate>,

    /// Send SIGTERM to a command's process group after this long, SIGKILL after --kill-grace; 0 is no limit
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_TIME_LIMIT", value_parser = limit, help_heading = "The command",
          allow_negative_numbers = true)]
    pub(super) time_limit: Option<Duration>,

    #[command(flatten)]
    pub(super) connection: Connection,

    /// On a stop, let running commands finish for this long, then send them SIGTERM
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration,
          help_heading = "Stopping", allow_negative_numbers = true)]
    pub(super) drain_timeout: Duration,

    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_KILL_GRACE", default_value = "10s", value_parser = duration,
          help_heading = "Stopping", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) kill_grace: Duration,

    /// Exit with 0 after being idle for this long; systemd starts the service for the next client; 0 is never
    #[arg(long, value_name = "DURATION", env = "SOCKCAP_IDLE_EXIT", value_parser = limit, help_heading = "Stopping",
          hide_short_help = true, allow_negative_numbers = true)]
    pub(super) idle_exit: Option<Duration>,

    /// Control socket for sockcapctl and Varlink clients, for root and the daemon's user; a passed `varlink` listener replaces it
    #[arg(long, value_name = "PATH", env = "SOCKCAP_CONTROL", value_parser = control, help_heading = "Observing",
          hide_short_help = true)]
    pub(super) control: Option<PathBuf>,

    /// Balancers that ask a listener named agent-check: each is told its part of --max-connections
    #[arg(long, value_name = "N", env = "SOCKCAP_AGENT_SHARE", default_value = "1", value_parser = share,
          help_heading = "Observing", hide_short_help = true, allow_negative_numbers = true)]
    pub(super) agent_share: NonZeroU32,

    /// Also log every connection
    #[arg(short, long, env = "SOCKCAP_VERBOSE", value_parser = switch,
          help_heading = "Logging")]
    pub(super) verbose: bool,

    /// Log only refusals and problems
    #[arg(short, long, env = "SOCKCAP_QUIET", value_parser = switch, help_heading = "Logging")]
    pub(super) quiet: bool,

    /// Where log entries go; auto is the journal if stderr is connected to it, else plain lines
    #[arg(long, value_name = "auto|journal|stderr", env = "SOCKCAP_LOG_TARGET", default_value = "auto",
          value_parser = ["auto", "journal", "stderr"], help_heading = "Logging", hide_short_help = true)]
    pub(super) log_target: String,

    /// How much of a client's address is logged; prefix is 24 bits of IPv4, 48 of IPv6, and no port
    #[arg(long, value_name = "full|prefix|none", env = "SOCKCAP_LOG_PEER", default_value = "full",
          value_parser = ["full", "prefix", "none"], help_heading = "Logging", hide_short_help = true)]
    pub(super) log_peer: String,

    /// Validate, print the effective settings, and exit (0 valid, 2 not)
    #[arg(long, env = "SOCKCAP_CHECK", value_parser = switch, help_heading = "Other")]
    pub(super) check: bool,

    /// Not shown as it stands: the usage line names it, and `help` has its placeholders.
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
        max_per_listener_origin: String,
        max_per_source: Vec<(u32, Prefixes)>,
        exempt: Vec<Network>,
        proxy_from: Vec<Network>,
    ) -> Settings {
        Settings {
            listen,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::V4,
                (_, true) => Family::V6,
                _ => Family::Any,
            },
            backlog: self.backlog,
            proxy_protocol: self.proxy_protocol,
            proxy_from,
            max_connections: self.max_connections,
            max_per_listener,
            max_per_listener_origin,
            max_per_source,
            source_prefix: self.source_prefix,
            max_rate: self.max_rate.and_then(|RateLimit(rate)| rate),
            max_rate_per_source: self.max_rate_per_source.and_then(|RateLimit(rate)| rate),
            penalties: Penalties {
                of: self.penalty.map(|Penalized(of)| of).unwrap_or_default(),
                min: self.penalty_min,
                max: if self.penalty_max.is_zero() { Duration::MAX } else { self.penalty_max },
            },
            max_sources: self.max_sources,
            exempt,
            reserved: self.reserved,
            load_average: self.load_average,
            max_pressure: self.max_pressure.map(|Pressures(limits)| limits).unwrap_or_default(),
            when_full: if self.when_full == "wait" { WhenFull::Wait } else { WhenFull::Refuse },
            max_wait: self.max_wait.filter(|max| !max.is_zero()),
            max_waiting: self.max_waiting,
            dry_run: self.dry_run.map(|DryRun(limits)| limits).unwrap_or_default(),
            half_close: if self.half_close == "gone" { HalfClose::Gone } else { HalfClose::Serve },
            queue_order: match self.queue_order.as_str() {
                "fair" => QueueOrder::Fair(self.source_prefix),
                _ => QueueOrder::Fifo,
            },
            busy_reply: self.busy_reply,
            busy_message: self.busy_message,
            pass: if self.pass == "listen-fds" { Pass::ListenFds } else { Pass::Stdio },
            session: if self.session == "shared" { Session::Shared } else { Session::Own },
            argv0: self.argv0,
            attributes: self.process.wanted(),
            isolate: self.isolate.unwrap_or_default(),
            connection_limits: self.connection.limits(),
            slot_until: self.connection.slot_until,
            uid_pool: self.connection.uid_pool.map(|UserPool(first, last)| (first, last)),
            time_limit: self.time_limit.filter(|limit| !limit.is_zero()),
            idle_exit: self.idle_exit.filter(|idle| !idle.is_zero()),
            drain_timeout: self.drain_timeout,
            kill_grace: self.kill_grace,
            control: self.control,
            max_severity: match (self.verbose, self.quiet) {
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
            agent_share: self.agent_share,
            command: self.command,
        }
    }
}
