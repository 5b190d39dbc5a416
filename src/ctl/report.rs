//! `serve-report`: the metrics of all units for systemd-report, which speaks `io.systemd.Metrics` (systemd 260 and later).
//!
//! One client, whose connection is stdin; `sockcap-report.socket` starts it. The table is the one of Prometheus, in systemd's manner:
//! names in CamelCase, times in microseconds, no histograms. Of counters by reason, result, class or error only those are told that are
//! not 0: systemd-report takes 4,096 metrics at most from the whole machine.
#![forbid(unsafe_code)]

use super::failure::Failure;
use super::globals::Globals;
use super::metrics::snapshots;
use super::output;
use super::units;
use crate::observe::metrics::table::{Kind, METRICS, Metric, Row, Value};
use crate::observe::snapshot::Snapshot;
use crate::observe::varlink::{self, Call, Error};
use crate::sys::plain;
use serde_json::{Value as Json, json};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Name of the socket, where systemd-report demands that all names begin.
const PREFIX: &str = "io.github.sockcap";
/// Name of the interface.
const METRICS_NAME: &str = "io.systemd.Metrics";
/// What is offered: names, in their order, and definitions.
const INTERFACES: &[(&str, &str)] =
    &[(METRICS_NAME, include_str!("io.systemd.Metrics.varlink")), ("org.varlink.service", varlink::SERVICE)];
/// Bytes of a request.
const MOST: usize = 16 << 10;
/// How long a client may take for the next request, or to read a reply.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments: none.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {}

/// Answers until the client leaves.
///
/// # Errors
/// One line: stdin is no connection, or the client cannot be understood.
pub fn run(_options: &Options, globals: &Globals) -> Result<(), Failure> {
    let connection = || -> io::Result<UnixStream> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.peer_addr()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let stream = connection().map_err(|error| {
        let why = plain(&error);
        Failure::usage(format!(
            "serve-report needs a connection as stdin ({why}): `systemctl enable --now sockcap-report.socket` starts it"
        ))
    })?;
    serve(stream, || {
        let units = units::all(globals).map_err(|failure| output::complain(&failure.line)).unwrap_or_default();
        // Who did not answer is told on stderr, which is the journal; the others are reported.
        snapshots(&units).0
    })
}

fn serve(mut stream: UnixStream, snapshots: impl Fn() -> Vec<Snapshot>) -> Result<(), Failure> {
    let (mut received, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(end) = received.iter().position(|byte| *byte == 0) {
            let replies = answer(&received[..end], &snapshots);
            let replies =
                replies.map_err(|error| Failure::failed(format!("the client sent no Varlink call: {error}")))?;
            received.drain(..=end);
            if stream.write_all(&replies).is_err() {
                return Ok(()); // it has left, or does not read
            }
        }
        if received.len() > MOST {
            return Err(Failure::failed(format!("the client sent a request of more than {} KiB", MOST >> 10)));
        }
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(n) => received.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(()), // it has left, or says nothing
        }
    }
}

/// All replies to a call.
fn answer(request: &[u8], snapshots: impl Fn() -> Vec<Snapshot>) -> Result<Vec<u8>, serde_json::Error> {
    let call = varlink::read(request)?;
    let mut out = Vec::new();
    match replies(&call, snapshots) {
        Ok(all) => {
            for (at, reply) in all.iter().enumerate() {
                varlink::reply(&mut out, reply, at + 1 < all.len());
            }
        }
        Err(error) => varlink::refuse(&mut out, error),
    }
    Ok(if call.oneway { Vec::new() } else { out })
}

fn replies(call: &Call, snapshots: impl Fn() -> Vec<Snapshot>) -> Result<Vec<Json>, Error> {
    let (interface, method) = call.method.rsplit_once('.').unwrap_or_default();
    match (interface, method) {
        ("org.varlink.service", _) => Ok(vec![varlink::about(call, method, INTERFACES)?]),
        (METRICS_NAME, "List" | "Describe") if !call.more => Err(Error::ExpectedMore),
        (METRICS_NAME, "Describe") => Ok(reported().map(family).collect()),
        (METRICS_NAME, "List") => match metrics(&snapshots()) {
            none if none.is_empty() => Err(Error::Foreign("io.systemd.Metrics.NoSuchMetric")),
            metrics => Ok(metrics),
        },
        _ => Err(varlink::unknown(call, INTERFACES)),
    }
}

fn reported() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| metric.kind != Kind::Histogram)
}

/// `io.github.sockcap.OldestWaitUSec`
fn name(metric: &Metric) -> String {
    let mut name = format!("{PREFIX}.");
    for word in metric.name.split('_') {
        match word {
            "seconds" => name.push_str("USec"),
            word => {
                name.push_str(&word[..1].to_ascii_uppercase());
                name.push_str(&word[1..]);
            }
        }
    }
    name
}

fn family(metric: &Metric) -> Json {
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    json!({ "name": name(metric), "description": metric.help.replace("in seconds", "in microseconds"), "type": kind })
}

/// Family by family, as they are described.
fn metrics(snapshots: &[Snapshot]) -> Vec<Json> {
    let mut all = Vec::new();
    for metric in reported() {
        let name = name(metric);
        for snapshot in snapshots {
            all.extend(
                (metric.rows)(snapshot).iter().filter_map(|row| one(metric, &name, &snapshot.context.unit, row)),
            );
        }
    }
    all
}

fn one(metric: &Metric, name: &str, unit: &str, row: &Row) -> Option<Json> {
    let value = match row.value {
        Value::Count(number) | Value::Usec(number) => number,
        Value::Histogram(_) => return None,
    };
    let is_divided = metric.labels.iter().any(|label| *label != "listener");
    if value == 0 && is_divided && metric.kind == Kind::Counter {
        return None;
    }
    let labels = metric.labels.iter().zip(&row.labels).filter(|(_, value)| !value.is_empty());
    let mut fields = serde_json::Map::new();
    labels.for_each(|(label, value)| drop(fields.insert((*label).to_owned(), json!(value))));
    Some(match fields.is_empty() {
        true => json!({ "name": name, "object": unit, "value": value }),
        false => json!({ "name": name, "object": unit, "fields": fields, "value": value }),
    })
}
