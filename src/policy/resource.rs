//! What may run short on a machine.
#![forbid(unsafe_code)]

use std::fmt;

/// What tasks may be stalled for (Linux, Documentation/accounting/psi.rst, since 4.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A processor.
    Cpu,
    /// Memory.
    Memory,
    /// A disk, or whatever else is read and written.
    Io,
}

impl Resource {
    /// All of them, in the order of their numbers.
    pub const ALL: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Io];

    /// Its name in the kernel's files, and in `--max-pressure`.
    pub fn name(self) -> &'static str {
        ["cpu", "memory", "io"][self as usize]
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(["CPU", "memory", "I/O"][*self as usize])
    }
}
