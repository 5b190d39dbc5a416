//! What is taken from the kernel on trust, and what one connection may cost.

#[path = "../common/mod.rs"]
mod common;

mod promises;
mod sleeps;
mod syscalls;
