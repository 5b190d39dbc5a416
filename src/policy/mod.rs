//! What may run, what waits and what is refused: pure, no I/O, no clock of its own.
//!
//! Time is an argument everywhere; `daemon` carries out what is decided here.
#![forbid(unsafe_code)]

pub mod arrival;
pub mod back_off;
pub mod episode;
pub mod gate;
pub mod grounds;
pub mod least;
pub mod limit;
pub mod network;
pub mod phase;
pub mod queue;
pub mod reason;
pub mod resource;
pub mod source;
pub mod throttle;
pub mod top;
