//! Listeners that are for questions: known by name, never served by a command, outside of every cap.

use crate::common::*;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

/// A listener of this machine's own, and its address.
fn tcp() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// Everything that comes back for this, up to the end of file.
#[track_caller]
fn asked(at: std::net::SocketAddr, request: &str) -> String {
    let mut stream = connect(at);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an orderly end");
    answer
}

#[test]
fn metrics_and_agent_check_are_answered_beside_a_full_service() {
    let ((service, to), (metrics, metrics_at), (agent, agent_at)) = (tcp(), tcp(), tcp());
    let daemon = sockcap(&["--max-connections", "1"]).pass(service).pass(metrics).pass(agent);
    let daemon = daemon.names("service:metrics:agent-check").start();
    let mut only = connect(to);
    echoes(&mut only);
    let page = asked(metrics_at, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    // The test itself may run in a unit, whose name is the first label then.
    let is_active =
        |line: &str| line.starts_with("sockcap_connections_active{") && line.ends_with(",listener=\"service\"} 1");
    assert!(page.lines().any(is_active), "{page}");
    assert!(!page.contains("listener=\"metrics\""), "{page}");
    let open =
        asked(metrics_at, "GET /metrics HTTP/1.1\nHost: x\nAccept: application/openmetrics-text;version=1.0.0\n\n");
    assert!(open.ends_with("# EOF\n") && open.contains("application/openmetrics-text"), "{open}");
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        (&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(9000)), "431"),
    ] {
        assert!(asked(metrics_at, request).starts_with(&format!("HTTP/1.1 {status} ")), "{request:.30}");
    }
    assert_eq!(asked(agent_at, ""), "up ready weight:100% maxconn:1\n");
    assert_eq!(asked(agent_at, "some words that HAProxy may send\n"), "up ready weight:100% maxconn:1\n");
    drop(daemon);
}

/// Names are all that tells them apart, so without another one there is nobody to serve.
#[test]
fn a_service_needs_a_listener_for_clients() {
    let ended = sockcap::<&str>(&[]).pass(tcp().0).names("metrics").output();
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("metrics"), "{ended:?}");
}

/// A passed `varlink` listener takes the place of `--control`, whose path is left alone.
#[test]
fn a_passed_control_socket_takes_the_place_of_the_option() {
    let (folder, (service, _)) = (ControlFolder::new("passed"), tcp());
    let passed = folder.path().join("passed.sock");
    let listener = UnixListener::bind(&passed).unwrap();
    let daemon = sockcap(&["--control", folder.socket().to_str().unwrap()]).pass(service).pass(listener);
    let _daemon = daemon.names("service:varlink").start();
    assert_eq!(Control::connect(&passed).runtime()["active"], 0);
    assert!(!folder.socket().exists());
}

/// Four that say nothing make room for a fifth.
#[test]
fn silent_scrapers_keep_nobody_out() {
    let ((service, _), (metrics, at)) = (tcp(), tcp());
    let _daemon = sockcap::<&str>(&[]).pass(service).pass(metrics).names("service:metrics").start();
    let mut silent: Vec<TcpStream> = (0..8).map(|_| connect(at)).collect();
    for stream in &mut silent {
        let _ = stream.write_all(b"GET /metr"); // may be closed already
    }
    assert!(asked(at, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
    let mut half = connect(at);
    half.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// Each command that runs is listed once, by number, however many parts the answer has.
#[test]
fn a_long_list_comes_in_parts() {
    let folder = ControlFolder::new("list");
    let socket = folder.socket();
    let args = ["--listen", "127.0.0.1:0", "--control", socket.to_str().unwrap(), "--max-connections", "600"];
    let daemon = sockcap(&args).run(&["/bin/cat"]).start();
    let mut clients: Vec<_> = (0..600).map(|_| daemon.connect()).collect();
    let mut control = Control::connect(&folder.socket());
    control.until("all run", |runtime| runtime["active"] == 600);
    let listed = control.list("ListConnections", "connection");
    let ids: Vec<u64> = listed.iter().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=600).collect::<Vec<_>>());
    let port = clients[0].local_addr().unwrap().port();
    assert!(listed.iter().any(|one| one["peerPort"] == port && one["source"] == "127.0.0.1"));
    assert!(listed.iter().all(|one| one["listener"] == "127.0.0.1:0" && one["sinceUSec"].is_u64()));
    clients.truncate(1);
    control.until("one is left", |runtime| runtime["active"] == 1);
    assert_eq!(control.list("ListConnections", "connection").len(), 1);
    assert_eq!(control.error("ListConnections", json!({})).0, "org.varlink.service.ExpectedMore");
}
