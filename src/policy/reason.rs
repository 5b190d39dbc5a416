//! The closed table of reasons for which a connection gets no command.
//!
//! Log line, `MESSAGE_ID`, counter and reply text all come from here, so that they cannot disagree.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Why a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `--max-connections` commands are running.
    TotalLimit,
    /// `--max-per-listener` commands of this listener are running.
    ListenerLimit,
    /// The 1-minute load average is not below `--load-average`, and a command is running.
    Load,
    /// The command could not be started: the kernel refused the process or the program is gone.
    StartFailed,
    /// It has waited `--max-wait` for its turn.
    WaitedTooLong,
    /// `--max-waiting` others wait already.
    QueueFull,
    /// It waited when the service was stopped.
    Stopping,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 7] = [
        Reason::TotalLimit,
        Reason::ListenerLimit,
        Reason::Load,
        Reason::StartFailed,
        Reason::WaitedTooLong,
        Reason::QueueFull,
        Reason::Stopping,
    ];

    /// The value of the journal field `SOCKCAP_REASON`.
    pub fn slug(self) -> &'static str {
        match self {
            Reason::TotalLimit => "total-limit",
            Reason::ListenerLimit => "listener-limit",
            Reason::Load => "load",
            Reason::StartFailed => "start-failed",
            Reason::WaitedTooLong => "waited-too-long",
            Reason::QueueFull => "queue-full",
            Reason::Stopping => "stopping",
        }
    }

    /// The journal's `MESSAGE_ID`: 128 bits in hexadecimal, one per reason, never changed once released.
    pub fn message_id(self) -> &'static str {
        match self {
            Reason::TotalLimit => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a01",
            Reason::ListenerLimit => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a02",
            Reason::Load => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a03",
            Reason::StartFailed => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a04",
            Reason::WaitedTooLong => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a05",
            Reason::QueueFull => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a06",
            Reason::Stopping => "5c1cbd7bcb154a4b9f7e0b4d4b1d0a07",
        }
    }

    /// A few words for a summary line.
    pub fn summary(self) -> &'static str {
        match self {
            Reason::TotalLimit => "at capacity",
            Reason::ListenerLimit => "listener at capacity",
            Reason::Load => "load too high",
            Reason::StartFailed => "command failed to start",
            Reason::WaitedTooLong => "waited too long",
            Reason::QueueFull => "queue full",
            Reason::Stopping => "the service is stopping",
        }
    }

    /// Position in arrays of counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// The figures that led to a refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figures {
    /// A number of commands.
    Count {
        /// Commands running, under the limit that said no or at all.
        active: u32,
        /// The limit; 0 if the reason is none of numbers.
        max: u32,
    },
    /// A level that was read.
    Level {
        /// As it was read last.
        is: f64,
        /// The limit, below which it has to be.
        below: f64,
        /// Commands running.
        active: u32,
    },
}

impl Figures {
    /// Commands running, under the limit that said no or at all.
    pub fn active(self) -> u32 {
        match self {
            Figures::Count { active, .. } | Figures::Level { active, .. } => active,
        }
    }

    /// The limit in commands; 0 if it is none of numbers.
    pub fn max(self) -> u32 {
        match self {
            Figures::Count { max, .. } => max,
            Figures::Level { .. } => 0,
        }
    }
}

/// A refusal with what led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Those of the limit that holds.
    pub figures: Figures,
    /// Clients held when it was decided.
    pub waiting: u32,
    /// How long until this may be different, if that is known.
    pub retry: Option<Duration>,
}

impl Refusal {
    /// A refusal by a number of commands.
    pub fn count(reason: Reason, active: u32, max: u32) -> Self {
        Refusal { reason, figures: Figures::Count { active, max }, waiting: 0, retry: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_slugs_are_unique_and_well_formed() {
        for (i, a) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(a.index(), i);
            assert_eq!(a.message_id().len(), 32);
            assert!(a.message_id().bytes().all(|b| b.is_ascii_hexdigit()));
            for b in Reason::ALL.into_iter().skip(i + 1) {
                assert_ne!(a.message_id(), b.message_id());
                assert_ne!(a.slug(), b.slug());
            }
        }
    }
}
