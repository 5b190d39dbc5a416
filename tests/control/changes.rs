//! What sockcapctl changes is changed, and it says what holds from then on.

use super::ctl::{done, says, served, start};
use crate::common::*;
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn connections_are_stopped_by_id() {
    let folder = ControlFolder::new("ctl-stop");
    let socket = folder.socket();
    let daemon = start(&folder, &[]);
    assert_eq!(done(&socket, &["connections", "UNIT"]), "No command runs.\n");
    let clients = [(); 3].map(|()| served(&daemon));
    let listed = done(&socket, &["connections", "UNIT"]);
    let ids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids.len(), 3, "{listed}");
    let [first, second, third] = clients;

    let said = says(&socket, &["stop", "UNIT", ids[0], "99"]);
    assert_eq!(said.code, Some(4), "{} {}", said.out, said.err);
    assert!(said.out.starts_with(&format!("Sent SIGTERM to connection {}, process ", ids[0])), "{}", said.out);
    assert!(said.err.contains("no command runs for connection 99"), "{}", said.err);
    to_end(first);
    assert_eq!(says(&socket, &["stop", "UNIT", "99"]).code, Some(1));
    let killed = done(&socket, &["stop", "--force", "UNIT", ids[1]]);
    assert!(killed.starts_with("Sent SIGKILL to "), "{killed}");
    to_end(second);
    let reply = json(&done(&socket, &["--json", "stop", "UNIT", ids[2]]));
    assert!(reply["pid"].as_u64().is_some_and(|pid| pid > 1), "{reply}");
    to_end(third);
}

#[test]
fn limits_are_set_and_it_is_told_how_to_keep_them() {
    let folder = ControlFolder::new("ctl-set");
    let socket = folder.socket();
    let daemon = start(&folder, &["--max-connections", "1", "--source-prefix", "24,56"]);
    let _one = served(&daemon);
    assert_eq!(
        done(&socket, &["set", "UNIT", "max-connections=2", "max-rate=100/1s"]),
        "max-connections 1 -> 2\nmax-rate none -> 100/1s\n\
         Until it is restarted. To keep it, start sockcap with --max-connections=2 --max-rate=100/1s\n"
    );
    let _two = served(&daemon);
    let status = done(&socket, &["status", "UNIT"]);
    assert!(status.contains("Active: [##########] 2/2\n") && status.contains("Limits: max-rate 100/1s\n"), "{status}");

    // Whose addresses count as one is the daemon's to say.
    let said = done(&socket, &["set", "UNIT", "max-per-source=8"]);
    assert!(said.starts_with("max-per-source none -> 8@24,56\n"), "{said}");
    let reply = json(&done(&socket, &["--json", "set", "UNIT", "max-per-source=4"]));
    let level = &reply["limits"]["maxPerSource"][0];
    assert_eq!((&level["max"], &level["ipv4Prefix"], &level["ipv6Prefix"]), (&4.into(), &24.into(), &56.into()));
    let said = done(&socket, &["set", "UNIT", "max-per-source=5@,32"]);
    assert!(said.starts_with("max-per-source 4@24,56 -> 5@,32\n"), "{said}");
    assert!(said.contains("start sockcap with --max-per-source=5@,32\n"), "{said}");
    assert!(done(&socket, &["set", "UNIT", "max-per-source=0"]).starts_with("max-per-source 5@,32 -> none\n"));

    let said = says(&socket, &["set", "UNIT", "max-connections=many"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("invalid value 'many' for max-connections: expected a number"), "{}", said.err);
    let said = says(&socket, &["set", "UNIT", "max-waiting=3"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("cannot set max-waiting: nobody waits"), "{}", said.err);
}

#[test]
fn sources_are_listed_and_forgiven() {
    let folder = ControlFolder::new("ctl-sources");
    let socket = folder.socket();
    let daemon = start(&folder, &["--max-rate-per-source", "1/1h"]);
    assert_eq!(done(&socket, &["sources", "UNIT"]), "No source is known.\n");
    let _one = served(&daemon);
    refused(daemon.connect());
    let listed = done(&socket, &["sources", "UNIT"]);
    let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..5], ["127.0.0.1", "1", "0", "1", "-"], "{listed}");
    assert_ne!(row[5], "-", "{listed}");
    let source = json(&done(&socket, &["--json", "sources", "UNIT"]))["source"].clone();
    assert_eq!((&source["source"], &source["refused"]), (&"127.0.0.1".into(), &1.into()), "{source}");

    assert_eq!(done(&socket, &["forget", "UNIT", "127.0.0.1"]), "Penalty and rate of 127.0.0.1 are lifted.\n");
    let _two = served(&daemon);
    refused(daemon.connect());
    assert_eq!(json(&done(&socket, &["--json", "forget", "UNIT", "127.0.0.1"])), json("{}"));
    let _three = served(&daemon);
    let said = says(&socket, &["forget", "UNIT", "192.0.2.1"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("source '192.0.2.1' has no penalty and no rate to lift"), "{}", said.err);
}

#[test]
fn the_log_level_is_changed_live() {
    let folder = ControlFolder::new("ctl-level");
    let socket = folder.socket();
    let mut daemon = start(&folder, &[]);
    assert_eq!(done(&socket, &["log-level", "UNIT"]), "notice\n");
    assert_eq!(done(&socket, &["log-level", "UNIT", "info"]), "");
    assert_eq!(done(&socket, &["log-level", "UNIT"]), "info\n");
    let _one = served(&daemon);
    daemon.wait_text("serving connection 1 ");
    assert_eq!(says(&socket, &["log-level", "UNIT", "loud"]).code, Some(2));
    assert_eq!(json(&done(&socket, &["--json", "log-level", "UNIT", "notice"])), json("{}"));
    assert_eq!(json(&done(&socket, &["--json", "log-level", "UNIT"]))["runtime"]["logLevel"], 5);
}

/// A daemon whose cap load balancers ask for, where it serves, and where it answers them.
fn start_behind_a_balancer(folder: &ControlFolder) -> (Daemon, SocketAddr, SocketAddr) {
    let sockets = [(); 2].map(|()| tcp_listener("127.0.0.1:0", 128));
    let [work, ask] = sockets.each_ref().map(|socket| socket.local_addr().expect("an address"));
    let start = sockcap(&["--control", folder.socket().to_str().unwrap()]);
    let daemon = sockets.into_iter().fold(start, Start::pass).names("work:agent-check").start();
    (daemon, work, ask)
}

/// Load balancers are told at once; whoever they have sent before they knew is served.
#[test]
fn a_drain_begins_when_load_balancers_know_of_it() {
    const NOTICE: Duration = Duration::from_secs(5);
    let folder = ControlFolder::new("ctl-notice");
    let socket = folder.socket();
    let (_daemon, work, ask) = start_behind_a_balancer(&folder);
    let mut control = Control::connect(&socket);
    let mut first = connect(work);
    echoes(&mut first);
    loop {
        let asked = Instant::now();
        let said = done(&socket, &["drain", "UNIT"]);
        assert_eq!(to_end(connect(ask)), "up drain\n");
        let mut late = connect(work);
        let _ = writeln!(late, "hello"); // who is refused may be gone
        if line(&mut late) == "hello" {
            assert!(said.contains(" will be drained in a few seconds"), "{said}");
            break;
        }
        // A machine that was stopped for as long as that proves nothing.
        assert!(asked.elapsed() >= NOTICE, "refused before load balancers know");
        done(&socket, &["resume", "UNIT"]);
    }
    control.until("the drain begins", |runtime| runtime["phase"] == "drained");
    assert!(done(&socket, &["drain", "UNIT"]).contains(" is drained: "));
    refused(connect(work));
    echoes(&mut first);
    done(&socket, &["resume", "UNIT"]);
    assert_eq!(to_end(connect(ask)), "up ready weight:100% maxconn:100\n");
    // One that is ended before it has begun never begins.
    done(&socket, &["drain", "UNIT"]);
    done(&socket, &["resume", "UNIT"]);
    assert_eq!(control.runtime()["phase"], "running");
    echoes(&mut connect(work));
}

/// With nobody there, it is waited for all the same: somebody may be on the way.
#[test]
fn a_drain_that_is_waited_for_has_begun() {
    let folder = ControlFolder::new("ctl-notice-wait");
    let (_daemon, work, _) = start_behind_a_balancer(&folder);
    let said = done(&folder.socket(), &["drain", "--wait", "UNIT"]);
    assert!(said.contains(" is drained: no command runs. "), "{said}");
    refused(connect(work));
}
