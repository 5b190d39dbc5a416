//! Settings and state of a daemon, and how they are printed as JSON: as the reply is, and with the unit where several were asked.
#![forbid(unsafe_code)]

use super::client::{Client, Nothing};
use super::failure::Failure;
use super::output;
use super::units::Unit;
use crate::observe::snapshot::Snapshot;
use serde_json::Value;

/// Settings and state.
///
/// # Errors
/// As of [`Client::connect`] and [`Client::call`].
pub fn describe(unit: &Unit) -> Result<Snapshot, Failure> {
    Client::connect(unit)?.call("Describe", Nothing {})
}

/// The same, printed as JSON.
///
/// # Errors
/// As of [`describe`], or of printing.
pub fn describe_as_json(unit: &Unit, is_named: bool) -> Result<(), Failure> {
    let reply = Client::connect(unit)?.call("Describe", Nothing {})?;
    print_json(reply, (!is_named).then_some(&unit.name))
}

/// One reply in a line; of several units each has its `unit`.
///
/// # Errors
/// As of printing.
pub fn print_json(mut reply: Value, unit: Option<&String>) -> Result<(), Failure> {
    if let (Some(fields), Some(unit)) = (reply.as_object_mut(), unit) {
        fields.insert("unit".to_owned(), Value::String(unit.clone()));
    }
    output::print(&output::json(&reply))
}
