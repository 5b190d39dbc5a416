//! What a refusal rests on, and what is said of each kind of it.
#![forbid(unsafe_code)]

use super::limit::gcra::Rate;
use super::network::Network;
use super::resource::Resource;
use std::fmt;
use std::time::Duration;

/// The figures of one limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figures {
    /// A number of commands.
    Count {
        /// Commands running, under the limit that said no or at all.
        active: u32,
        /// The limit; 0 if the reason is none of numbers.
        max: u32,
    },
    /// A number of commands and held clients of one network.
    OfSource {
        /// Which.
        network: Network,
        /// How many of it are here.
        active: u32,
        /// The limit.
        max: u32,
    },
    /// A rate.
    Rate {
        /// The limit.
        rate: Rate,
        /// The network that it is for; `None` if it is for all.
        network: Option<Network>,
        /// Commands running.
        active: u32,
    },
    /// What a source has earned by how its commands ended.
    Penalty {
        /// The source.
        network: Network,
        /// How long until it has expired.
        left: Duration,
        /// Commands running.
        active: u32,
    },
    /// A pressure that was read.
    Pressure {
        /// Of what.
        resource: Resource,
        /// As it was read last, in percent.
        is: f64,
        /// What it has to fall below.
        below: f64,
        /// Commands running.
        active: u32,
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
    /// A connection without the header that it needs.
    Header {
        /// What is wrong.
        fault: HeaderFault,
        /// Commands running.
        active: u32,
    },
}

/// What is wrong with the PROXY header of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Its peer may not send one.
    Elsewhere,
    /// It has not come in time.
    Late,
    /// It has not come, and had to make room for that of another.
    Crowded,
    /// The peer has closed before it was whole.
    Closed,
    /// It cannot be read, for this reason.
    Broken(&'static str),
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            HeaderFault::Elsewhere => f.write_str("peer is not in --proxy-from"),
            HeaderFault::Late => f.write_str("no PROXY header within 2 s"),
            HeaderFault::Crowded => f.write_str("no PROXY header yet, and too many connections wait for theirs"),
            HeaderFault::Closed => f.write_str("closed before its PROXY header was complete"),
            HeaderFault::Broken(why) => write!(f, "broken PROXY header: {why}"),
        }
    }
}

impl Figures {
    /// Commands running, under the limit that said no or at all.
    pub fn active(self) -> u32 {
        match self {
            Figures::Count { active, .. }
            | Figures::OfSource { active, .. }
            | Figures::Rate { active, .. }
            | Figures::Penalty { active, .. }
            | Figures::Level { active, .. }
            | Figures::Pressure { active, .. }
            | Figures::Header { active, .. } => active,
        }
    }

    /// The network that the limit is for, if it is for one.
    pub fn network(self) -> Option<Network> {
        match self {
            Figures::OfSource { network, .. } | Figures::Penalty { network, .. } => Some(network),
            Figures::Rate { network, .. } => network,
            _ => None,
        }
    }

    /// The limit in commands; 0 if it is none of numbers.
    pub fn max(self) -> u32 {
        match self {
            Figures::Count { max, .. } | Figures::OfSource { max, .. } => max,
            Figures::Rate { .. }
            | Figures::Penalty { .. }
            | Figures::Level { .. }
            | Figures::Pressure { .. }
            | Figures::Header { .. } => 0,
        }
    }
}

/// Everything that a refusal rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grounds {
    /// Those of the limit that holds.
    pub figures: Figures,
    /// Clients held when it was decided.
    pub waiting: u32,
    /// How long the client had waited then.
    pub waited: Duration,
}

/// All that is said of one reason to refuse, in one place: whoever tells of it, explains it or looks for it asks here.
#[derive(Debug)]
pub struct Info {
    /// The value of `SOCKCAP_REASON`, and the name of its counter.
    pub slug: &'static str,
    /// The journal's `MESSAGE_ID`: 128 bits in hexadecimal, one per reason, never changed once released.
    pub message_id: &'static str,
    /// The option that it comes from, without the dashes, if it is one that comes from an option.
    pub option: Option<&'static str>,
    /// A few words for a summary line.
    pub summary: &'static str,
    /// Whether it says something of the client's source, and not of how busy the service is: fail2ban counts these alone.
    pub is_of_source: bool,
    /// The words for one client, which follow "rejected connection: ".
    pub words: fn(&Grounds, &mut fmt::Formatter) -> fmt::Result,
}
