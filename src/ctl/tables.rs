//! `connections`, `waiting` and `sources`: a row each.
#![forbid(unsafe_code)]

use super::ask::print_json;
use super::client::{Client, Nothing};
use super::failure::Failure;
use super::globals::Globals;
use super::output;
use super::units::{self, Unit};
use super::words::{self, Table};
use crate::observe::snapshot::{self, Connection};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A reply of ListConnections; without fields if none runs.
#[derive(Clone, Debug, Deserialize)]
pub struct OfConnection {
    /// It, if there is one.
    pub connection: Option<Connection>,
}

#[derive(Deserialize)]
struct OfClient {
    client: Option<snapshot::Client>,
}

#[derive(Deserialize)]
struct OfSource {
    source: Option<snapshot::Source>,
}

#[derive(Clone, Copy, Serialize)]
struct Most {
    limit: u32,
}

/// Columns of `connections`.
pub const CONNECTIONS: &[&str] = &[">ID", ">PID", "SOURCE", ">PORT", "LISTENER", ">AGE", ">WAITED"];

/// # Errors
/// As of asking.
pub fn connections(unit: Option<&str>, globals: &Globals) -> Result<(), Failure> {
    let now = words::now_usec();
    let listed = Listed { method: "ListConnections", nothing: "No command runs.", header: CONNECTIONS };
    listed.run(unit, globals, Nothing {}, |of: OfConnection| Some(connection(&of.connection?, now)))
}

/// # Errors
/// As of asking.
pub fn waiting(unit: Option<&str>, globals: &Globals) -> Result<(), Failure> {
    let now = words::now_usec();
    let header = &[">TICKET", "SOURCE", ">PORT", "LISTENER", ">WAITING"];
    let listed = Listed { method: "ListWaiting", nothing: "No client is held.", header };
    listed.run(unit, globals, Nothing {}, |of: OfClient| {
        let client = of.client?;
        Some(vec![
            client.ticket.to_string(),
            client.source,
            port(client.peer_port),
            client.listener,
            words::span(now.saturating_sub(client.since_usec)),
        ])
    })
}

/// # Errors
/// As of asking.
pub fn sources(unit: Option<&str>, limit: u32, globals: &Globals) -> Result<(), Failure> {
    let header = &["SOURCE", ">ACTIVE", ">HELD", ">REFUSED", ">PENALTY", ">RATE"];
    let listed = Listed { method: "ListSources", nothing: "No source is known.", header };
    listed.run(unit, globals, Most { limit }, |of: OfSource| {
        let source = of.source?;
        Some(vec![
            source.source,
            source.active.to_string(),
            source.held.to_string(),
            source.refused.to_string(),
            some_span(source.penalty_usec),
            some_span(source.rate_usec),
        ])
    })
}

/// A row of `connections`.
pub fn connection(connection: &Connection, now: u64) -> Vec<String> {
    vec![
        connection.id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
        if connection.pid == 0 { "-".to_owned() } else { connection.pid.to_string() },
        connection.source.clone(),
        port(connection.peer_port),
        connection.listener.clone().unwrap_or_else(|| "-".to_owned()),
        words::span(now.saturating_sub(connection.since_usec)),
        connection.waited_usec.map_or_else(|| "-".to_owned(), words::span),
    ]
}

fn port(port: u32) -> String {
    if port == 0 { "-".to_owned() } else { port.to_string() }
}

fn some_span(usec: u64) -> String {
    if usec == 0 { "-".to_owned() } else { words::span(usec) }
}

struct Listed {
    method: &'static str,
    nothing: &'static str,
    header: &'static [&'static str],
}

impl Listed {
    /// Of one unit, or of all that run, which then have a column of their own.
    fn run<R: serde::de::DeserializeOwned>(
        &self,
        unit: Option<&str>,
        globals: &Globals,
        parameters: impl Serialize + Copy,
        row: impl Fn(R) -> Option<Vec<String>>,
    ) -> Result<(), Failure> {
        let units = units::one_or_all(unit, globals)?;
        let is_named = unit.is_some();
        if globals.json {
            return units::each(&units, |unit| self.as_json(unit, is_named, parameters));
        }
        let header = if is_named { self.header.to_vec() } else { [&["UNIT"], self.header].concat() };
        let mut table = Table::new(&header);
        let asked = units::each(&units, |unit| {
            Client::connect(unit)?.list(self.method, parameters, |of| {
                let prefix = if is_named { vec![] } else { vec![unit.name.clone()] };
                if let Some(row) = row(of) {
                    table.row([prefix, row].concat());
                }
                Ok(true)
            })
        });
        match table.is_empty() {
            true if asked.is_ok() => output::print(&format!("{}\n", self.nothing))?,
            true => {}
            false => output::print(&table.text(output::width()))?,
        }
        asked
    }

    /// Each as it comes. One without fields says that there is none.
    fn as_json(&self, unit: &Unit, is_named: bool, parameters: impl Serialize) -> Result<(), Failure> {
        Client::connect(unit)?.list(self.method, parameters, |reply: Value| {
            if reply.as_object().is_some_and(|fields| !fields.is_empty()) {
                print_json(reply, (!is_named).then_some(&unit.name))?;
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit() {
        let mut table = Table::new(CONNECTIONS);
        let one = |source: &str, listener: Option<&str>| Connection {
            id: Some(123_456),
            pid: 4_194_303,
            listener: listener.map(str::to_owned),
            source: source.into(),
            peer_port: 65_535,
            since_usec: 1_000_000,
            waited_usec: Some(59_000_000),
            ..Connection::default()
        };
        table.row(connection(&one("192.0.2.1", Some("rsync")), 193_000_000));
        table.row(connection(&one("2001:db8:1111:2222:3333:4444:5555:6666", None), 193_000_000));
        let lines = table.lines(Some(80));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        table = Table::new(CONNECTIONS);
        table.row(connection(&Connection { source: "?".into(), pid: 7, ..Connection::default() }, 0));
        assert_eq!(
            table.lines(None),
            ["ID  PID  SOURCE  PORT  LISTENER  AGE  WAITED", " -    7  ?          -  -           0       -"]
        );
    }
}
