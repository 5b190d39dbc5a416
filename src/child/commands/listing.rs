//! Which commands run, for whoever asks: a page at a time, so that ten thousand of them need no more memory than a few.
#![forbid(unsafe_code)]

use super::apart::Outlived;
use super::{Commands, Ended};
use crate::child::adopted::Adopted;
use crate::child::running::Child;
use crate::policy::arrival::ListenerId;
use crate::policy::least::least;
use crate::policy::source::Source;
use std::time::{Duration, Instant};

/// A command that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Number of its connection; `None` if an earlier daemon has started it and left no record.
    pub id: Option<u64>,
    /// Its process; 0: it has ended, and others of its cgroup live on.
    pub pid: i32,
    /// Where its client came in, if that is known.
    pub listener: Option<ListenerId>,
    /// Whom it is counted for.
    pub source: Source,
    /// TCP or VSOCK port, or process, of the peer; 0 is not known.
    pub peer_port: u32,
    /// Whether its client is one of `--exempt`.
    pub is_exempt: bool,
    /// When it was started.
    pub since: Instant,
    /// How long its client had waited then, if that is known; in milliseconds.
    pub waited: Option<Duration>,
}

impl Listed {
    /// Its place in the order, by which to go on behind it.
    pub fn cursor(&self) -> (u64, i32) {
        (self.id.unwrap_or(0), self.pid)
    }
}

impl From<&Child> for Listed {
    fn from(child: &Child) -> Listed {
        let Child { pid, id, slot, peer_port, since, waited_ms, .. } = child;
        Listed {
            id: Some(*id),
            pid: *pid,
            listener: slot.listener(),
            source: slot.source(),
            peer_port: *peer_port,
            is_exempt: slot.is_exempt(),
            since: *since,
            waited: waited_ms.map(|ms| Duration::from_millis(ms.into())),
        }
    }
}

impl From<&Adopted> for Listed {
    fn from(adopted: &Adopted) -> Listed {
        let Adopted { process, id, slot, peer_port, since, .. } = adopted;
        Listed {
            id: *id,
            pid: process.pid(),
            listener: slot.listener(),
            source: slot.source(),
            peer_port: *peer_port,
            is_exempt: slot.is_exempt(),
            since: *since,
            waited: None,
        }
    }
}

impl From<&Outlived> for Listed {
    fn from(Outlived { ended, peer_port, .. }: &Outlived) -> Listed {
        let Ended { id, ref slot, since, waited, .. } = *ended;
        Listed {
            id: Some(id),
            pid: 0,
            listener: slot.listener(),
            source: slot.source(),
            peer_port: *peer_port,
            is_exempt: slot.is_exempt(),
            since,
            waited,
        }
    }
}

impl Commands {
    /// The next `count` commands, ours and those of an earlier daemon, by number of the connection and then by process; those whose
    /// number is not known come first. `after`: the [`Listed::cursor`] of the last one that is known already; `(0, 0)` is in front of
    /// all. Looks at each command once, and keeps no more than `count`.
    pub fn listing(&self, after: (u64, i32), count: usize) -> Vec<Listed> {
        let ours = self.ours.iter().map(|child| ((child.id, child.pid), true));
        let adopted = self.adopted.iter().map(|adopted| ((adopted.id.unwrap_or(0), adopted.process.pid()), false));
        let outlived = self.apart.iter().flat_map(|apart| apart.outliving.all.keys()).map(|id| ((*id, 0), false));
        let next = least(ours.chain(adopted).chain(outlived).filter(|(at, _)| *at > after), count);
        let look_up = |((id, pid), is_ours): ((u64, i32), bool)| match (pid, is_ours) {
            (0, _) => self.apart.as_ref().and_then(|apart| apart.outliving.all.get(&id)).map(Listed::from),
            (_, true) => self.ours.get(pid).map(Listed::from),
            (_, false) => self.adopted.get(pid).map(Listed::from),
        };
        next.into_iter().filter_map(look_up).collect()
    }
}
