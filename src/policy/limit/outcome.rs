//! How commands end, as limits care for it.
#![forbid(unsafe_code)]

use std::fmt;

/// How a command ended, as far as limits care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit status.
    Status(u8),
    /// By a signal that is none of the next two.
    Signal,
    /// At `--time-limit`.
    TimeLimit,
    /// An administrator has asked for it. No penalty is for that.
    Stopped,
    /// The kernel killed it, since its cgroup was out of memory. Told only where that is asked for.
    Oom,
    /// It was not started, or its status went to another process.
    Unknown,
}

impl Outcome {
    /// In one word, after the results of systemd.service(5) where there is one.
    pub fn result(self) -> &'static str {
        match self {
            Outcome::Status(0) => "success",
            Outcome::Status(_) => "exit-code",
            Outcome::Signal => "signal",
            Outcome::TimeLimit => "time-limit",
            Outcome::Stopped => "stopped",
            Outcome::Oom => "oom",
            Outcome::Unknown => "unknown",
        }
    }
}

/// As `--penalty` has it, of those that it knows.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Outcome::Status(status) => return status.fmt(f),
            Outcome::Signal => "signal",
            Outcome::TimeLimit => "time-limit",
            Outcome::Stopped => "stopped",
            Outcome::Oom => "oom",
            Outcome::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals are searched by them, and configurations have the names of penalties.
    #[test]
    fn results_and_names_never_change() {
        for (outcome, result, name) in [
            (Outcome::Status(0), "success", "0"),
            (Outcome::Status(1), "exit-code", "1"),
            (Outcome::Status(255), "exit-code", "255"),
            (Outcome::Signal, "signal", "signal"),
            (Outcome::TimeLimit, "time-limit", "time-limit"),
            (Outcome::Stopped, "stopped", "stopped"),
            (Outcome::Oom, "oom", "oom"),
            (Outcome::Unknown, "unknown", "unknown"),
        ] {
            assert_eq!((outcome.result(), &*outcome.to_string()), (result, name));
        }
    }
}
