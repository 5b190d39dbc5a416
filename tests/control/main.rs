//! Asking a running daemon: the control socket, and the listeners that are for questions.

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod calls;
mod changes;
mod convert;
mod ctl;
mod listeners;
mod metrics;
mod set;
