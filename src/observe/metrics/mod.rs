//! Metrics: one table, from which a page for Prometheus, a file for node_exporter and systemd's own report are written.
#![forbid(unsafe_code)]

pub mod table;
#[cfg(test)]
mod tests;
pub mod text;

pub use self::text::{Dialect, dialect, write};

use super::http::{self, Request, Status};
use super::snapshot::Snapshot;

/// The answer to what a client of the metrics listener has sent so far, after which the connection is closed; `None` while its
/// request is not complete. Only a request for the metrics calls `snapshot`.
pub fn answer(received: &[u8], snapshot: impl FnOnce() -> Snapshot) -> Option<Vec<u8>> {
    match http::read(received) {
        Request::Incomplete => None,
        Request::Bad(status) => Some(http::refusal(status)),
        Request::Get { path: "/metrics", accept, is_head } => {
            let dialect = dialect(&accept);
            let page = write(&[snapshot()], dialect);
            Some(http::response(Status::Ok, dialect.content_type(), &page, is_head))
        }
        Request::Get { is_head, .. } => {
            Some(http::response(Status::NotFound, "text/plain", "The metrics are at /metrics.\n", is_head))
        }
    }
}
