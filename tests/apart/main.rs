//! Commands that are kept apart by a cgroup for each connection. Limits need controllers, which `tests/machine` has.

#[path = "../common/mod.rs"]
mod common;

mod births;
mod ends;
mod group;
mod heirs;
mod hostile;
mod slots;
mod soak;
mod users;
