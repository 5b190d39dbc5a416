//! Options on what one connection may use, and on whether its slot is free.
#![forbid(unsafe_code)]

use super::resources::*;
use super::values::switch;
use crate::child::cgroups::limits::{CpuWeight, Limits};
use crate::child::commands::SlotUntil;
use crate::daemon::settings::{Isolate, Wish};

/// See the text of each.
#[derive(Debug, clap::Args)]
pub struct Connection {
    /// Memory of each connection, in bytes (100M) or of the machine's (5%); beyond it all of the connection is killed
    #[arg(long, value_name = "BYTES", env = "SOCKCAP_MEMORY_MAX", value_parser = bytes,
          help_heading = HEADING, hide_short_help = true)]
    pub(super) memory_max: Option<Bytes>,

    /// Memory of each connection, beyond which it is slowed down
    #[arg(long, value_name = "BYTES", env = "SOCKCAP_MEMORY_HIGH", value_parser = bytes, help_heading = HEADING,
          hide_short_help = true)]
    pub(super) memory_high: Option<Bytes>,

    /// Processes and threads of each connection
    #[arg(long, value_name = "N", env = "SOCKCAP_TASKS_MAX", value_parser = tasks, help_heading = HEADING,
          hide_short_help = true, allow_negative_numbers = true)]
    pub(super) tasks_max: Option<Tasks>,

    /// Weight of each connection among others that want processors, from 1 to 10000 (100 is usual), or idle
    #[arg(long, value_name = "WEIGHT", env = "SOCKCAP_CPU_WEIGHT", value_parser = cpu_weight, help_heading = HEADING,
          hide_short_help = true, allow_negative_numbers = true)]
    pub(super) cpu_weight: Option<CpuWeight>,

    /// Processor time of each connection: a percentage of one processor, or TIME/PERIOD
    #[arg(long, value_name = "P%|TIME/PERIOD", env = "SOCKCAP_CPU_MAX", value_parser = cpu_max, help_heading = HEADING,
          hide_short_help = true, allow_negative_numbers = true)]
    pub(super) cpu_max: Option<CpuTime>,

    /// Weight of each connection among others that want block devices, from 1 to 10000 (100 is usual)
    #[arg(long, value_name = "WEIGHT", env = "SOCKCAP_IO_WEIGHT", value_parser = io_weight, help_heading = HEADING,
          hide_short_help = true, allow_negative_numbers = true)]
    pub(super) io_weight: Option<u32>,

    /// A slot is free when its command has ended, or when all processes of its cgroup have
    #[arg(long, value_name = "command|cgroup", env = "SOCKCAP_SLOT_UNTIL", default_value = "command",
          value_parser = slot_until, help_heading = HEADING, hide_short_help = true)]
    pub(super) slot_until: SlotUntil,

    /// Numbers of users and groups: each connection gets one that no other has, as long as a process of it lives
    #[arg(long, value_name = "FIRST-LAST", env = "SOCKCAP_UID_POOL", value_parser = uid_pool, help_heading = HEADING,
          hide_short_help = true, allow_hyphen_values = true)]
    pub(super) uid_pool: Option<UserPool>,
}

const HEADING: &str = "Each connection (with --isolate=cgroup)";

impl Connection {
    /// What the kernel is to hold it to.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory_max: self.memory_max.and_then(|Bytes(bytes)| bytes),
            memory_high: self.memory_high.and_then(|Bytes(bytes)| bytes),
            tasks_max: self.tasks_max.and_then(|Tasks(tasks)| tasks),
            cpu_weight: self.cpu_weight,
            cpu_max: self.cpu_max.and_then(|CpuTime(max)| max),
            io_weight: self.io_weight,
        }
    }

    /// The option, by its field's name, that means nothing without a cgroup for each connection.
    pub(super) fn needs_cgroup(&self) -> Option<&'static str> {
        let Limits { memory_max, memory_high, tasks_max, cpu_weight, cpu_max, io_weight } = self.limits();
        [
            ("memory_max", memory_max.is_some()),
            ("memory_high", memory_high.is_some()),
            ("tasks_max", tasks_max.is_some()),
            ("cpu_weight", cpu_weight.is_some()),
            ("cpu_max", cpu_max.is_some()),
            ("io_weight", io_weight.is_some()),
            ("slot_until", self.slot_until == SlotUntil::Cgroup),
            ("uid_pool", self.uid_pool.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_set)| is_set.then_some(name))
    }
}

/// What these options mean with others.
///
/// # Errors
/// One line that names the options, as `name` has them, and says what to do.
pub(super) fn consistent(
    of: &Connection,
    isolate: Isolate,
    max: u32,
    name: impl Fn(&str) -> String,
) -> Result<(), String> {
    if let Some(option) = of.needs_cgroup().filter(|_| isolate.cgroup == Wish::Off) {
        return Err(format!("{} needs a cgroup for each connection: add {}=cgroup", name(option), name("isolate")));
    }
    let Some(UserPool(first, last)) = of.uid_pool else { return Ok(()) };
    if of.slot_until == SlotUntil::Command {
        return Err(format!(
            "{} needs {} cgroup: a user is free again only when all processes of its connection have ended",
            name("uid_pool"),
            name("slot_until")
        ));
    }
    let size = last - first + 1;
    if max == 0 || max > size {
        let how_many = if max == 0 { "any number of".to_owned() } else { max.to_string() };
        return Err(format!(
            "{}: {size} users are not enough for {how_many} connections ({}={max}): expected as many, or more",
            name("uid_pool"),
            name("max_connections")
        ));
    }
    Ok(())
}

/// Parts by name, each once, or all that there is. With a `-` before it, as in unit files, a part may be missing.
pub(super) fn isolate(text: &str) -> Result<Isolate, String> {
    let mut isolate = Isolate::default();
    if let Ok(is_on) = switch(text) {
        let wish = if is_on { Wish::IfAvailable } else { Wish::Off };
        return Ok(Isolate { signals: wish, cgroup: wish });
    }
    for word in text.split(',') {
        let (name, wish) = word.strip_prefix('-').map_or((word, Wish::Required), |name| (name, Wish::IfAvailable));
        let part = match name {
            "signals" => &mut isolate.signals,
            "cgroup" => &mut isolate.cgroup,
            _ => {
                return Err(format!("'{word}' is no part: expected signals or cgroup, -signals or -cgroup, yes or no"));
            }
        };
        if *part != Wish::Off {
            return Err(format!("{name} is given twice: leave one out"));
        }
        *part = wish;
    }
    Ok(isolate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_apart() {
        let signals = |signals| Ok(Isolate { signals, ..Isolate::default() });
        assert_eq!(isolate("yes"), Ok(Isolate { signals: Wish::IfAvailable, cgroup: Wish::IfAvailable }));
        assert_eq!(isolate("cgroup,-signals"), Ok(Isolate { signals: Wish::IfAvailable, cgroup: Wish::Required }));
        assert_eq!(isolate("no"), signals(Wish::Off));
        assert_eq!(isolate("signals"), signals(Wish::Required));
        assert_eq!(isolate("-signals"), signals(Wish::IfAvailable));
        for bad in ["", "cgroups", "signal", "signals,", "signals,signals", "-signals,signals", "--signals", "-"] {
            assert!(isolate(bad).is_err(), "{bad}");
        }
    }
}
