//! `Set`: limits change while the service runs, and nobody is cut.

use crate::common::*;
use serde_json::{Value, json};

fn start(folder: &ControlFolder, args: &[&str]) -> Daemon {
    sockcap(&["--listen", "127.0.0.1:0", "--control", folder.socket().to_str().unwrap()]).args(args).start()
}

#[track_caller]
fn set(control: &mut Control, limits: Value) -> Value {
    control.call("Set", json!({ "limits": limits }))["limits"].clone()
}

/// A raised cap serves at once who waits; a lowered one ends nobody and holds from then on.
#[test]
fn the_cap_moves_and_nobody_is_cut() {
    let folder = ControlFolder::new("set-cap");
    let mut daemon = start(&folder, &["--max-connections", "1", "--when-full", "wait", "--max-wait", "1h"]);
    let mut control = Control::connect(&folder.socket());
    let mut clients: Vec<_> = (0..4).map(|_| daemon.connect()).collect();
    echoes(&mut clients[0]);
    control.until("the others wait", |runtime| runtime["held"] == 3);
    let limits = set(&mut control, json!({ "maxConnections": 3 }));
    assert_eq!(limits["maxConnections"], 3);
    echoes(&mut clients[1]);
    echoes(&mut clients[2]);
    assert_eq!(control.runtime()["active"], 3);
    set(&mut control, json!({ "maxConnections": 1 }));
    clients[..3].iter_mut().for_each(echoes);
    drop(clients.drain(..2));
    control.until("one is left", |runtime| runtime["active"] == 1 && runtime["held"] == 1);
    drop(clients.remove(0));
    echoes(&mut clients[0]);
    daemon.wait_text("limits set until the next restart: max-connections=3, as asked by uid ");
}

/// `--when-full=refuse`: the next client is judged by what was set.
#[test]
fn other_limits_hold_for_the_next_client() {
    let folder = ControlFolder::new("set-others");
    let mut daemon = start(&folder, &["--exempt", "192.0.2.1"]);
    let mut control = Control::connect(&folder.socket());
    let mut first = daemon.connect();
    echoes(&mut first);
    set(&mut control, json!({ "maxPerSource": [{ "max": 1 }] }));
    daemon.connect();
    daemon.wait_text("rejected connection: at capacity (1/1) of this source");
    set(&mut control, json!({ "maxPerSource": [] }));
    echoes(&mut daemon.connect());
    set(&mut control, json!({ "maxPerListener": [{ "listener": "127.0.0.1:0", "max": 1 }] }));
    daemon.connect();
    daemon.wait_text("of this listener");
    set(&mut control, json!({ "maxPerListener": [{ "listener": "127.0.0.1:0", "max": 0 }] }));
    set(&mut control, json!({ "maxRate": { "count": 1, "perUSec": 3_600_000_000u64, "burst": 1 } }));
    echoes(&mut daemon.connect());
    daemon.connect();
    daemon.wait_text("rejected connection: over the rate limit");
    let limits = set(&mut control, json!({ "maxRate": { "count": 0, "perUSec": 0, "burst": 0 } }));
    assert_eq!(limits["maxRate"]["count"], 0);
    echoes(&mut daemon.connect());
    echoes(&mut first);
}

/// Nothing changes unless all of it can be, and the field says why.
#[test]
fn what_cannot_be_set_is_told_by_field() {
    let folder = ControlFolder::new("set-bad");
    let _daemon = start(&folder, &["--exempt", "uid=1", "--reserved", "3"]);
    let mut control = Control::connect(&folder.socket());
    let before = set(&mut control, json!({}));
    for (wanted, field, words) in [
        (json!({ "maxConnexions": 1 }), "maxConnexions", "none of the limits"),
        (json!({ "timeLimitUSec": 1 }), "timeLimitUSec", "none of the limits"),
        (json!({ "maxConnections": -1 }), "maxConnections", "expected a number"),
        (json!({ "maxConnections": 1u64 << 32 }), "maxConnections", "expected a number"),
        (json!({ "maxConnections": "8" }), "maxConnections", "expected a number"),
        (json!({ "maxConnections": 3 }), "maxConnections", "3 reserved slots"),
        (json!({ "reserved": 100 }), "reserved", "100 reserved slots"),
        (json!({ "maxConnections": 50, "reserved": 50 }), "reserved", "50 reserved slots"),
        (json!({ "maxPerListener": [{ "listener": "c", "max": 1 }] }), "maxPerListener", "'127.0.0.1:0'"),
        (json!({ "maxPerSource": [{ "max": 1, "ipv4Prefix": 33 }] }), "maxPerSource", "up to 32"),
        (json!({ "maxPerSource": [{ "max": 1 }, { "max": 2 }] }), "maxPerSource", "two limits"),
        (json!({ "maxRate": { "count": 1, "perUSec": 0, "burst": 1 } }), "maxRate", ""),
        (json!({ "maxRate": 1 }), "maxRate", "expected count"),
        (json!({ "maxRate": { "count": 1, "perUSec": 1, "burst": 1, "x": 1 } }), "maxRate", "'x' is not known"),
        (json!({ "maxPerSource": [{ "max": 1 }, { "max": 2, "x": 1 }] }), "maxPerSource", "'x' is not known"),
        (json!({ "maxPerListener": [{ "listener": "c", "max": 1, "x": 1 }] }), "maxPerListener", "'x' is not known"),
        (json!({ "loadAverage": -1 }), "loadAverage", "not negative"),
        (json!({ "maxConnections": 9, "maxWaiting": 1 }), "maxWaiting", "refuse"),
    ] {
        let (error, told) = control.error("Set", json!({ "limits": wanted }));
        assert_eq!((error.as_str(), &told["field"]), ("NotSettable", &json!(field)), "{wanted}: {told}");
        assert!(told["reason"].as_str().unwrap().contains(words), "{wanted}: {told}");
    }
    for wrong in [json!({}), json!({ "limits": 7 }), json!({ "limits": [] })] {
        assert_eq!(control.error("Set", wrong).0, "org.varlink.service.InvalidParameter");
    }
    assert_eq!(set(&mut control, json!({ "maxConnections": null })), before);
    assert_eq!(set(&mut control, json!({ "maxConnections": 4 }))["maxConnections"], 4);
}

/// What was told to be so is told to be over, though nothing is read any more that would end it.
#[test]
fn a_gate_that_is_taken_away_is_open() {
    if !is_root() {
        return skip("a_gate_that_is_taken_away_is_open", "only root can mount over /proc/loadavg");
    }
    let (folder, load) = (ControlFolder::new("set-gate"), Load::new(9.0));
    let mut daemon = load.start(&["--control", folder.socket().to_str().unwrap()]);
    let _first = Session::open(daemon.addr(0));
    refused(daemon.connect());
    daemon.wait_text("not starting further commands");
    set(&mut Control::connect(&folder.socket()), json!({ "loadAverage": 0 }));
    let _second = Session::open(daemon.addr(0));
    daemon.wait_text("starting further commands again");
}
