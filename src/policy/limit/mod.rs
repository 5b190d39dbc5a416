//! The limits: one file each and one line in [`LIMITS`], which is the order in which they are asked; the first "no" gives the
//! reason. What they have in common is in [`rule`].
#![forbid(unsafe_code)]

pub(super) mod debtors;
pub mod debts;
pub(super) mod drained;
pub mod gcra;
mod listener;
mod load;
mod outcome;
pub mod penalty;
pub mod pressure;
mod rate;
pub mod rule;
mod source;
mod source_rate;
mod total;

use super::grounds::Info;
use rule::Kind;

/// Every kind of limit, in the order in which they are asked.
pub static LIMITS: [Kind; 8] = [
    penalty::KIND,
    source_rate::KIND,
    source::KIND,
    total::KIND,
    listener::KIND,
    load::KIND,
    pressure::KIND,
    rate::KIND,
];

/// What is said of each, in the same order. A program that names limits and has none need not hold them.
pub static INFOS: [&Info; LIMITS.len()] = {
    let mut all = [LIMITS[0].info; LIMITS.len()];
    let mut at = 1;
    while at < all.len() {
        all[at] = LIMITS[at].info;
        at += 1;
    }
    all
};
