//! Who waits, for how long and in which order; what one source may have; what ends by the clock.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod fair;
mod penalty;
mod pressure;
mod rates;
mod signals;
mod sources;
mod stop;
mod time;
mod waiting;
