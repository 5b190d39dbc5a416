//! The daemon: the one place where sockets, processes, the gate and the log meet.
#![forbid(unsafe_code)]

mod act;
mod boot;
mod hand_over;
mod run;
pub mod settings;
mod state;
mod stop;
mod time;

pub use boot::{Failure, check, start};
