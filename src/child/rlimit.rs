//! Resource limits by name: what `--limit` may name, as systemd's `Limit*=` (systemd.exec(5), setrlimit(2)).
#![forbid(unsafe_code)]

use nix::sys::resource::Resource as Kind;
use std::fmt;

/// No limit (RLIM_INFINITY).
pub const INFINITY: u64 = u64::MAX;

/// What a limit counts, and so how its values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Number,
    /// Memory, or room in files.
    Bytes,
    /// Processor time.
    Seconds,
    /// Processor time of a real-time process.
    Microseconds,
    /// How far the nice value may be lowered: 20 less that value.
    Nice,
}

/// A resource that the kernel limits for each process.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// systemd's name for it, without `Limit` and in lower case.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    kind: Kind,
}

const fn resource(name: &'static str, unit: Unit, kind: Kind) -> Resource {
    Resource { name, unit, kind }
}

/// All of them, in systemd's order.
pub static RESOURCES: [Resource; 16] = [
    resource("cpu", Unit::Seconds, Kind::RLIMIT_CPU),
    resource("fsize", Unit::Bytes, Kind::RLIMIT_FSIZE),
    resource("data", Unit::Bytes, Kind::RLIMIT_DATA),
    resource("stack", Unit::Bytes, Kind::RLIMIT_STACK),
    resource("core", Unit::Bytes, Kind::RLIMIT_CORE),
    resource("rss", Unit::Bytes, Kind::RLIMIT_RSS),
    resource("nofile", Unit::Number, Kind::RLIMIT_NOFILE),
    resource("as", Unit::Bytes, Kind::RLIMIT_AS),
    resource("nproc", Unit::Number, Kind::RLIMIT_NPROC),
    resource("memlock", Unit::Bytes, Kind::RLIMIT_MEMLOCK),
    resource("locks", Unit::Number, Kind::RLIMIT_LOCKS),
    resource("sigpending", Unit::Number, Kind::RLIMIT_SIGPENDING),
    resource("msgqueue", Unit::Bytes, Kind::RLIMIT_MSGQUEUE),
    resource("nice", Unit::Nice, Kind::RLIMIT_NICE),
    resource("rtprio", Unit::Number, Kind::RLIMIT_RTPRIO),
    resource("rttime", Unit::Microseconds, Kind::RLIMIT_RTTIME),
];

impl Resource {
    /// That of this name.
    pub fn of_name(name: &str) -> Option<&'static Resource> {
        RESOURCES.iter().find(|resource| resource.name == name)
    }

    /// The kernel's number of it (RLIMIT_*).
    pub fn number(&self) -> u32 {
        self.kind as u32
    }

    /// The limits of this process, soft and hard; `None` if the kernel does not tell.
    pub fn of_this_process(&self) -> Option<(u64, u64)> {
        crate::sys::rlimit::get(self.kind).ok()
    }
}

/// The name of the resource with this number, for who reads of it.
pub fn name_of(number: u32) -> &'static str {
    RESOURCES.iter().find(|resource| resource.number() == number).map_or("?", |resource| resource.name)
}

/// A value, for who reads it.
pub fn shown(value: u64) -> String {
    if value == INFINITY { "infinity".into() } else { value.to_string() }
}

/// A limit that commands get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// On what.
    pub resource: &'static Resource,
    /// What the kernel enforces; at most `hard`.
    pub soft: u64,
    /// How far a command may raise that.
    pub hard: u64,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Limit { resource, soft, hard } = *self;
        write!(f, "{}={}", resource.name, shown(soft))?;
        if hard == soft { Ok(()) } else { write!(f, ":{}", shown(hard)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The kernel numbers them from 0 (RLIM_NLIMITS).
    #[test]
    fn each_resource_has_a_name_and_a_number() {
        let numbers: BTreeSet<u32> = RESOURCES.iter().map(Resource::number).collect();
        assert_eq!(numbers, (0..16).collect());
        for resource in &RESOURCES {
            assert_eq!(Resource::of_name(resource.name), Some(resource));
            assert_eq!(name_of(resource.number()), resource.name);
        }
        assert_eq!((Resource::of_name("NOFILE"), name_of(16)), (None, "?"));
    }

    #[test]
    fn a_limit_reads_as_it_is_written() {
        let resource = Resource::of_name("core").unwrap();
        let said = |soft, hard| Limit { resource, soft, hard }.to_string();
        assert_eq!(said(7, 7), "core=7");
        assert_eq!(said(0, INFINITY), "core=0:infinity");
    }
}
