//! Whoever asks costs its buffers and no more, and keeps nobody out.

use crate::common::*;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn start(folder: &ControlFolder) -> Daemon {
    sockcap(&["--listen", "127.0.0.1:0", "--control", folder.socket().to_str().unwrap()]).start()
}

/// What is no call has no answer, and its sender is closed; the daemon serves on.
#[test]
fn what_is_no_call_is_closed() {
    let folder = ControlFolder::new("garbage");
    let daemon = start(&folder);
    let long = "x".repeat(16 << 10);
    let deep = format!("{}\0", "[".repeat(10_000));
    for garbage in ["GET / HTTP/1.1\r\n\r\n\0", "\0", "{}x\0", "{\"method\":7}\0", "[]\0", &deep, &long] {
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        stream.set_read_timeout(Some(FUSE)).unwrap();
        stream.write_all(garbage.as_bytes()).unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest); // what was not read makes of a close a reset
        assert!(rest.is_empty(), "{garbage:.20}: {read:?} {rest:?}");
    }
    assert_eq!(Control::connect(&folder.socket()).runtime()["active"], 0);
    echoes(&mut daemon.connect());
}

/// Calls may be sent without waiting for replies, in any pieces.
#[test]
fn calls_come_in_pieces_and_in_rows() {
    let folder = ControlFolder::new("pieces");
    let _daemon = start(&folder);
    let mut control = Control::connect(&folder.socket());
    for _ in 0..50 {
        control.send("io.systemd.service.Ping", json!({}), false);
    }
    for _ in 0..50 {
        assert_eq!(control.reply(), Some(json!({ "parameters": {} })));
    }
    for byte in b"{\"method\":\"io.systemd.service.Ping\"}\0" {
        control.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(control.reply(), Some(json!({ "parameters": {} })));
    // Who says that nothing more will come is answered, and closed.
    control.send("io.systemd.service.Ping", json!({}), false);
    control.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(control.reply(), Some(json!({ "parameters": {} })));
    assert_eq!(control.reply(), None);
}

/// Sixteen that do nothing make room for one that asks.
#[test]
fn idle_askers_make_room() {
    let folder = ControlFolder::new("idle");
    let _daemon = start(&folder);
    let _idle: Vec<_> = (0..40).map(|_| UnixStream::connect(folder.socket()).unwrap()).collect();
    for _ in 0..3 {
        assert_eq!(Control::connect(&folder.socket()).runtime()["active"], 0);
    }
}

/// One that does not read what it asks for is sent nothing more, and others are answered meanwhile.
#[test]
fn who_does_not_read_delays_nobody() {
    let folder = ControlFolder::new("stuck");
    let daemon = start(&folder);
    let mut stuck = Control::connect(&folder.socket());
    stuck.stream.set_nonblocking(true).unwrap();
    let call = br#"{"method":"io.github.sockcap.Daemon.Describe"}"#;
    let mut calls = call.to_vec();
    calls.push(0);
    while stuck.stream.write_all(&calls).is_ok() {}
    assert_eq!(Control::connect(&folder.socket()).runtime()["active"], 0);
    echoes(&mut daemon.connect());
}

/// Who wants no replies need not stay: all that was called before the close is done, in its order.
#[test]
fn calls_without_replies_outlive_their_caller() {
    let folder = ControlFolder::new("oneway");
    let _daemon = start(&folder);
    let oneway = |method: &str, parameters| {
        json!({ "method": format!("io.systemd.service.{method}"), "parameters": parameters, "oneway": true })
            .to_string()
            + "\0"
    };
    let mut control = Control::connect(&folder.socket());
    let mut level = || control.call("io.systemd.service.GetLogLevel", json!({}))["level"].clone();
    for wanted in [3, 4, 5, 6] {
        let calls = oneway("Ping", json!({})).repeat(20) + &oneway("SetLogLevel", json!({ "level": wanted }));
        let mut stream = UnixStream::connect(folder.socket()).unwrap();
        stream.write_all(calls.as_bytes()).unwrap();
        drop(stream);
        until("the level is set", || level() == wanted);
    }
}

/// A mistake in the path is one line that says what to do, and nothing that was there is touched.
#[test]
fn the_path_of_the_socket_is_nobody_else_s() {
    let folder = ControlFolder::new("path");
    let _daemon = start(&folder);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("file"), "kept").unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    let own_path = "a path of its own";
    for (path, code, words) in [
        (at("control.sock"), 1, own_path),
        (at("file"), 1, own_path),
        (at("link"), 1, own_path),
        (at("folder"), 1, own_path),
        (at("none/control.sock"), 1, "RuntimeDirectory="),
        (at(&"x".repeat(108)), 2, "107 bytes"),
        ("control.sock".to_owned(), 2, "an absolute path"),
        ("@control".to_owned(), 2, "an absolute path"),
        ("8080".to_owned(), 2, "an absolute path"),
        (String::new(), 2, "an absolute path"),
    ] {
        let refused = sockcap(&["--listen", "127.0.0.1:0", "--control", &path]).output();
        let said = refused.stderr;
        assert_eq!(refused.status.code(), Some(code), "{path}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{path}: {said}");
    }
    assert_eq!(std::fs::read_to_string(at("link")).unwrap(), "kept");
    assert_eq!(Control::connect(&folder.socket()).runtime()["active"], 0);
}

/// Asking for the log level that there is fills no log.
#[test]
fn a_log_level_that_stays_is_not_logged() {
    let folder = ControlFolder::new("level");
    let mut daemon = start(&folder);
    let mut control = Control::connect(&folder.socket());
    for level in [5, 5, 5, 6, 6, 6, 5] {
        control.call("io.systemd.service.SetLogLevel", json!({ "level": level }));
    }
    daemon.stop();
    assert_eq!(daemon.count("as asked by uid"), 2, "{:?}", daemon.log());
}
