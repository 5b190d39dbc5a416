//! sockcap runs one command per connection of a listening socket, never more than N at once.
//!
//! What is over the cap waits in order or is told why and closed; each refusal is a journal entry.
//! Imports go down only, and rooms on one floor do not import each other (`tests/floors.rs`):
//!
//! ```text
//!  floor 5   ctl                                     sockcapctl, which asks and changes a daemon that runs
//!  floor 4   main.rs  cli                            words in, exit code out
//!  floor 3   daemon                                  the loop: events in, actions carried out
//!  floor 2   listen (sockets)   child (processes)   observe (journal, notify)
//!  floor 1   peer (who is at the other end)
//!  floor 0   policy (pure: decides)   reply (pure: busy bytes)   poll (what is watched)   sys (the only unsafe code)
//! ```

#![deny(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("sockcap needs Linux: clone(2), signalfd(2), TCP_INFO and systemd's socket activation");

pub mod child;
pub mod cli;
pub mod ctl;
pub mod daemon;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod listen;
pub mod observe;
pub mod peer;
pub mod policy;
pub mod poll;
pub mod reply;
pub mod sys;
