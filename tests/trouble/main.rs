//! Exhaustion, crashes, failing system calls, and a million connections.

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod books;
mod container;
mod exhaustion;
mod faults;
mod hidden_proc;
mod launch;
mod loaded;
mod soak;
mod starter;
mod stop;
mod stream;
mod survivors;
mod versions;
