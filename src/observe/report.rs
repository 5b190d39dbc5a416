//! What became of each connection: counted and logged in one act, so that the counters and the journal cannot disagree.
#![forbid(unsafe_code)]

use super::event::{Event, How, Rejected, Severity};
use super::log::Log;
use super::peer::{LogPeer, ShownPeer, shown_client, shown_source};
use super::statistics::{Statistics, Waited};
use super::stream::link::{Failed, Stream};
use super::tally::{Books, Counters, Tally};
use crate::peer::Peer;
use crate::policy::arrival::ListenerId;
use crate::policy::back_off::Over;
use crate::policy::limit::rule::Outcome;
use crate::policy::network::{Network, Prefixes};
use crate::policy::reason::{Reason, Refusal};
use crate::policy::source::Source;
use crate::policy::throttle::{INTERVAL, Summary, Throttle};
use crate::policy::top::Top;
use crate::sys::plain;
use crate::sys::process::Usage;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The counters and the log.
#[derive(Debug)]
pub struct Report {
    log: Log,
    /// Where commands write their standard error, if their lines are told apart.
    stream: Option<Stream>,
    log_peer: LogPeer,
    throttle: Throttle,
    dry_throttle: Option<Box<Throttle>>,
    books: Books,
    statistics: Statistics,
    source_prefix: Prefixes,
    /// What makes one of the networks that the log tells of.
    shown_prefix: Option<Prefixes>,
    /// Who was refused.
    top: Top<64>,
    ignored: Option<Instant>,
    /// By reason.
    last_untracked: [Option<Instant>; Reason::ALL.len()],
}

/// A full table of sources is told of again when it has had room for so long.
const EPISODE: Duration = Duration::from_secs(60);

/// A client, where it came in.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The listener.
    pub id: ListenerId,
    /// Its name.
    pub listener: &'a Arc<str>,
    /// Who it is.
    pub peer: &'a Peer,
    /// Microseconds that it has waited, as far as it was read.
    pub waited_usec: Option<u64>,
}

/// What is looked up for a refusal that is logged singly, and only for that.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Microseconds that the client has waited.
    pub waited_usec: Option<u64>,
    /// Connections behind it in the kernel's queue.
    pub queued: Option<u32>,
}

/// A command that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Number of its connection; 0 is not known.
    pub id: u64,
    /// Its process.
    pub pid: i32,
    /// The listener that its client came in by, and its name, if known.
    pub listener: Option<(ListenerId, &'a Arc<str>)>,
    /// Whom it was counted for.
    pub source: Source,
    /// How it ended.
    pub how: How,
    /// The same as limits and counters have it.
    pub outcome: Outcome,
    /// How long it ran.
    pub after: Duration,
    /// How long its client had waited, if known.
    pub waited: Option<Duration>,
    /// What it used, if known.
    pub usage: Option<Usage>,
}

impl Report {
    /// Nothing has happened yet, at none of so many listeners. `source_prefix`: what one source is.
    pub fn new(log: Log, log_peer: LogPeer, source_prefix: Prefixes, listeners: usize) -> Report {
        Report {
            log,
            stream: None,
            log_peer,
            throttle: Throttle::default(),
            dry_throttle: None,
            statistics: Statistics::default(),
            source_prefix,
            shown_prefix: log_peer.prefixes(source_prefix),
            top: Top::default(),
            books: Books::new(Counters::default(), vec![Tally::default(); listeners]),
            ignored: None,
            last_untracked: [None; Reason::ALL.len()],
        }
    }

    /// What became of all connections so far.
    pub fn counters(&self) -> &Counters {
        self.books.counters()
    }

    /// What became of the connections of each listener, by [`ListenerId`].
    pub fn listeners(&self) -> &[Tally] {
        self.books.listeners()
    }

    /// What was measured since this daemon's start.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Who was refused how often since then; see there how exact that is.
    pub fn refused_sources(&self) -> &Top<64> {
        &self.top
    }

    /// Entries that the log has not taken since then.
    pub fn log_entries_lost(&self) -> u64 {
        self.log.lost_ever()
    }

    /// All counts, to be written down.
    pub fn books(&mut self) -> &mut Books {
        &mut self.books
    }

    /// Goes on from what an earlier daemon has counted.
    pub fn go_on_from(&mut self, books: Books) {
        self.books = books;
    }

    /// A signal that means nothing to us, logged once in an interval: anybody of our user may send millions.
    pub fn signal_ignored(&mut self, now: Instant, signal: &'static str) {
        if self.ignored.is_none_or(|last| last + INTERVAL <= now) {
            self.ignored = Some(now);
            self.log.send(Event::SignalIgnored { signal });
        }
    }

    /// What makes one of the networks that the log tells of, as far as it may tell of any.
    pub fn shown_prefix(&self) -> Option<Prefixes> {
        self.shown_prefix
    }

    fn shown_network(&self, source: Source) -> Option<Network> {
        Network::of(source, self.shown_prefix?)
    }

    /// So many clients were not remembered by a limit: its table of sources, of `max`, is full. Told once in an episode, which is over
    /// when that has not happened for a while.
    pub fn untracked(&mut self, now: Instant, reason: Reason, clients: u32, max: u32) {
        self.books.count_untracked(clients);
        let last = self.last_untracked[reason.index()].replace(now);
        if last.is_none_or(|last| last + EPISODE <= now) {
            let option = reason.info().option.unwrap_or_default();
            self.log.send(Event::SourceTableFull { option, max });
        }
    }

    /// A connection was taken from the kernel's queue.
    pub fn accepted(&mut self, listener: ListenerId) {
        self.books.count(Some(listener), |tally| tally.accepted += 1);
    }

    /// A client was found gone, which had waited so long, as far as that is known.
    pub fn gone(&mut self, listener: ListenerId, waited_usec: Option<u64>) {
        self.books.count(Some(listener), |tally| tally.gone += 1);
        self.statistics.waited(waited_usec, Waited::Gone);
    }

    /// A command could not be started, for this errno; its client is another matter.
    pub fn start_failed(&mut self, errno: i32) {
        self.statistics.start_failed(errno);
    }

    /// A client is refused. `look` is asked only if that is logged singly.
    pub fn refused(&mut self, now: Instant, refusal: Refusal, client: Client, look: impl FnOnce() -> Figures) {
        self.books.count_refusal(Some(client.id), refusal.reason);
        self.note_wait(client.waited_usec, Waited::Refused);
        self.log_refusal(now, refusal, client, look);
    }

    /// The same of a client whose command's exec has failed. It is counted when that is over: its slot is in use until then.
    pub fn exec_failed(&mut self, now: Instant, refusal: Refusal, client: Client, look: impl FnOnce() -> Figures) {
        self.log_refusal(now, refusal, client, look);
    }

    fn log_refusal(&mut self, now: Instant, refusal: Refusal, client: Client, look: impl FnOnce() -> Figures) {
        let (reason, source) = (refusal.reason, client.peer.source());
        Network::of(source, self.source_prefix).into_iter().for_each(|network| self.top.add(network));
        let network = self.shown_network(source);
        if !self.throttle.admit(now, reason, network) {
            return;
        }
        let rejected = self.rejected(refusal, client, look());
        if !self.log.send(Event::Rejected(rejected)) {
            self.throttle.missed(now, reason, 1, network.map(|network| (network, 1)));
        }
    }

    /// A client would have been refused, or held, but for `--dry-run`.
    pub fn would_refuse(
        &mut self,
        now: Instant,
        (refusal, holds): (Refusal, bool),
        client: Client,
        look: impl FnOnce() -> Figures,
    ) {
        let reason = refusal.reason;
        self.books.count_dry(reason);
        let network = self.shown_network(client.peer.source());
        if !self.dry_throttle.get_or_insert_default().admit(now, reason, network) {
            return;
        }
        let rejected = self.rejected(refusal, client, look());
        if !self.log.send(Event::WouldReject { rejected, holds }) {
            let network = network.map(|network| (network, 1));
            self.dry_throttle.get_or_insert_default().missed(now, reason, 1, network);
        }
    }

    fn rejected(&self, refusal: Refusal, client: Client, Figures { waited_usec, queued }: Figures) -> Box<Rejected> {
        Box::new(Rejected {
            refusal,
            listener: client.listener.clone(),
            peer: ShownPeer::new(client.peer.clone(), self.log_peer),
            source: refusal.grounds.figures.network().and_then(|network| shown_source(network, self.log_peer)),
            queued,
            waited_usec,
            refused_total: self.books.counters().total.refused_by_limits(),
        })
    }

    /// A command was started for a client; so many run now, of so many that may.
    pub fn serving(&mut self, id: u64, pid: i32, client: Client, (active, max): (u32, u32)) {
        let Client { listener, peer, waited_usec, .. } = client;
        self.note_wait(waited_usec, Waited::Served);
        if self.log.is_enabled(Severity::Info) {
            let (listener, peer) = (listener.clone(), ShownPeer::new(peer.clone(), self.log_peer));
            self.log.send(Event::Serving { id, pid, listener, peer, waited_usec, active, max });
        }
    }

    /// A command is over, and its slot free. The client of one whose exec failed was refused.
    pub fn ended(&mut self, Ended { id, pid, listener, source, how, outcome, after, waited, usage }: Ended) {
        let from = listener.map(|(id, _)| id);
        match how {
            How::NotStarted(errno) => {
                self.books.count_refusal(from, Reason::START_FAILED);
                self.statistics.start_failed(errno);
            }
            _ => {
                self.books.count(from, |tally| tally.served += 1);
                self.statistics.ended(outcome, after);
            }
        }
        let is_notable = how == How::OutOfMemory && self.log.is_enabled(Severity::Notice);
        if is_notable || self.log.is_enabled(Severity::Info) {
            let (listener, peer) = (listener.map(|(_, name)| name.clone()), shown_client(source, self.log_peer));
            self.log.send(Event::Ended { id, pid, listener, peer, how, outcome, after, waited, usage });
        }
    }

    /// Tells the lines of commands on standard error apart from now on.
    pub fn set_stream(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    /// What tells them apart, which is taken out: no further command's are.
    pub fn take_stream(&mut self) -> Option<Stream> {
        self.stream.take()
    }

    /// The process that collects them.
    pub fn collector(&self) -> Option<i32> {
        self.stream.as_ref()?.process()
    }

    /// Where the command of this connection's client is to write its standard error; `None`: where it would by itself.
    pub fn stderr_of(&mut self, now: Instant, (id, listener): (u64, &str), peer: &Peer) -> Option<OwnedFd> {
        let stream = self.stream.as_mut()?;
        match stream.open(now, (id, listener), &ShownPeer::new(peer.clone(), self.log_peer)) {
            Ok((end, over)) => {
                if let Some(Over { failures, lasted }) = over {
                    self.log.send(Event::StderrStreams { failures, lasted });
                }
                Some(end)
            }
            Err(Failed { error, is_first }) => {
                if is_first {
                    self.log.send(Event::StderrInherited { error: plain(&error) });
                }
                None
            }
        }
    }

    /// The least serious entries that are logged.
    pub fn max_severity(&self) -> Severity {
        self.log.max_severity()
    }

    /// Logs entries of this severity, and more serious ones, from now on.
    pub fn set_max_severity(&mut self, severity: Severity) {
        self.log.set_max_severity(severity);
    }

    /// Logs what changes no counter; `false` if the log did not take it.
    pub fn log(&mut self, event: Event) -> bool {
        self.log.send(event)
    }

    fn note_wait(&mut self, waited_usec: Option<u64>, what: Waited) {
        self.statistics.waited(waited_usec, what);
        self.books.note_wait(waited_usec.unwrap_or(0));
    }

    /// When the next summary of refusals is due.
    pub fn deadline(&self) -> Option<Instant> {
        let dry = self.dry_throttle.as_ref().and_then(|throttle| throttle.deadline());
        self.throttle.deadline().into_iter().chain(dry).min()
    }

    /// Tells the summaries that are due; what the log does not take goes into the next one.
    pub fn on_time(&mut self, now: Instant) {
        let Report { log, throttle, dry_throttle, .. } = self;
        let real = [(throttle, Event::RejectedMore as fn(Summary) -> Event)];
        let dry = dry_throttle.as_deref_mut().map(|dry| (dry, Event::WouldRejectMore as fn(Summary) -> Event));
        for (throttle, event) in real.into_iter().chain(dry) {
            for summary in throttle.due(now, false) {
                if !log.send(event(summary.clone())) {
                    throttle.missed(now, summary.reason, summary.count, summary.sources);
                }
            }
        }
    }

    /// The last words: all summaries, then these events.
    pub fn finish(mut self, now: Instant, events: impl IntoIterator<Item = Event>) {
        let summaries = self.throttle.due(now, true).into_iter().map(Event::RejectedMore);
        let dry = self.dry_throttle.iter_mut().flat_map(|throttle| throttle.due(now, true)).map(Event::WouldRejectMore);
        self.log.finish(summaries.chain(dry).chain(events).collect());
    }
}
