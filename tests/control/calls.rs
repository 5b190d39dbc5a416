//! The control socket: each method does what the interface says, and is for whom it says.

use crate::common::*;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// A daemon with a control socket in this folder.
fn start(folder: &ControlFolder, args: &[&str]) -> Daemon {
    let socket = folder.socket();
    sockcap(&["--listen", "127.0.0.1:0", "--control", socket.to_str().unwrap()]).args(args).start()
}

/// `--control`: root's and the daemon's user's alone, from the start, and gone with the daemon.
#[test]
fn the_socket_is_private_and_leaves_with_the_daemon() {
    let folder = ControlFolder::new("private");
    let mut daemon = start(&folder, &[]);
    let mode = std::fs::metadata(folder.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.stop();
    assert!(!folder.socket().exists());
}

/// `--control`: a folder that is not there is the user's to make, and it is said how.
#[test]
fn a_missing_folder_is_named() {
    let ended = sockcap(&["--listen", "127.0.0.1:0", "--control", "/run/no/such/control.sock"]).output();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("/run/no/such/control.sock") && ended.stderr.contains("RuntimeDirectory="),
        "{ended:?}"
    );
}

#[test]
fn describe_tells_settings_and_state() {
    let folder = ControlFolder::new("describe");
    let daemon = start(&folder, &["--max-connections", "2", "--when-full", "wait", "--max-waiting", "1"]);
    let mut control = Control::connect(&folder.socket());
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    echoes(&mut one);
    echoes(&mut two);
    let _held = daemon.connect();
    let runtime = control.until("one is held", |runtime| runtime["held"] == 1);
    assert_eq!((&runtime["accepted"], &runtime["active"]), (&json!(3), &json!(2)));
    assert_eq!(runtime["phase"], "running");
    assert!(runtime["oldestWaitUSec"].is_u64());
    let _refused = daemon.connect();
    let runtime = control.until("one is refused", |runtime| runtime["accepted"] == 4);
    let refused = runtime["refused"].as_array().unwrap();
    assert!(refused.contains(&json!({ "name": "queue-full", "count": 1 })), "{refused:?}");
    let listener = &runtime["listeners"][0];
    assert_eq!((&listener["active"], &listener["held"]), (&json!(2), &json!(1)));
    let context = control.call("Describe", json!({}))["context"].clone();
    assert_eq!((&context["whenFull"], &context["command"]), (&json!("wait"), &json!("/bin/cat")));
    assert_eq!((&context["limits"]["maxConnections"], &context["limits"]["maxWaiting"]), (&json!(2), &json!(1)));
    let waiting = control.list("ListWaiting", "client");
    assert_eq!(waiting.len(), 1);
    assert_eq!((&waiting[0]["source"], &waiting[0]["ticket"]), (&json!("127.0.0.1"), &json!(2)));
}

#[test]
fn a_list_needs_more_and_an_empty_one_is_empty() {
    let folder = ControlFolder::new("more");
    let _daemon = start(&folder, &[]);
    let mut control = Control::connect(&folder.socket());
    assert_eq!(control.error("ListWaiting", json!({})).0, "org.varlink.service.ExpectedMore");
    assert!(control.list("ListWaiting", "client").is_empty());
}

#[test]
fn the_service_describes_itself() {
    let folder = ControlFolder::new("itself");
    let _daemon = start(&folder, &[]);
    let mut control = Control::connect(&folder.socket());
    let info = control.call("org.varlink.service.GetInfo", json!({}));
    let interfaces = info["interfaces"].as_array().unwrap().clone();
    assert!(interfaces.contains(&json!(DAEMON)) && interfaces.len() == 3, "{info}");
    for interface in interfaces {
        let described = control.call("org.varlink.service.GetInterfaceDescription", json!({ "interface": interface }));
        assert!(described["description"].as_str().unwrap().contains(interface.as_str().unwrap()));
    }
    let (name, _) = control.error("NoSuchMethod", json!({}));
    assert_eq!(name, "org.varlink.service.MethodNotFound");
    let (name, _) = control.error("no.such.Interface", json!({}));
    assert_eq!(name, "org.varlink.service.InterfaceNotFound");
}

/// A live `-v`.
#[test]
fn the_log_level_is_set_while_it_runs() {
    let folder = ControlFolder::new("level");
    let mut daemon = start(&folder, &[]);
    let mut control = Control::connect(&folder.socket());
    control.call("io.systemd.service.Ping", json!({}));
    assert_eq!(control.call("io.systemd.service.GetLogLevel", json!({})), json!({ "level": 5 }));
    for bad in [json!({}), json!({ "level": 2 }), json!({ "level": 7 }), json!({ "level": "6" })] {
        assert_eq!(control.error("io.systemd.service.SetLogLevel", bad).0, "org.varlink.service.InvalidParameter");
    }
    control.call("io.systemd.service.SetLogLevel", json!({ "level": 6 }));
    assert_eq!(control.call("io.systemd.service.GetLogLevel", json!({})), json!({ "level": 6 }));
    echoes(&mut daemon.connect());
    daemon.wait_text("serving");
}

/// `Drain` and `Resume`: nobody is cut, and who waits is served in order.
#[test]
fn a_drained_service_ends_nobody_and_lets_nobody_in() {
    let folder = ControlFolder::new("drain");
    let mut daemon = start(&folder, &["--max-connections", "2", "--when-full", "wait", "--max-wait", "1h"]);
    let mut control = Control::connect(&folder.socket());
    let mut runs = daemon.connect();
    echoes(&mut runs);
    control.call("Drain", json!({}));
    control.call("Drain", json!({})); // once more is nothing new
    assert_eq!(control.runtime()["phase"], "drained");
    echoes(&mut runs);
    let mut waits = daemon.connect();
    control.until("one waits", |runtime| runtime["held"] == 1 || runtime["queued"] == 1);
    drop(runs);
    control.until("none runs", |runtime| runtime["active"] == 0);
    control.call("Resume", json!({}));
    echoes(&mut waits);
    assert_eq!(control.runtime()["phase"], "running");
    daemon.wait_text("drained: no further commands are started, 1 command goes on, as asked by uid ");
    daemon.wait_text("resumed after ");
}

/// With `refuse` a drained service says so.
#[test]
fn a_drained_service_refuses_where_nobody_waits() {
    let folder = ControlFolder::new("drain-refuse");
    let mut daemon = start(&folder, &[]);
    let mut control = Control::connect(&folder.socket());
    control.call("Drain", json!({}));
    let mut refused = daemon.connect();
    assert_eq!(line(&mut refused), "server at capacity");
    daemon.wait_text("rejected connection: the service is drained");
    control.call("Resume", json!({}));
    echoes(&mut daemon.connect());
}

/// The manager's status tells of it as well, from its beginning to its end.
#[test]
fn the_status_tells_that_the_service_is_drained() {
    let (folder, mut notify) = (ControlFolder::new("drain-status"), Notify::new());
    let mut daemon = sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--control"])
        .args(&[folder.socket().to_str().unwrap()])
        .env("NOTIFY_SOCKET", notify.path())
        .start();
    let mut control = Control::connect(&folder.socket());
    control.call("Drain", json!({}));
    notify.wait("STATUS=drained: 0/1 active, 0 waiting, 0 refused, 0 served");
    refused(daemon.connect());
    notify.wait("STATUS=drained: 0/1 active, 0 waiting, 1 refused (1 while drained), 0 served");
    control.call("Resume", json!({}));
    notify.wait("STATUS=0/1 active, 0 waiting, 1 refused (1 while drained), 0 served");
    daemon.stop();
}

/// What is measured since the start: waits by what became of the client, sessions, and how commands ended or did not start.
#[test]
fn describe_tells_waits_and_ends() {
    let folder = ControlFolder::new("statistics");
    let program = folder.path().join("command");
    write_program(program.to_str().unwrap(), b"#!/bin/sh\nread -r end\neval $end\n");
    let daemon =
        sockcap(&["--listen", "127.0.0.1:0", "--max-connections", "1", "--control", folder.socket().to_str().unwrap()])
            .run(&[program.to_str().unwrap()])
            .start();
    let mut control = Control::connect(&folder.socket());
    let session = |end: &str| {
        let mut stream = daemon.connect();
        refused(daemon.connect());
        stream.write_all(format!("{end}\n").as_bytes()).unwrap();
        to_end(stream);
        control.until("an end", |runtime| runtime["active"] == 0);
    };
    ["exit 0", "exit 3", "kill -9 $$"].into_iter().for_each(session);
    std::fs::remove_file(&program).unwrap();
    assert_eq!(to_end(daemon.connect()), "service unavailable\n");
    let runtime = control.until("all are over", |runtime| runtime["accepted"] == 7 && runtime["active"] == 0);
    let count = |of: &str, name: &str| {
        let all = runtime[of].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} in {all:?}"))["count"].clone()
    };
    for (of, name, number) in [
        ("ended", "ok", 1),
        ("ended", "failed", 1),
        ("ended", "signal", 1),
        ("ended", "unknown", 0),
        ("startFailures", "ENOENT", 1),
        ("startFailures", "other", 0),
        ("acceptErrors", "exhausted", 0),
    ] {
        assert_eq!(count(of, name), number, "{of} {name}");
    }
    let spans =
        |of: &serde_json::Value| of["counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    let waits: Vec<_> =
        runtime["waitTimes"].as_array().unwrap().iter().map(|of| (of["name"].clone(), spans(of))).collect();
    assert_eq!(waits, [(json!("served"), 4), (json!("refused"), 3), (json!("gone"), 0)]);
    assert_eq!(spans(&runtime["sessionTimes"]), 3);
    assert_eq!(runtime["logEntriesLost"], 0);
    assert_eq!(runtime["topRefused"], json!([{ "source": "127.0.0.1", "count": 4 }]));
}

/// `Stop`: one connection's command ends, as it would at `--time-limit`, and no other.
#[test]
fn one_connection_is_stopped() {
    let folder = ControlFolder::new("stop");
    let mut daemon = start(&folder, &["--kill-grace", "1h"]);
    let mut control = Control::connect(&folder.socket());
    let mut clients = [daemon.connect(), daemon.connect()];
    clients.iter_mut().for_each(echoes);
    let listed = control.list("ListConnections", "connection");
    let told = control.call("Stop", json!({ "id": 1 }));
    assert_eq!(told["pid"], listed[0]["pid"]);
    assert_eq!(std::io::Read::read(&mut clients[0], &mut [0]).unwrap(), 0, "its connection ends");
    control.until("it has ended", |runtime| runtime["active"] == 1);
    assert_eq!(control.error("Stop", json!({ "id": 1 })), ("NoSuchConnection".into(), json!({ "id": 1 })));
    assert_eq!(control.error("Stop", json!({ "id": 0 })).0, "NoSuchConnection");
    for wrong in [json!({}), json!({ "id": -1 }), json!({ "id": "2" }), json!({ "id": 2, "force": 1 })] {
        assert_eq!(control.error("Stop", wrong).0, "org.varlink.service.InvalidParameter");
    }
    echoes(&mut clients[1]);
    daemon.wait_text("stopping the command of connection 1 ");
}

/// `Stop` with force: also one that ignores SIGTERM, at once.
#[test]
fn one_that_ignores_sigterm_is_killed_by_force() {
    let folder = ControlFolder::new("force");
    let socket = folder.socket();
    let args = ["--listen", "127.0.0.1:0", "--kill-grace", "1h", "--control", socket.to_str().unwrap()];
    let daemon = sockcap(&args).run(&["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"]).start();
    let mut control = Control::connect(&folder.socket());
    let mut client = daemon.connect();
    assert_eq!(line(&mut client), "ready");
    control.call("Stop", json!({ "id": 1 }));
    assert_eq!(control.runtime()["active"], 1);
    control.call("Stop", json!({ "id": 1, "force": true }));
    assert_eq!(std::io::Read::read(&mut client, &mut [0]).unwrap(), 0, "its connection ends");
    control.until("it has ended", |runtime| runtime["active"] == 0);
}

/// `ListSources` and `ForgetSource`: who is here, who is kept out, and how that is lifted.
#[test]
fn a_penalty_is_told_and_lifted() {
    let folder = ControlFolder::new("sources");
    let socket = folder.socket();
    let args = ["--listen", "127.0.0.1:0", "--penalty", "7=5min", "--control", socket.to_str().unwrap()];
    let daemon = sockcap(&args).run(&["/bin/sh", "-c", "read -r status; exit $status"]).start();
    let mut control = Control::connect(&folder.socket());
    let _here = connect_from("127.0.0.3:0", daemon.addr(0));
    let mut bad = connect_from("127.0.0.2:0", daemon.addr(0));
    bad.write_all(b"7\n").unwrap();
    to_end(bad);
    control.until("it has earned a penalty", |runtime| runtime["sourcesPenalised"] == 1);
    refused(connect_from("127.0.0.2:0", daemon.addr(0)));
    let sources = control.list("ListSources", "source");
    assert_eq!((&sources[0]["source"], &sources[0]["active"]), (&json!("127.0.0.3"), &json!(1)));
    assert_eq!((&sources[1]["source"], &sources[1]["active"]), (&json!("127.0.0.2"), &json!(0)));
    let left = sources[1]["penaltyUSec"].as_u64().unwrap();
    assert!(left > 200_000_000 && left <= 300_000_000, "{left}");
    assert_eq!((sources.len(), &sources[0]["penaltyUSec"], &sources[1]["refused"]), (2, &json!(0), &json!(1)));
    for unknown in ["127.0.0.9", "nobody"] {
        let told = control.error("ForgetSource", json!({ "source": unknown }));
        assert_eq!(told, ("NoSuchSource".into(), json!({ "source": unknown })));
    }
    control.call("ForgetSource", json!({ "source": "127.0.0.2" }));
    let mut good = connect_from("127.0.0.2:0", daemon.addr(0));
    good.write_all(b"0\n").unwrap();
    assert_eq!(to_end(good), "");
    assert_eq!(control.runtime()["sourcesPenalised"], 0);
}

/// Whoever may connect may ask; only root and the daemon's user change anything.
#[test]
fn another_user_may_ask_and_not_change() {
    if !is_root() {
        return skip("another user", "needs root");
    }
    let folder = ControlFolder::new("others");
    let daemon = start(&folder, &[]);
    std::fs::set_permissions(folder.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    echoes(&mut daemon.connect());
    let calls = [
        ("Describe", "{}", false),
        ("Drain", "{}", true),
        ("Resume", "{}", true),
        ("Set", r#"{"limits":{"maxConnections":1}}"#, true),
        ("Stop", r#"{"id":1}"#, true),
        ("ForgetSource", r#"{"source":"127.0.0.1"}"#, true),
    ];
    for (method, parameters, is_denied) in calls {
        let call = format!(r#"printf '{{"method":"{DAEMON}.{method}","parameters":{parameters}}}\0'"#);
        let socket = folder.socket();
        let script = format!("{call} | socat -t 60 - UNIX-CONNECT:{}", socket.display());
        let ran = std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--clear-groups", "sh", "-c", &script])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(told.contains("org.varlink.service.PermissionDenied"), is_denied, "{method}: {told} {ran:?}");
        assert!(!told.is_empty(), "{method}: {ran:?}");
    }
    let mut control = Control::connect(&folder.socket());
    assert_eq!(control.runtime()["phase"], "running");
    assert_eq!(control.call("Describe", json!({}))["context"]["limits"]["maxConnections"], 100);
}
