//! What sockcapctl shows of a daemon that answers anything.
#![forbid(unsafe_code)]

use super::client::fuzz::replies;
use super::output::Paint;
use super::units::Unit;
use super::words::Table;
use super::{limits, list, status, tables};
use crate::fuzzing::bytes::Choices;
use crate::observe::agent;
use crate::observe::fuzz::assert_page;
use crate::observe::metrics::{Dialect, write};
use crate::observe::snapshot::{Connection, Snapshot};
use serde_json::Value;
use std::num::NonZeroU32;
use std::ops::Range;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// `PIECES BYTES`: what a daemon answers, in such pieces.
pub(crate) fn answers(data: &[u8]) {
    let mut from = Choices(data);
    let (how, said) = (from.byte(), from.0);
    let (all, failure) = replies(said, 0);
    let in_parts = replies(said, how.max(1));
    assert_eq!((&all, &failure.line), (&in_parts.0, &in_parts.1.line), "in other pieces ({how})");
    assert!(!failure.line.is_empty());
    all.into_iter().for_each(show);
}

fn show(reply: Value) {
    let (snapshot, connection) = (serde_json::from_value::<Snapshot>(reply.clone()), reply["connection"].clone());
    if let Ok(connection) = serde_json::from_value::<Connection>(connection) {
        let mut table = Table::new(tables::CONNECTIONS);
        table.row(tables::connection(&connection, u64::MAX / 2));
        assert_visible(&table.text(Some(WIDTH)), 2..3);
    }
    let Ok(snapshot) = snapshot else { return };
    // It is what it is, however often it is written.
    let again = serde_json::from_value::<Snapshot>(serde_json::to_value(&snapshot).unwrap()).unwrap();
    assert_eq!(again, snapshot);
    for width in [None, Some(WIDTH), Some(1)] {
        assert_visible(&status::text("x", &snapshot, Paint::none(), width), 5..100);
    }
    let mut table = Table::new(list::HEADER);
    table.row(list::row(&Unit { name: "x".into(), path: "/x".into() }, &snapshot));
    assert_visible(&table.text(Some(WIDTH)), 2..3);
    for dialect in [Dialect::Text004, Dialect::OpenMetrics] {
        assert_page(&write(std::slice::from_ref(&snapshot), dialect), dialect);
    }
    let line = agent::line(&snapshot, NonZeroU32::MIN);
    assert!(line.ends_with('\n') && line.lines().count() == 1 && !line.contains("maxconn:0"), "{line:?}");
    for (name, value) in limits::told(&snapshot.context.limits) {
        assert!(!name.is_empty());
        limits::is_limit(&value);
    }
}

/// So many lines, in which nothing moves the cursor.
fn assert_visible(text: &str, lines: Range<usize>) {
    assert!(lines.contains(&text.lines().count()), "{text:?}");
    assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
}
