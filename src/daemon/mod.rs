//! The daemon: the one place where sockets, processes, the gate and the log meet.
#![forbid(unsafe_code)]

mod boot;
mod gauges;
mod run;
pub mod settings;
mod state;

pub use boot::{Failure, check, start};
