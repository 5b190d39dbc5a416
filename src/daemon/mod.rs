//! The daemon: the one place where sockets, processes, the gate and the log meet.
#![forbid(unsafe_code)]

mod act;
mod boot;
mod run;
pub mod settings;
mod stop;

pub use boot::{Failure, check, start};
