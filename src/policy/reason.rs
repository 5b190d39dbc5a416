//! The closed table of reasons for which a connection gets no command: the limits, each of which is told of in its own file,
//! and the few that are no limit.
#![forbid(unsafe_code)]

use super::grounds::{Figures, Grounds, HeaderFault, Info};
use super::limit::{INFOS, LIMITS};
use std::fmt;
use std::time::Duration;

/// The reasons that are no limit.
static OTHERS: [Info; 6] = [
    Info {
        slug: "start-failed",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a04",
        option: None,
        summary: "command failed to start",
        is_of_source: false,
        words: |_, f| f.write_str("the command could not be started"),
    },
    Info {
        slug: "waited-too-long",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a05",
        option: Some("max-wait"),
        summary: "waited too long",
        is_of_source: false,
        words: |grounds, f| {
            write!(f, "waited too long ({:.1} s, {})", grounds.waited.as_secs_f64(), Running(grounds.figures))
        },
    },
    Info {
        slug: "queue-full",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a06",
        option: Some("max-waiting"),
        summary: "queue full",
        is_of_source: false,
        words: |grounds, f| write!(f, "queue full ({} waiting, {})", grounds.waiting, Running(grounds.figures)),
    },
    Info {
        slug: "stopping",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a07",
        option: None,
        summary: "while stopping",
        is_of_source: false,
        words: |_, f| f.write_str("the service is stopping"),
    },
    Info {
        slug: "proxy",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a0d",
        option: Some("proxy-protocol"),
        summary: "PROXY header missing or broken",
        is_of_source: false,
        words: |grounds, f| match grounds.figures {
            Figures::Header { fault, .. } => write!(f, "{fault}"),
            _ => f.write_str("broken PROXY header"),
        },
    },
    Info {
        slug: "drained",
        message_id: "5c1cbd7bcb154a4b9f7e0b4d4b1d0a0e",
        option: None,
        summary: "while drained",
        is_of_source: false,
        words: |_, f| f.write_str("the service is drained for maintenance"),
    },
];

/// Trouble, and not a number, may be what keeps a client waiting.
struct Running(Figures);

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.0.active(), self.0.max()) {
            (active, 0) => write!(f, "{active} running"),
            (active, max) => write!(f, "{active}/{max} running"),
        }
    }
}

/// Why a client was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(u8);

impl Reason {
    /// The command could not be started: the kernel refused the process or the program is gone.
    pub const START_FAILED: Reason = Reason::other(0);
    /// It has waited `--max-wait` for its turn.
    pub const WAITED_TOO_LONG: Reason = Reason::other(1);
    /// `--max-waiting` others wait already.
    pub const QUEUE_FULL: Reason = Reason::other(2);
    /// It waited when the service was stopped.
    pub const STOPPING: Reason = Reason::other(3);
    /// Its PROXY header is missing or broken, or from somebody who may not send one.
    pub const PROXY: Reason = Reason::other(4);
    /// No command is started for anybody, since an administrator has asked for that.
    pub const DRAINED: Reason = Reason::other(5);

    /// Every reason, in the order of the counters: those of [`LIMITS`] come first, in its order.
    pub const ALL: [Reason; LIMITS.len() + OTHERS.len()] = {
        let mut all = [Reason(0); LIMITS.len() + OTHERS.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = Reason(at as u8);
            at += 1;
        }
        all
    };

    const fn other(at: usize) -> Reason {
        Reason((LIMITS.len() + at) as u8)
    }

    /// All that is said of it.
    pub fn info(self) -> &'static Info {
        match self.index().checked_sub(LIMITS.len()) {
            None => INFOS[self.index()],
            Some(other) => &OTHERS[other],
        }
    }

    /// The value of the journal field `SOCKCAP_REASON`.
    pub fn slug(self) -> &'static str {
        self.info().slug
    }

    /// The journal's `MESSAGE_ID`.
    pub fn message_id(self) -> &'static str {
        self.info().message_id
    }

    /// A few words for a summary line.
    pub fn summary(self) -> &'static str {
        self.info().summary
    }

    /// Position in arrays of counters.
    pub fn index(self) -> usize {
        self.0.into()
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A refusal with what led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What it rests on.
    pub grounds: Grounds,
    /// How long until this may be different, if that is known.
    pub retry: Option<Duration>,
}

impl Refusal {
    /// A refusal of a client that has not waited, by a number of commands.
    pub fn count(reason: Reason, active: u32, max: u32) -> Self {
        Refusal::of(reason, Figures::Count { active, max })
    }

    /// A refusal for what is wrong with its PROXY header, while so many commands run.
    pub fn header(fault: HeaderFault, active: u32) -> Self {
        Refusal::of(Reason::PROXY, Figures::Header { fault, active })
    }

    /// A refusal of a client that has not waited, or of whoever comes next.
    pub fn of(reason: Reason, figures: Figures) -> Self {
        Refusal { reason, grounds: Grounds { figures, waiting: 0, waited: Duration::ZERO }, retry: None }
    }
}

/// The words for one client, which follow "rejected connection: ".
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        (self.reason.info().words)(&self.grounds, f)
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
            assert!(a.slug().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "one word of the state: {a:?}");
            for b in Reason::ALL.into_iter().skip(i + 1) {
                assert_ne!(a.message_id(), b.message_id());
                assert_ne!(a.slug(), b.slug());
            }
        }
    }

    /// Other people's tools match them.
    #[test]
    fn the_words_for_one_client() {
        let said = |slug: &str, figures| {
            let reason = Reason::ALL.into_iter().find(|reason| reason.slug() == slug).unwrap();
            let grounds = Grounds { figures, waiting: 2, waited: Duration::from_millis(1250) };
            Refusal { reason, grounds, retry: None }.to_string()
        };
        let count = Figures::Count { active: 3, max: 4 };
        let none = Figures::Count { active: 3, max: 0 };
        let header = |fault| Figures::Header { fault, active: 3 };
        let level = Figures::Level { is: 2.5, below: 2.0, active: 3 };
        for (slug, figures, words) in [
            ("total-limit", count, "at capacity (3/4)"),
            ("listener-limit", count, "at capacity (3/4) of this listener"),
            ("load", level, "load average 2.50 is not below 2.00"),
            ("start-failed", none, "the command could not be started"),
            ("waited-too-long", count, "waited too long (1.2 s, 3/4 running)"),
            ("waited-too-long", level, "waited too long (1.2 s, 3 running)"),
            ("queue-full", count, "queue full (2 waiting, 3/4 running)"),
            ("queue-full", none, "queue full (2 waiting, 3 running)"),
            ("stopping", none, "the service is stopping"),
            ("drained", none, "the service is drained for maintenance"),
            ("proxy", header(HeaderFault::Elsewhere), "peer is not in --proxy-from"),
            ("proxy", header(HeaderFault::Late), "no PROXY header within 2 s"),
            ("proxy", header(HeaderFault::Closed), "closed before its PROXY header was complete"),
            ("proxy", header(HeaderFault::Broken("wrong CRC32C")), "broken PROXY header: wrong CRC32C"),
        ] {
            assert_eq!(said(slug, figures), words);
        }
        for (reason, words) in [
            (Reason::START_FAILED, "start-failed"),
            (Reason::WAITED_TOO_LONG, "waited-too-long"),
            (Reason::QUEUE_FULL, "queue-full"),
            (Reason::STOPPING, "stopping"),
            (Reason::PROXY, "proxy"),
            (Reason::DRAINED, "drained"),
        ] {
            assert_eq!(reason.slug(), words);
        }
    }
}
