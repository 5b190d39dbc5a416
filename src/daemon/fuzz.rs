//! Those who ask about the daemon, and what an earlier daemon has left.
#![forbid(unsafe_code)]

use super::settings::Settings;
use super::state::{self, Inventory};
use super::{boot, changes};
use crate::child::ledger::fuzz::left_behind;
use crate::child::ledger::{Ledger, SavedState};
use crate::fuzzing::bytes::{Choices, is_plain_line};
use crate::listen::queries::fuzz::requests;
use crate::listen::queries::{Kind, MAX_OUTPUT};
use crate::observe::fuzz::assert_answer;
use crate::observe::snapshot::{Count, Histogram, Listener, Snapshot};
use crate::observe::tally::Tally;
use crate::observe::varlink::{self, Call, Error};
use crate::policy::network::Network;
use crate::policy::source::Source;
use serde_json::{Map, Value, json};
use std::os::fd::AsFd;
use std::time::Duration;

/// `PIECES BYTES`: what somebody says at the control socket, in such pieces, of daemons that were started with these settings.
pub(crate) fn control(data: &[u8], started: &[Settings]) {
    let mut from = Choices(data);
    let (how, said) = (from.byte(), from.0);
    let all = requests(Kind::Control, said, how);
    let mut expected: Vec<Option<&[u8]>> = said.split(|byte| *byte == 0).map(Some).collect();
    // What has no end is no request, unless nothing has begun.
    let is_rest = expected.pop().flatten().is_some_and(|rest| !rest.is_empty());
    expected.extend(is_rest.then_some(None));
    assert_eq!(all.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    for call in all.iter().flatten().filter_map(|request| varlink::read(request).ok()) {
        let mut out = Vec::new();
        match answer(&call, started) {
            Ok(value) => varlink::reply(&mut out, &value, call.more),
            Err(error) => varlink::refuse(&mut out, error),
        }
        assert_eq!(out.iter().position(|byte| *byte == 0), Some(out.len() - 1), "a reply of two");
        assert!(out.len() <= MAX_OUTPUT + 2 * said.len(), "{} bytes", out.len());
        let reply: Map<String, Value> = serde_json::from_slice(&out[..out.len() - 1]).unwrap();
        assert!(reply["parameters"].is_object() || reply.get("error").is_none(), "{reply:?}");
    }
}

/// As far as the daemon itself answers without what it serves.
fn answer(call: &Call, started: &[Settings]) -> Result<Value, Error> {
    if let Some(method) = call.method.strip_prefix("org.varlink.service.") {
        return varlink::about(call, method, varlink::INTERFACES);
    }
    match call.method.rsplit('.').next().unwrap_or_default() {
        "Stop" => {
            let (id, is_forced): (u64, _) = (call.needed("id")?, call.argument("force")?.unwrap_or(false));
            Ok(json!({ "id": id, "force": is_forced }))
        }
        "SetLogLevel" => Ok(json!({ "level": call.needed::<u8>("level")? })),
        "ListSources" => Ok(json!({ "limit": call.argument::<usize>("limit")? })),
        "ForgetSource" => {
            let source: String = call.needed("source")?;
            let network =
                source.parse::<Network>().map_err(|_| Error::Own("NoSuchSource", json!({ "source": source })))?;
            assert_eq!(network.to_string().parse(), Ok(network), "{source}");
            Ok(json!({ "source": network.to_string() }))
        }
        "Set" => {
            set(&call.needed("limits")?, started);
            Ok(json!({}))
        }
        _ => Err(varlink::unknown(call, varlink::INTERFACES)),
    }
}

/// Other limits are good ones, and are no others when they are set again.
fn set(wanted: &Map<String, Value>, started: &[Settings]) {
    let names = ["web", "a b"];
    for settings in started {
        let new = match changes::apply(wanted, settings, &names) {
            Ok(new) => new,
            Err(changes::NotSettable(_, reason)) => {
                assert!(!reason.is_empty());
                continue;
            }
        };
        let rules = boot::rules(&new, &names).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(boot::hold(&new, names.len(), None).capacity <= new.max_waiting.max(1000));
        for rate in [rules.max_rate, rules.max_rate_per_source].into_iter().flatten() {
            assert!(rate.interval() > Duration::ZERO && rate.tolerance() <= Duration::from_secs(366 * 86_400));
        }
        assert!(rules.load_average.is_none_or(|load| load.is_finite() && load > 0.0));
        assert!(is_plain_line(&changes::words(wanted, &new)));
        let again = changes::apply(wanted, &new, &names);
        assert_eq!(again.map(|again| format!("{again:?}")).ok(), Some(format!("{new:?}")));
    }
}

/// `KIND PIECES BYTES`: what a client of the metrics listener, or of the agent check, says in such pieces.
pub(crate) fn http(data: &[u8]) {
    let mut from = Choices(data);
    let (kind, how, said) =
        (*from.one_of(&[Kind::Metrics, Kind::Metrics, Kind::Metrics, Kind::Agent]), from.byte(), from.0);
    let whole = requests(kind, said, 0);
    let parts = requests(kind, said, how.max(1));
    if kind == Kind::Agent {
        assert!(whole.len() <= 1 && parts.len() <= 1, "it is asked once");
        return;
    }
    let answers =
        [whole, parts].map(|all| all.into_iter().flatten().map(|request| assert_answer(&request, &busy())).next());
    assert_eq!(answers[0].is_some(), !said.is_empty(), "an answer to each who has asked");
    assert_eq!(answers[0], answers[1], "in other pieces ({how}) another answer");
}

/// A daemon that serves, at listeners whose names try.
fn busy() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.context.unit = "a\"b\\c\nd{}=,.service".into();
    let runtime = &mut snapshot.runtime;
    runtime.refused = vec![Count { name: "total-limit".into(), count: 7 }, Count { name: "new\"\n".into(), count: 1 }];
    let times =
        Histogram { name: "x".into(), bounds_usec: vec![1_000_000, 1_500_000], counts: vec![1, 2, 3], sum_usec: 9 };
    (runtime.wait_times, runtime.session_times) = (vec![times.clone()], times);
    let listener =
        |label: &str| Listener { name: "web".into(), label: label.into(), accepted: 3, ..Listener::default() };
    runtime.listeners = ["web", "web\u{1b}[2J", "\"},\\", "web"].map(listener).into();
    snapshot
}

/// A ledger that an earlier daemon has left, with some words changed: it is believed as a whole or not at all, and gone on with.
pub(crate) fn state(data: &[u8]) {
    let labels = ["web", "a b"];
    let name = |ledger: &Ledger| state::name(ledger, labels.into_iter());
    let fd = left_behind(data, name);
    let again = || fd.as_fd().try_clone_to_owned().unwrap();
    let Some((mut ledger, past)) = Ledger::reopen(again()) else { return };
    name(&ledger);
    let numbers = state::read(&past, labels.into_iter());
    assert!(numbers.next_id > 0 && numbers.next_id.max(numbers.next_ticket) <= 1 << 53);
    let mut inventory = Inventory::new(labels.len());
    for (nth, command) in past.commands.iter().enumerate() {
        assert!(command.entry.id.is_none_or(|id| id <= 1 << 53) && command.pid > 0, "{command:?}");
        assert_eq!(command.entry.source.to_string().parse::<Source>(), Ok(command.entry.source));
        inventory.count(Some(nth % 3), |remains| match nth % 2 {
            0 => remains.running += 1,
            _ => remains.ended += 1,
        });
    }
    let books = inventory.books(&numbers);
    let all = std::iter::once(&books.counters().total).chain(books.listeners());
    for Tally { accepted, served, gone, refused } in all {
        assert!(*accepted >= served + gone + refused.iter().sum::<u64>());
    }
    // The next daemon finds what this one has found.
    let sorted = |mut past: SavedState| {
        past.commands.sort_by_key(|command| command.pid);
        past.commands
    };
    let next = Ledger::reopen(again()).expect("what is believed once is believed again").1;
    assert!(next.is_complete, "what was missing is asked for once");
    let commands = sorted(next);
    for command in &commands {
        ledger.end(Some(command.place));
    }
    let kept: Vec<_> = commands.iter().map(|command| ledger.keep(command.pid, &command.entry).unwrap()).collect();
    let entries =
        |all: &[crate::child::ledger::Recorded]| all.iter().map(|one| (one.pid, one.entry)).collect::<Vec<_>>();
    assert_eq!(entries(&sorted(Ledger::reopen(again()).unwrap().1)), entries(&commands));
    kept.into_iter().for_each(|place| ledger.end(Some(place)));
    assert_eq!(Ledger::reopen(again()).unwrap().1.commands, []);
}
