//! A daemon of canned answers at the other end.
#![forbid(unsafe_code)]

use super::*;
use crate::ctl::failure::Exit;
use crate::observe::snapshot::{Limits, Phase, Snapshot};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

/// Answers one client with these bytes, once it has asked. What it was asked is the thread's result.
fn answering(name: &str, answer: impl Into<Vec<u8>>) -> (Unit, JoinHandle<Vec<u8>>) {
    let path = PathBuf::from(format!("{}/sockcap-{}-{name}", std::env::temp_dir().display(), std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let (unit, answer) = (Unit { name: name.to_owned(), path: path.clone() }, answer.into());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while asked.last() != Some(&0) {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap() == 0 {
                break;
            }
            asked.push(byte[0]);
        }
        std::fs::remove_file(path).unwrap();
        let _ = stream.write_all(&answer); // a client that has read enough goes
        asked
    });
    (unit, server)
}

fn failure_of(name: &str, answer: impl Into<Vec<u8>>) -> Failure {
    let (unit, server) = answering(name, answer);
    let failure = Client::connect(&unit).unwrap().call::<Value>("Describe", Nothing {}).unwrap_err();
    server.join().unwrap();
    failure
}

#[test]
fn a_call_and_its_reply() {
    let (unit, server) = answering("call", "{\"parameters\":{\"pid\":7}}\0");
    let reply: Value = Client::connect(&unit).unwrap().call("Stop", json!({"id": 3})).unwrap();
    assert_eq!(reply, json!({"pid": 7}));
    let asked = server.join().unwrap();
    assert_eq!(asked, b"{\"method\":\"io.github.sockcap.Daemon.Stop\",\"parameters\":{\"id\":3}}\0");
}

#[test]
fn a_list_ends_with_its_last_reply() {
    let one = |n: u32, rest: &str| format!("{{\"parameters\":{{\"n\":{n}}}{rest}}}\0");
    let all = (0..3000).map(|n| one(n, ",\"continues\":true")).collect::<String>() + &one(3000, "");
    let (unit, server) = answering("list", all);
    let mut next = 0;
    let each = |reply: Value| {
        assert_eq!(reply["n"], next);
        next += 1;
        Ok(true)
    };
    Client::connect(&unit).unwrap().list("ListWaiting", Nothing {}, each).unwrap();
    assert_eq!(next, 3001);
    let asked = String::from_utf8(server.join().unwrap()).unwrap();
    assert!(asked.ends_with("\"parameters\":{},\"more\":true}\0"), "{asked}");
}

#[test]
fn a_list_that_is_read_no_further() {
    let (unit, server) = answering("some", "{\"parameters\":{},\"continues\":true}\0".repeat(9));
    let mut seen = 0;
    let each = |_: Value| {
        seen += 1;
        Ok(seen < 3)
    };
    Client::connect(&unit).unwrap().list("ListWaiting", Nothing {}, each).unwrap();
    assert_eq!(seen, 3);
    server.join().unwrap();
}

/// Of a byte now and then each comes in time, but the reply never does.
#[test]
fn a_reply_that_trickles_in() {
    let (stream, mut other) = UnixStream::pair().unwrap();
    let waited = Duration::from_secs(PATIENCE + 1);
    let mut client = Client { stream, buffer: Vec::new(), waited, is_patient: false, unit: "x".into() };
    other.write_all(b" ").unwrap();
    let failure = client.receive().map(|reply| reply.continues).unwrap_err();
    assert!(failure.line.contains("has not answered for 5 s"), "{failure:?}");
    other.write_all(b"{}\0 ").unwrap();
    client.fill().unwrap();
    client.receive().unwrap();
    assert_eq!(client.waited, Duration::ZERO, "the next one has its own time");
}

#[test]
fn a_list_without_end() {
    let reply = format!("{{\"parameters\":{{\"x\":\"{}\"}},\"continues\":true}}\0", "x".repeat(16 << 10));
    let (unit, server) = answering("no-end", reply.repeat(1 + (MOST_OF_LIST >> 14)));
    let failure = Client::connect(&unit).unwrap().list("ListWaiting", Nothing {}, |_: Value| Ok(true)).unwrap_err();
    assert!(failure.line.ends_with("a list of more than 64 MiB"), "{failure:?}");
    server.join().unwrap();
}

/// What one says of itself that is newer or older than sockcapctl.
#[test]
fn daemons_of_other_versions() {
    let described = |answer: Value| {
        let (unit, server) = answering("version", format!("{}\0", json!({ "parameters": answer })));
        let snapshot = Client::connect(&unit).unwrap().call::<Snapshot>("Describe", Nothing {}).unwrap();
        server.join().unwrap();
        snapshot
    };
    let newer = described(json!({
        "context": { "version": "9.0.0", "limits": { "maxConnections": 8, "maxMoons": 2 }, "colour": "red" },
        "runtime": {
            "phase": "hibernating", "active": 3, "moons": [],
            "refused": [{ "name": "no-moon", "count": 4, "since": 5 }],
            "waitTimes": [{ "name": "served", "boundsUSec": [1], "counts": [0, 1], "sumUSec": 7, "mean": 7 }],
            "topRefused": [{ "source": "192.0.2.1", "count": 4, "moon": true }],
        },
        "moons": [],
    }));
    let runtime = &newer.runtime;
    assert_eq!((newer.context.limits.max_connections, runtime.active, runtime.phase), (Some(8), 3, Phase::Other));
    assert_eq!((runtime.refused[0].count, runtime.wait_times[0].sum_usec, runtime.top_refused[0].count), (4, 7, 4));
    let older = described(json!({ "runtime": { "active": 3, "refused": [{ "name": "rate" }], "waitTimes": [{}] } }));
    assert_eq!(
        (older.runtime.active, older.runtime.phase, older.context.limits),
        (3, Phase::Running, Limits::default())
    );
}

#[test]
fn errors_in_words() {
    for (error, parameters, expected) in [
        ("org.varlink.service.MethodNotFound", json!({"method": "x.Y"}), "no method x.Y; restart the service after"),
        ("org.varlink.service.PermissionDenied", json!({}), "permission denied: only root"),
        ("io.github.sockcap.Daemon.NoSuchConnection", json!({"id": 7}), "no command runs for connection 7"),
        (
            "io.github.sockcap.Daemon.NotSettable",
            json!({"field": "maxWaitUSec", "reason": "it is above ten years"}),
            "cannot set max-wait: it is above ten years",
        ),
        ("com.example.Strange", Value::Null, "answered with the error com.example.Strange"),
    ] {
        let failure = failure_of("errors", format!("{}\0", json!({"error": error, "parameters": parameters})));
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.line.starts_with("errors: ") && failure.line.contains(expected), "{failure:?}");
    }
}

#[test]
fn who_is_no_daemon() {
    let strange = "answers what sockcapctl does not understand";
    for (name, answer, exit, expected) in [
        ("text", "hello\0".to_owned(), Exit::Failed, strange),
        ("none", "{}\0".to_owned(), Exit::Failed, strange),
        ("endless", "x".repeat(MOST + AT_ONCE), Exit::Failed, "a reply of more than 1 MiB"),
        ("closing", String::new(), Exit::NotRunning, "has closed the connection"),
        ("half", "{\"parameters\":".to_owned(), Exit::NotRunning, "has closed the connection"),
    ] {
        let failure = failure_of(name, answer);
        assert_eq!(failure.exit, exit, "{name}: {failure:?}");
        assert!(failure.line.contains(expected), "{name}: {failure:?}");
    }
}

#[test]
fn nobody_is_there() {
    let of_name = |name: &str, path: &str| Client::connect(&Unit { name: name.into(), path: path.into() }).unwrap_err();
    let failure_at = |path: &str| of_name("x", path);
    assert_eq!(failure_at("/nowhere/control.sock").exit, Exit::NotRunning);
    let long = of_name("./x", &"x".repeat(200));
    assert!(long.line.starts_with("cannot ask './x'"), "{long:?}");
    let path = format!("{}/sockcap-{}-left", std::env::temp_dir().display(), std::process::id());
    drop(UnixListener::bind(&path).unwrap());
    let left = failure_at(&path);
    std::fs::remove_file(path).unwrap();
    assert_eq!(left.exit, Exit::NotRunning);
    assert!(left.line.contains("(ECONNREFUSED)"), "{left:?}");
}
