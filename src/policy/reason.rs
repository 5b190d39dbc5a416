//! The closed table of reasons for which a connection gets no command.
//!
//! Log line, `MESSAGE_ID`, counter and reply text all come from here, so that they cannot disagree.
#![forbid(unsafe_code)]

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

/// A refusal with the figures that led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// Which limit said no.
    pub reason: Reason,
    /// Commands running under that limit when it was asked.
    pub active: u32,
    /// The limit itself, in commands; 0 where the reason has none.
    pub max: u32,
    /// The 1-minute load average, for [`Reason::Load`]; else 0.
    pub load: f64,
    /// The load limit, for [`Reason::Load`]; else 0.
    pub max_load: f64,
    /// Clients held when it was asked.
    pub waiting: u32,
}

impl Refusal {
    /// A refusal by a count.
    pub fn count(reason: Reason, active: u32, max: u32) -> Self {
        Refusal { reason, active, max, load: 0.0, max_load: 0.0, waiting: 0 }
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
