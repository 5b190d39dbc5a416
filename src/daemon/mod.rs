//! The daemon: the one place where sockets, processes, the gate and the log meet.
#![forbid(unsafe_code)]

mod boot;
mod changes;
mod check;
mod fallbacks;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gauges;
mod isolate;
mod run;
pub mod settings;
mod state;

pub use boot::{Failure, start};
pub use check::check;
