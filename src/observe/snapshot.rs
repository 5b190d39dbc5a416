//! What anybody outside may ask: the daemon's settings and state as plain data, from which the control socket, metrics and the agent's
//! line are written. The names are those of `io.github.sockcap.Daemon.varlink`, which explains each field.
//!
//! `sockcapctl` reads the same types. What an older or newer daemon does not send has its default.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// The interface definition, as varlink(7) clients ask for it.
pub const INTERFACE: &str = include_str!("io.github.sockcap.Daemon.varlink");
/// Its name.
pub const NAME: &str = "io.github.sockcap.Daemon";

/// Everything: the reply to `Describe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The settings.
    pub context: Context,
    /// The state.
    pub runtime: Runtime,
}

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Context {
    pub version: String,
    pub unit: String,
    pub command: String,
    pub when_full: String,
    pub queue_order: String,
    pub limits: Limits,
    #[serde(rename = "timeLimitUSec")]
    pub time_limit_usec: u64,
    #[serde(rename = "idleExitUSec")]
    pub idle_exit_usec: u64,
    pub max_sources: u64,
    pub proxy_protocol: bool,
    pub dry_run: Vec<String>,
}

/// What can be changed while the daemon runs. `None`: as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_listener: Option<Vec<ListenerLimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_source: Option<Vec<SourceLimit>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rate_per_source: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<f64>,
    #[serde(rename = "maxWaitUSec", skip_serializing_if = "Option::is_none")]
    pub max_wait_usec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<u32>,
}

/// `--max-per-listener`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct ListenerLimit {
    pub listener: String,
    pub max: u32,
}

/// `--max-per-source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct SourceLimit {
    pub max: u32,
    pub ipv4_prefix: Option<u8>,
    pub ipv6_prefix: Option<u8>,
}

/// A rate; a count of 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Rate {
    pub count: u32,
    #[serde(rename = "perUSec")]
    pub per_usec: u64,
    pub burst: u32,
}

/// What the daemon does with connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Serves them.
    #[default]
    Running,
    /// Serves them on while load balancers learn of a drain that is about to begin.
    Draining,
    /// Starts no further commands, since that was asked for.
    Drained,
    /// Ends.
    Stopping,
    /// Does what only a newer version does. No daemon says this.
    #[serde(other)]
    Other,
}

/// How often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// Spans, sorted into buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Histogram {
    pub name: String,
    #[serde(rename = "boundsUSec")]
    pub bounds_usec: Vec<u64>,
    pub counts: Vec<u64>,
    #[serde(rename = "sumUSec")]
    pub sum_usec: u64,
}

/// A source that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct RefusedSource {
    pub source: String,
    pub count: u64,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Listener {
    pub name: String,
    pub label: String,
    pub address: String,
    pub is_paused: bool,
    pub max: u32,
    pub active: u32,
    pub held: u32,
    pub queued: Option<u32>,
    pub accepted: u64,
    pub served: u64,
    pub gone: u64,
    pub refused: Vec<Count>,
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Runtime {
    pub phase: Phase,
    #[serde(rename = "startedUSec")]
    pub started_usec: u64,
    #[serde(rename = "nowUSec")]
    pub now_usec: u64,
    pub active: u32,
    pub held: u32,
    pub queued: u32,
    #[serde(rename = "oldestWaitUSec")]
    pub oldest_wait_usec: Option<u64>,
    pub accepted: u64,
    pub served: u64,
    pub gone: u64,
    pub refused: Vec<Count>,
    pub would_refuse: Vec<Count>,
    pub ended: Vec<Count>,
    pub start_failures: Vec<Count>,
    pub accept_errors: Vec<Count>,
    pub wait_times: Vec<Histogram>,
    pub session_times: Histogram,
    pub sources_active: u32,
    pub source_table_entries: u32,
    pub source_table_overflow: u64,
    pub sources_penalised: u32,
    pub gates_closed: Vec<String>,
    pub log_entries_lost: u64,
    pub log_level: u8,
    pub listeners: Vec<Listener>,
    pub top_refused: Vec<RefusedSource>,
}

/// A command that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Connection {
    pub id: Option<u64>,
    pub pid: i32,
    pub listener: Option<String>,
    pub source: String,
    pub peer_port: u32,
    pub is_exempt: bool,
    #[serde(rename = "sinceUSec")]
    pub since_usec: u64,
    #[serde(rename = "waitedUSec")]
    pub waited_usec: Option<u64>,
}

/// A client that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Client {
    pub ticket: u64,
    pub listener: String,
    pub source: String,
    pub peer_port: u32,
    pub is_exempt: bool,
    #[serde(rename = "sinceUSec")]
    pub since_usec: u64,
}

/// A source, and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the interface definition explains each")]
pub struct Source {
    pub source: String,
    pub active: u32,
    pub held: u32,
    pub refused: u64,
    #[serde(rename = "penaltyUSec")]
    pub penalty_usec: u64,
    #[serde(rename = "rateUSec")]
    pub rate_usec: u64,
}
