//! What the kernel has no better way for. Each works, so they are told at the start of a verbose log alone; what a user would do something
//! about has an entry of its own (`isolate.rs`).
#![forbid(unsafe_code)]

use crate::child::commands::Apart;
use crate::child::signals;
use crate::observe::event::Event;
use crate::sys::socket;

const GROUPS: &str = "process groups are signalled by number, and what is left of one is looked for in /proc (through a pidfd since Linux 6.9)";
const ASKERS: &str =
    "who asks at the control socket is known by its process number (through SO_PEERPIDFD since Linux 6.5)";
const CGROUPS: &str = "no cgroup is used twice, since whoever is born in one that was killed before is killed, too (a fault of Linux 5.14 to 6.18)";

/// Those that are in use here.
pub(super) fn event(apart: Option<&Apart>) -> Option<Event> {
    let all = [
        (GROUPS, !signals::knows_groups()),
        (ASKERS, !socket::knows_peers()),
        (CGROUPS, apart.is_some_and(Apart::kills_newborn)),
    ];
    let in_use: Vec<_> = all.into_iter().filter_map(|(fallback, is_in_use)| is_in_use.then_some(fallback)).collect();
    (!in_use.is_empty()).then_some(Event::Fallbacks(in_use))
}
