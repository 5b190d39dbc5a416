//! What is asked about the daemon, and what is answered: one question a turn, after all clients.
#![forbid(unsafe_code)]

use super::Daemon;
use super::inspect::{since_usec, usec};
use crate::child::commands::listing::Listed;
use crate::daemon::{boot, changes};
use crate::listen::queries::{Answer, Due, Kind, MAX_OUTPUT, Stream, Work};
use crate::listen::waiting::Held;
use crate::observe::event::{Change, Event, Severity};
use crate::observe::snapshot::{self, NAME};
use crate::observe::varlink::{self, Call, Error, reply};
use crate::observe::{agent, http, metrics};
use crate::policy::gate::live::SourceUse;
use crate::policy::network::Network;
use crate::policy::source::Source;
use crate::poll::Ready;
use serde_json::{Map, Value, json};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// How long load balancers have to ask (agent-check) and learn of a drain, before it begins: a client that they have sent before that
/// could not go to anybody else.
const NOTICE: Duration = Duration::from_secs(5);

/// Records of one part of an answer, so that it is about what an asker may be sent at once.
const RECORDS: usize = MAX_OUTPUT / 256;

/// Sources that are listed at most.
const MAX_SOURCES: usize = 1000;

/// A method's answer: its reply, or the first part of several.
enum Told {
    Once(Value),
    InParts(Stream),
}

impl Daemon {
    /// Does one asker's work.
    pub(super) fn answer_queries(&mut self, now: Instant, ready: &Ready) {
        if self.inquiry.queries.is_empty() {
            return;
        }
        self.inquiry.queries.one_of(now, ready, &self.poll);
        while let Some(news) = self.inquiry.queries.next_news() {
            self.listener_news(news);
        }
        let Some(Due { at, kind, credentials, is_command, work }) = self.inquiry.queries.next_due(now) else { return };
        let answer = match (kind, work) {
            (Kind::Control, Work::Request(Some(_))) if is_command => denied(),
            (Kind::Control, Work::Request(Some(request))) => self.control(now, credentials, &request),
            (Kind::Control, Work::Part(stream)) => self.part(now, stream),
            (Kind::Metrics, Work::Request(Some(request))) => {
                let page = metrics::answer(&request, || self.snapshot(now));
                last(page.unwrap_or_else(|| http::refusal(http::Status::BadRequest)))
            }
            (Kind::Agent, Work::Request(_)) => {
                last(agent::line(&self.snapshot(now), self.settings.agent_share).into_bytes())
            }
            (Kind::Control, Work::Request(None)) | (Kind::Metrics | Kind::Agent, _) => last(Vec::new()),
        };
        self.inquiry.queries.answer(now, at, answer, &self.poll);
        self.settle(now);
    }

    fn control(&mut self, now: Instant, by: Option<(i32, u32)>, request: &[u8]) -> Answer {
        let mut answer = Answer::default();
        let Ok(call) = varlink::read(request) else { return last(Vec::new()) };
        match self.call(now, by, &call) {
            Ok(_) if call.oneway => {}
            Ok(Told::Once(told)) => reply(&mut answer.bytes, &told, false),
            Ok(Told::InParts(_)) if !call.more => varlink::refuse(&mut answer.bytes, Error::ExpectedMore),
            Ok(Told::InParts(stream)) => return self.part(now, stream),
            Err(_) if call.oneway => {}
            Err(error) => varlink::refuse(&mut answer.bytes, error),
        }
        answer
    }

    fn call(&mut self, now: Instant, by: Option<(i32, u32)>, call: &Call) -> Result<Told, Error> {
        let once = |told: Value| Ok(Told::Once(told));
        if let Some(method) = call.method.strip_prefix("org.varlink.service.") {
            return once(varlink::about(call, method, varlink::INTERFACES)?);
        }
        // Who asks, if it may change anything.
        let changer = || match by {
            Some((pid, uid)) if uid == 0 || nix::unistd::Uid::effective().as_raw() == uid => {
                Ok(format!("uid {uid} (pid {pid})"))
            }
            _ => Err(Error::PermissionDenied),
        };
        if let Some(method) = call.method.strip_prefix("io.systemd.service.") {
            return match method {
                "Ping" => once(json!({})),
                "GetLogLevel" => once(json!({ "level": self.report.max_severity().number() })),
                "SetLogLevel" => {
                    let asked_by = changer()?;
                    let level: u8 = call.needed("level")?;
                    let severity = Severity::of_number(level).ok_or(Error::InvalidParameter("level"))?;
                    if severity != self.report.max_severity() {
                        self.report.set_max_severity(severity);
                        self.commands.read_usage(severity == Severity::Info);
                        self.changed(asked_by, Change::LogLevel(severity));
                    }
                    once(json!({}))
                }
                _ => Err(Error::MethodNotFound(call.method.clone())),
            };
        }
        let Some(method) = call.method.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('.')) else {
            return Err(varlink::unknown(call, varlink::INTERFACES));
        };
        match method {
            // What is a plain structure is a value without fail.
            "Describe" => once(json!(self.snapshot(now))),
            "ListConnections" => Ok(Told::InParts(Stream::Connections(0, 0))),
            "ListWaiting" => Ok(Told::InParts(Stream::Waiting(0))),
            "Drain" | "Resume" => {
                self.set_drained(now, method == "Drain", changer()?);
                once(json!({}))
            }
            "Stop" => {
                let asked_by = changer()?;
                let (id, is_forced) = (call.needed("id")?, call.argument("force")?.unwrap_or(false));
                self.look_for_ends(now); // what has ended by now cannot be ended
                let stopped = self.commands.stop(now, id, is_forced, &asked_by);
                once(json!({ "pid": stopped.ok_or(Error::Own("NoSuchConnection", json!({ "id": id })))? }))
            }
            "Set" => self.set_limits(now, changer()?, call),
            "ForgetSource" => {
                let asked_by = changer()?;
                let source: String = call.needed("source")?;
                let unknown = || Error::Own("NoSuchSource", json!({ "source": source }));
                let network = source.parse::<Network>().map_err(|_| unknown())?;
                if !self.gate.forget_source(now, network, &mut self.actions) {
                    return Err(unknown());
                }
                self.changed(asked_by, Change::Forgotten(source));
                once(json!({}))
            }
            "ListSources" => {
                let count = call.argument("limit")?.unwrap_or(MAX_SOURCES).min(MAX_SOURCES);
                Ok(Told::InParts(Stream::Sources(self.sources(now, count))))
            }
            "Subscribe" => Ok(Told::InParts(Stream::Changes(None, 0))),
            _ => Err(varlink::unknown(call, varlink::INTERFACES)),
        }
    }

    /// Whether no further commands are to be started.
    pub(super) fn is_drained(&self) -> bool {
        self.gate.is_drained() || self.inquiry.drain_at.is_some()
    }

    /// Load balancers know by now: nobody is on the way here any more.
    pub(super) fn drain_is_due(&mut self, now: Instant) {
        if self.inquiry.drain_at.take().is_some() {
            self.gate.set_drained(now, true, &mut self.actions);
            self.settle(now);
        }
    }

    fn set_limits(&mut self, now: Instant, asked_by: String, call: &Call) -> Result<Told, Error> {
        let not = |field: &str, reason: &str| Error::Own("NotSettable", json!({ "field": field, "reason": reason }));
        let wanted: Map<String, Value> = call.needed("limits")?;
        let names: Vec<&str> = self.listeners.iter().map(|listener| &*listener.name).collect();
        let new = changes::apply(&wanted, &self.settings, &names);
        let new = new.map_err(|changes::NotSettable(field, reason)| not(&field, &reason))?;
        let rules = boot::rules(&new, &names).map_err(|_| not("maxPerListener", "no listener has this name"))?;
        let hold = boot::hold(&new, names.len(), self.inquiry.nofile);
        let said = changes::words(&wanted, &new);
        self.settings = new;
        self.gate.set(now, &rules, hold, &mut self.actions);
        self.read_gauges(now);
        self.manager.status_is_old();
        if !said.is_empty() {
            self.changed(asked_by, Change::Limits(said));
        }
        if let Some(event) = boot::fewer_held(&hold) {
            self.report.log(event);
        }
        Ok(Told::Once(json!({ "limits": self.limits() })))
    }

    fn set_drained(&mut self, now: Instant, is_drained: bool, asked_by: String) {
        if is_drained == self.is_drained() {
            return;
        }
        let after = if is_drained && self.inquiry.queries.has(Kind::Agent) { NOTICE } else { Duration::ZERO };
        self.inquiry.drain_at = (!after.is_zero()).then(|| now + after);
        if after.is_zero() {
            self.gate.set_drained(now, is_drained, &mut self.actions);
        }
        let active = self.gate.census().active;
        let since = self.inquiry.drained_since.replace(now).filter(|_| !is_drained);
        let lasted = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.changed(asked_by, if is_drained { Change::Drained { active, after } } else { Change::Resumed { lasted } });
    }

    fn changed(&mut self, asked_by: String, change: Change) {
        self.report.log(Event::Changed { change, asked_by });
    }

    /// The next part of an answer.
    fn part(&mut self, now: Instant, stream: Stream) -> Answer {
        let mut answer = Answer::default();
        match stream {
            Stream::Waiting(from) => {
                let clients = self.waiting.from(from, RECORDS + 1);
                let next = clients.get(RECORDS).map(|held| held.who.ticket);
                let records: Vec<_> =
                    clients.iter().take(RECORDS).map(|held| json!({ "client": self.client(now, held) })).collect();
                records_to(&mut answer.bytes, &records, next.is_some());
                answer.stream = next.map(Stream::Waiting);
            }
            Stream::Changes(_, before) => {
                let mut runtime = json!(self.runtime(now));
                let at = runtime["nowUSec"].take();
                let mut hasher = DefaultHasher::new();
                runtime.hash(&mut hasher);
                let known = hasher.finish().max(1);
                runtime["nowUSec"] = at;
                if known != before {
                    reply(&mut answer.bytes, &json!({ "runtime": runtime }), true);
                }
                answer.stream = Some(Stream::Changes(Some(now), known));
            }
            Stream::Connections(id, pid) => {
                let found = self.commands.listing((id, pid), RECORDS + 1);
                let has_more = found.len() > RECORDS;
                let shown = &found[..found.len().min(RECORDS)];
                let records: Vec<_> =
                    shown.iter().map(|listed| json!({ "connection": self.connection(now, listed) })).collect();
                records_to(&mut answer.bytes, &records, has_more);
                answer.stream = shown.last().filter(|_| has_more).map(|last| {
                    let (id, pid) = last.cursor();
                    Stream::Connections(id, pid)
                });
            }
            Stream::Sources(mut left) => {
                let shown = left.drain(..left.len().min(RECORDS)).collect::<Vec<_>>();
                let records: Vec<_> = shown.iter().map(|of| json!({ "source": self.source(now, of) })).collect();
                records_to(&mut answer.bytes, &records, !left.is_empty());
                answer.stream = (!left.is_empty()).then_some(Stream::Sources(left));
            }
        }
        answer
    }

    fn connection(&self, now: Instant, listed: &Listed) -> snapshot::Connection {
        snapshot::Connection {
            id: listed.id,
            pid: listed.pid,
            listener: listed.listener.map(|id| self.listeners[id].label.clone()),
            source: listed.source.to_string(),
            peer_port: listed.peer_port,
            is_exempt: listed.is_exempt,
            since_usec: since_usec(now, listed.since),
            waited_usec: listed.waited.map(usec),
        }
    }

    /// Those that have commands or held clients, then those that are refused for now, and then those that were refused most.
    fn sources(&self, now: Instant, count: usize) -> VecDeque<SourceUse> {
        let mut sources = self.gate.sources(self.settings.source_prefix, count);
        let mut known: HashSet<_> = sources.iter().filter_map(|of| of.network).collect();
        let refused = self.report.refused_sources().most(count).into_iter().map(|(network, _)| network);
        let others = self.gate.limited(now, count).into_iter().chain(refused).filter(|network| known.insert(*network));
        sources.extend(others.map(|network| SourceUse { network: Some(network), active: 0, held: 0 }));
        sources.truncate(count);
        sources.into()
    }

    fn source(&self, now: Instant, of: &SourceUse) -> snapshot::Source {
        let standing = of.network.map(|network| self.gate.standing(now, network.base())).unwrap_or_default();
        snapshot::Source {
            source: of.network.map_or_else(|| Source::Unknown.to_string(), |network| network.short()),
            active: of.active,
            held: of.held,
            refused: of.network.map_or(0, |network| self.report.refused_sources().count(network)),
            penalty_usec: usec(standing.penalty),
            rate_usec: usec(standing.rate),
        }
    }

    fn client(&self, now: Instant, held: &Held) -> snapshot::Client {
        let who = &held.who;
        snapshot::Client {
            ticket: who.ticket,
            listener: self.listeners[who.listener].label.clone(),
            source: who.source.to_string(),
            peer_port: held.connection.peer.port(),
            is_exempt: who.is_exempt,
            since_usec: since_usec(now, who.since),
        }
    }
}

/// To whom nothing is answered.
fn denied() -> Answer {
    let mut bytes = Vec::new();
    varlink::refuse(&mut bytes, Error::PermissionDenied);
    last(bytes)
}

/// Nothing comes after this.
fn last(bytes: Vec<u8>) -> Answer {
    Answer { bytes, is_last: true, ..Answer::default() }
}

/// Replies for these; without any, one that is empty. `continues`: more will follow them.
fn records_to(out: &mut Vec<u8>, records: &[Value], continues: bool) {
    let Some((last, others)) = records.split_last() else { return reply(out, &json!({}), continues) };
    others.iter().for_each(|record| reply(out, record, true));
    reply(out, last, continues);
}
