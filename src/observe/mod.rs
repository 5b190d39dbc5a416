//! What is told: the journal, stderr, and systemd's manager. Each event is worded once, in `words`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod event;
pub mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod http;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod peer;
pub mod report;
pub mod snapshot;
pub mod spanless;
pub mod statistics;
pub mod stream;
pub mod tally;
pub mod varlink;
pub mod words;
