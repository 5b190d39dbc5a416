//! The log: a thread of its own behind a bounded channel, so that a stuck journal never delays a client.
//!
//! What the channel or a missing journal did not take is counted, and told when it takes again.
#![forbid(unsafe_code)]

use super::event::{Event, How, Severity};
use super::spanless::Spanless;
use crate::policy::throttle::Sources;
use crate::sys::process::Exit;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// Entries that may wait for the log; each is a small value, so this bounds memory.
const WAITING: usize = 256;
/// The end of the program looks so often whether the log still moves.
const LOOK: Duration = Duration::from_millis(100);
/// It waits no longer after so many looks at which nothing had moved: three seconds. Looks are counted, and not time, since a
/// machine that stops for seconds stops the log's reader as well.
const LOOKS: u32 = 30;
/// The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// `SYSLOG_IDENTIFIER`, since native entries do not take it from the unit.
pub(super) const IDENTIFIER: &str = "sockcap";

/// Where entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The journal if stderr is connected to it (`JOURNAL_STREAM`, systemd.exec(5)), else lines on stderr.
    Auto,
    /// The journal; lines on stderr if it cannot be reached at start.
    Journal,
    /// Lines on stderr, with sd-daemon(3) prefixes.
    Stderr,
}

impl Target {
    fn wants_journal(self) -> bool {
        match self {
            Target::Auto => libsystemd::logging::connected_to_journal(),
            Target::Journal => true,
            Target::Stderr => false,
        }
    }

    /// Whether lines on stderr begin with their priority (sd-daemon(3)): for a reader that knows it, which is the journal, or was promised.
    pub fn has_prefix(self) -> bool {
        let is_asked = self == Target::Stderr || libsystemd::logging::connected_to_journal();
        is_asked && !io::stderr().is_terminal()
    }

    /// Whether it is the journal, and that can be reached now.
    pub fn reaches_journal(self) -> bool {
        self.wants_journal() && journal_listens()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Target::Auto => "auto",
            Target::Journal => "journal",
            Target::Stderr => "stderr",
        })
    }
}

/// What the end of the log needs. Not two more channels: each kind costs 4 KiB of code.
#[derive(Debug, Default)]
struct Ending {
    state: Mutex<State>,
    is_over: Condvar,
    /// Entries that were not taken, at either end.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The last entries. They have a place of their own, so that a log which is behind does not lose them.
    last_words: Vec<Event>,
    /// Entries that have been written.
    written: usize,
    /// Whether that were all.
    is_over: bool,
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The near end of the log.
#[derive(Debug)]
pub struct Log {
    /// Boxes, since the channel has memory for as many as it may hold from the start.
    sender: SyncSender<Box<Event>>,
    ending: Arc<Ending>,
    max_severity: Severity,
    lost: u64,
}

impl Log {
    /// Starts the log; entries less serious than `max_severity` are left out.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(target: Target, max_severity: Severity) -> io::Result<Log> {
        let (sender, events) = sync_channel(WAITING);
        let ending = Arc::new(Ending::default());
        let end = Arc::clone(&ending);
        thread::Builder::new().name("log".into()).stack_size(256 << 10).spawn(move || {
            write_all(target, &events, &end);
            end.lock().is_over = true;
            end.is_over.notify_one();
        })?;
        Ok(Log { sender, ending, max_severity, lost: 0 })
    }

    /// Whether entries of this severity are logged.
    pub fn is_enabled(&self, severity: Severity) -> bool {
        severity <= self.max_severity
    }

    /// The least serious that are logged.
    pub fn max_severity(&self) -> Severity {
        self.max_severity
    }

    /// Logs entries of this severity, and more serious ones, from now on.
    pub fn set_max_severity(&mut self, severity: Severity) {
        self.max_severity = severity;
    }

    /// Hands an entry over without waiting; `false` if the log is behind and did not take it.
    pub fn send(&mut self, event: Event) -> bool {
        if !self.is_enabled(event.severity()) {
            return true;
        }
        if self.lost > 0 && self.sender.try_send(Box::new(Event::Lost { count: self.lost })).is_ok() {
            self.lost = 0;
        }
        let taken = self.sender.try_send(Box::new(event)).is_ok();
        if !taken {
            self.lost += 1;
            self.ending.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Entries that were not taken so far, whether that has been told or not.
    pub fn lost_ever(&self) -> u64 {
        self.ending.lost.load(Ordering::Relaxed)
    }

    /// Ends the log with these entries, the totals among them. It is waited for as long as somebody takes what it writes.
    pub fn finish(self, mut last: Vec<Event>) {
        last.retain(|event| self.is_enabled(event.severity()));
        if self.lost > 0 {
            last.insert(0, Event::Lost { count: self.lost });
        }
        let mut state = self.ending.lock();
        state.last_words = last;
        drop(self.sender);
        let mut still = 0;
        while still < LOOKS && !state.is_over {
            let before = state.written;
            let look = self.ending.is_over.wait_timeout_while(state, LOOK, |state| !state.is_over);
            state = look.unwrap_or_else(PoisonError::into_inner).0;
            still = if state.written == before { still + 1 } else { 0 };
        }
    }
}

fn write_all(target: Target, events: &Receiver<Box<Event>>, end: &Ending) {
    let journal = if target.wants_journal() { journal_layer() } else { None };
    let is_journal = journal.is_some();
    let stderr = (!is_journal).then(|| Lines { prefix: target.has_prefix() });
    let subscriber = Spanless.with(journal).with(stderr);
    tracing::subscriber::with_default(subscriber, || {
        let mut lost = 0;
        let last_words = std::iter::once_with(|| std::mem::take(&mut end.lock().last_words)).flatten();
        // `events` ends when the near end is dropped, which is after the last words were left.
        for event in events.iter().chain(last_words.map(Box::new)) {
            // The layer itself ignores errors, so whether somebody listens is asked before.
            if is_journal && !journal_listens() {
                lost += 1;
                end.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if lost > 0 {
                emit(&Event::Lost { count: lost });
                lost = 0;
            }
            emit(&event);
            end.lock().written += 1;
        }
    });
}

fn journal_layer() -> Option<tracing_journald::Layer> {
    let layer = tracing_journald::layer().ok()?;
    // Without this the fields would be F_MESSAGE_ID and the like.
    Some(layer.with_field_prefix(None).with_syslog_identifier(IDENTIFIER.into()))
}

fn journal_listens() -> bool {
    // If no socket can be opened to probe it, assume that the journal is up: EMFILE may be the very thing to log.
    UnixDatagram::unbound().map_or(true, |socket| socket.connect(JOURNAL_SOCKET).is_ok())
}

/// tracing's levels are fewer than syslog's; tracing-journald makes them 3, 4, 5 and 6 in this order.
macro_rules! at {
    ($severity:expr, $($rest:tt)*) => {
        match $severity {
            Severity::Error => tracing::error!($($rest)*),
            Severity::Warning => tracing::warn!($($rest)*),
            Severity::Notice => tracing::info!($($rest)*),
            Severity::Info => tracing::debug!($($rest)*),
        }
    };
}

fn emit(event: &Event) {
    let id = event.message_id();
    match event {
        Event::Rejected(rejected) | Event::WouldReject { rejected, .. } => {
            let refusal = &rejected.refusal;
            let (addr, port) = rejected.peer.address();
            let figures = refusal.grounds.figures;
            let of_source = figures.network().is_some() && figures.max() > 0;
            at!(
                event.severity(),
                MESSAGE_ID = id,
                SOCKCAP_REASON = refusal.reason.slug(),
                SOCKCAP_LISTENER = &*rejected.listener,
                SOCKCAP_PEER = %rejected.peer,
                SOCKCAP_PEER_ADDR = addr,
                SOCKCAP_PEER_PORT = port,
                SOCKCAP_ACTIVE = refusal.grounds.figures.active(),
                SOCKCAP_MAX = refusal.grounds.figures.max(),
                SOCKCAP_SOURCE = rejected.source.as_deref(),
                SOCKCAP_SOURCE_ACTIVE = of_source.then(|| figures.active()),
                SOCKCAP_SOURCE_MAX = of_source.then(|| figures.max()),
                SOCKCAP_WAITING = refusal.grounds.waiting,
                SOCKCAP_QUEUE_DEPTH = rejected.queued,
                SOCKCAP_WAIT_USEC = rejected.waited_usec,
                SOCKCAP_RETRY_USEC = refusal.retry.map(|retry| retry.as_micros() as u64),
                SOCKCAP_REFUSED_TOTAL = rejected.refused_total,
                "{event}"
            );
        }
        Event::RejectedMore(summary) | Event::WouldRejectMore(summary) => at!(
            event.severity(),
            MESSAGE_ID = id,
            SOCKCAP_REASON = summary.reason.slug(),
            SOCKCAP_COUNT = summary.count,
            SOCKCAP_TOP_SOURCES = top_sources(&summary.sources),
            "{event}"
        ),
        Event::TakenOver { sources, .. } => {
            tracing::info!(MESSAGE_ID = id, SOCKCAP_TOP_SOURCES = top_sources(sources), "{event}")
        }
        Event::Serving { id: connection, pid, listener, peer, waited_usec, active, max } => {
            let (addr, port) = peer.address();
            tracing::debug!(
                MESSAGE_ID = id,
                SOCKCAP_CONNECTION = connection,
                SOCKCAP_PID = pid,
                SOCKCAP_LISTENER = &**listener,
                SOCKCAP_PEER = %peer,
                SOCKCAP_PEER_ADDR = addr,
                SOCKCAP_PEER_PORT = port,
                SOCKCAP_ACTIVE = active,
                SOCKCAP_MAX = max,
                SOCKCAP_WAIT_USEC = waited_usec,
                "{event}"
            );
        }
        Event::Ended { id: connection, pid, listener, peer: (peer, addr), how, outcome, after, waited, usage } => {
            let (status, signal) = match how {
                How::Exit(Exit::Code(code)) => (Some(*code), None),
                How::Exit(Exit::Signal(signal)) => (None, Some(*signal)),
                How::OutOfMemory => (None, Some(libc::SIGKILL)),
                _ => (None, None),
            };
            let io = usage.and_then(|usage| usage.io_bytes);
            at!(
                event.severity(),
                MESSAGE_ID = id,
                SOCKCAP_CONNECTION = connection,
                SOCKCAP_PID = pid,
                SOCKCAP_LISTENER = listener.as_deref(),
                SOCKCAP_PEER = peer,
                SOCKCAP_PEER_ADDR = addr.as_deref(),
                SOCKCAP_RESULT = outcome.result(),
                SOCKCAP_EXIT_STATUS = status,
                SOCKCAP_SIGNAL = signal,
                SOCKCAP_DURATION_USEC = after.as_micros() as u64,
                SOCKCAP_WAIT_USEC = waited.map(|waited| waited.as_micros() as u64),
                SOCKCAP_CPU_USEC = usage.map(|usage| usage.cpu_usec),
                SOCKCAP_MEMORY_PEAK = usage.map(|usage| usage.peak_memory),
                SOCKCAP_TASKS_PEAK = usage.and_then(|usage| usage.peak_tasks),
                SOCKCAP_IO_READ_BYTES = io.map(|(read, _)| read),
                SOCKCAP_IO_WRITTEN_BYTES = io.map(|(_, written)| written),
                "{event}"
            )
        }
        Event::Lost { count } | Event::CutShort { count, .. } => {
            tracing::warn!(MESSAGE_ID = id, SOCKCAP_COUNT = count, "{event}")
        }
        _ => at!(event.severity(), MESSAGE_ID = id, "{event}"),
    }
}

/// `192.0.2.7=301 198.51.100.2=90`; `None` if nobody is known.
fn top_sources(sources: &Sources) -> Option<String> {
    let words = sources.iter().map(|(network, count)| format!("{}={count}", network.short()));
    (!sources.is_empty()).then(|| words.collect::<Vec<_>>().join(" "))
}

/// The stderr target: the message alone, one write per line.
struct Lines {
    prefix: bool,
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event, _: Context<S>) {
        let mut line = String::new();
        if self.prefix {
            let number = match *event.metadata().level() {
                tracing::Level::ERROR => Severity::Error,
                tracing::Level::WARN => Severity::Warning,
                tracing::Level::INFO => Severity::Notice,
                _ => Severity::Info,
            };
            let _ = write!(line, "<{}>", number.number());
        }
        event.record(&mut Message(&mut line));
        // A client's name for itself (a UNIX socket's path) must not forge a second line.
        let mut line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        line.push('\n');
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
