//! Serving and refusing: what comes in, what a command finds, what may be typed, and what a refused client is told.

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod clients;
mod command;
mod fleet;

mod held_replies;
mod listen;
mod metrics;
mod prometheus;
mod proxy;
mod refusal;
mod sockets;
mod stream;
mod usage;
mod usage_sources;
