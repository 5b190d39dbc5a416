//! The control socket as systemd's own `varlinkctl` sees it: its interfaces are valid and as in their files, and every
//! method of each of them can be called, with the replies and errors that the file promises.

use super::client::Client;
use super::rig::{Rig, SERVICE};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdout, Output, Stdio};

const SOCKET: &str = "/run/sockcap/rsync-capped/control.sock";
const DAEMON: &str = "io.github.sockcap.Daemon";

const INTERFACES: [(&str, &str); 3] = [
    (DAEMON, include_str!("../../src/observe/io.github.sockcap.Daemon.varlink")),
    ("io.systemd.service", include_str!("../../src/observe/io.systemd.service.varlink")),
    ("org.varlink.service", include_str!("../../src/observe/org.varlink.service.varlink")),
];

/// The full names of the methods that the files have.
fn methods() -> BTreeSet<String> {
    let of_one = |(interface, text): (&'static str, &'static str)| {
        let names = text.lines().filter_map(|line| line.strip_prefix("method ")?.split('(').next());
        names.map(move |name| format!("{interface}.{name}"))
    };
    INTERFACES.into_iter().flat_map(of_one).collect()
}

/// `varlinkctl`, with the methods that it has called.
struct Varlinkctl<'a> {
    rig: &'a Rig,
    called: BTreeSet<String>,
}

impl Varlinkctl<'_> {
    fn run(&mut self, flags: &str, method: &str, parameters: &Value) -> Output {
        self.called.insert(method.to_owned());
        self.rig.sh(&format!("varlinkctl --json=short {flags} call {SOCKET} {method} '{parameters}'"))
    }

    /// All replies; `flags` may be `--more`.
    fn replies(&mut self, flags: &str, method: &str, parameters: &Value) -> Vec<Value> {
        let out = self.run(flags, method, parameters);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{method} {parameters}: {text} {}", String::from_utf8_lossy(&out.stderr));
        let lines = text.lines().map(|line| line.trim_matches('\x1e')).filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let replies = self.replies("", method, parameters);
        // Of an empty reply some versions print nothing.
        replies.into_iter().next().unwrap_or_else(|| json!({}))
    }

    /// This error is the reply: `--graceful` takes no other, and known ones are not named on stderr.
    fn fails(&mut self, method: &str, parameters: &Value, error: &str) {
        assert!(!self.run("", method, parameters).status.success(), "{method} {parameters} is no error");
        self.replies(&format!("--graceful={error}"), method, parameters);
    }
}

/// A call with `--more` that goes on until this is dropped, which closes its standard input.
struct Subscription(Child, BufReader<ChildStdout>);

impl Subscription {
    fn begin(ctl: &mut Varlinkctl, method: &str) -> Self {
        ctl.called.insert(method.to_owned());
        let script = format!(
            "varlinkctl --json=short --more --timeout=infinity call {SOCKET} {method} '{{}}' & exec 2>/dev/null; cat; kill $!; wait $!"
        );
        let mut command = ctl.rig.enter(&["sh", "-c", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self(child, out)
    }

    /// Reads states until one has so many commands running.
    fn until_active(&mut self, active: u64) {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.1.read_line(&mut line).expect("a line"), 0, "no more replies");
            let text = line.trim_matches(|c: char| c == '\x1e' || c.is_whitespace());
            if text.is_empty() {
                continue;
            }
            let state: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            if state["runtime"]["active"] == active {
                return;
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number)
}

fn client(rig: &Rig, number: u8) -> Client {
    Client::from(rig, host(number).into(), Ipv4Addr::LOCALHOST, 873)
}

/// Without comments, and with every run of blanks as one: `varlinkctl` sets lines in its own way.
fn words(idl: &str) -> String {
    let code = idl.lines().map(|line| line.split('#').next().unwrap_or_default());
    let text: String = code.flat_map(|line| line.chars().chain(['\n'])).filter(|c| !c.is_whitespace()).collect();
    text
}

/// What `varlinkctl` reads of the interfaces is what their files have.
fn interfaces_are_as_in_their_files(rig: &Rig) {
    let info = rig.ok(&format!("varlinkctl --json=short info {SOCKET}"));
    let info: Value = serde_json::from_str(&info).expect("JSON");
    let names: BTreeSet<_> =
        info["interfaces"].as_array().expect("interfaces").iter().filter_map(Value::as_str).collect();
    assert_eq!(names, INTERFACES.iter().map(|(name, _)| *name).collect(), "{info}");

    for (name, text) in INTERFACES {
        rig.write("/run/probe.varlink", text);
        rig.ok("varlinkctl validate-idl /run/probe.varlink");
        let shown = rig.ok(&format!("varlinkctl introspect {SOCKET} {name}"));
        assert_eq!(words(&shown), words(text), "{name}");
    }
    let listed = rig.ok(&format!("varlinkctl list-methods {SOCKET}"));
    assert_eq!(listed.lines().map(str::to_owned).collect::<BTreeSet<_>>(), methods());
}

pub fn varlinkctl_calls_every_method(rig: &Rig) {
    let start = "ExecStart=\nExecStart=/usr/bin/sockcap -- /bin/sh -c 'echo served; exec cat'";
    let variables = "SOCKCAP_MAX_CONNECTIONS=2 SOCKCAP_WHEN_FULL=wait SOCKCAP_MAX_RATE_PER_SOURCE=1/1h";
    rig.edit(&format!("{start}\nUnsetEnvironment=SOCKCAP_EXEMPT\nEnvironment={variables}"));
    rig.ok(&format!("systemctl start {SERVICE}"));
    interfaces_are_as_in_their_files(rig);

    let ctl = &mut Varlinkctl { rig, called: BTreeSet::new() };
    let own = |method: &str| format!("{DAEMON}.{method}");

    // What every service answers.
    let service = ctl.call("org.varlink.service.GetInfo", &json!({}));
    assert_eq!(service["product"], "sockcap", "{service}");
    let described = ctl.call("org.varlink.service.GetInterfaceDescription", &json!({ "interface": DAEMON }));
    assert_eq!(described["description"], INTERFACES[0].1);
    ctl.fails(
        "org.varlink.service.GetInterfaceDescription",
        &json!({ "interface": "a.b" }),
        "org.varlink.service.InterfaceNotFound",
    );
    assert_eq!(ctl.call("io.systemd.service.Ping", &json!({})), json!({}));
    ctl.call("io.systemd.service.SetLogLevel", &json!({ "level": 6 }));
    assert_eq!(ctl.call("io.systemd.service.GetLogLevel", &json!({})), json!({ "level": 6 }));

    // Nobody is there.
    for method in ["ListConnections", "ListWaiting"] {
        assert!(ctl.replies("--more", &own(method), &json!({})).iter().all(|reply| *reply == json!({})), "{method}");
        ctl.fails(&own(method), &json!({}), "org.varlink.service.ExpectedMore");
    }

    // Two are served, one waits; a further one of a source that came already is refused.
    let mut changes = Subscription::begin(ctl, &own("Subscribe"));
    changes.until_active(0);
    let mut first = client(rig, 2);
    assert_eq!(first.line(), "served\n");
    let mut second = client(rig, 3);
    assert_eq!(second.line(), "served\n");
    changes.until_active(2);
    drop(changes);
    assert_eq!(client(rig, 2).rest(), "server at capacity\n");
    let mut third = client(rig, 4);
    rig.until_status("2/2 active, 1 waiting");

    let state = ctl.call(&own("Describe"), &json!({}));
    assert_eq!((&state["runtime"]["active"], &state["runtime"]["held"]), (&json!(2), &json!(1)), "{state}");
    assert_eq!((&state["context"]["unit"], &state["runtime"]["phase"]), (&json!(SERVICE), &json!("running")));
    let served = ctl.replies("--more", &own("ListConnections"), &json!({}));
    let sources: Vec<_> = served.iter().map(|reply| &reply["connection"]["source"]).collect();
    assert_eq!(sources, ["127.0.0.2", "127.0.0.3"], "{served:?}");
    let waiting = ctl.replies("--more", &own("ListWaiting"), &json!({}));
    assert_eq!(waiting.iter().map(|reply| &reply["client"]["source"]).collect::<Vec<_>>(), ["127.0.0.4"]);
    let sources = ctl.replies("--more", &own("ListSources"), &json!({ "limit": 1000 }));
    let limited = |reply: &&Value| reply["source"]["source"] == "127.0.0.2" && reply["source"]["refused"] == 1;
    assert!(sources.iter().any(|reply| limited(&reply)), "{sources:?}");
    assert_eq!(ctl.replies("--more", &own("ListSources"), &json!({ "limit": 1 })).len(), 1);

    // The waiting client is served as soon as it may be, and nobody is cut.
    let limits = ctl.call(&own("Set"), &json!({ "limits": { "maxConnections": 3 } }));
    assert_eq!(limits["limits"]["maxConnections"], 3, "{limits}");
    assert_eq!(third.line(), "served\n");
    ctl.fails(&own("Set"), &json!({ "limits": { "reserved": 1 } }), &own("NotSettable"));

    // A source that came too often may come again.
    ctl.call(&own("ForgetSource"), &json!({ "source": "127.0.0.2" }));
    ctl.fails(&own("ForgetSource"), &json!({ "source": "192.0.2.9" }), &own("NoSuchSource"));
    let stopped = ctl.call(&own("Stop"), &json!({ "id": served[0]["connection"]["id"] }));
    assert_eq!(stopped["pid"], served[0]["connection"]["pid"]);
    assert_eq!(first.rest(), "");
    ctl.fails(&own("Stop"), &json!({ "id": 99 }), &own("NoSuchConnection"));
    let mut again = client(rig, 2);
    assert_eq!(again.line(), "served\n");

    ctl.call(&own("Drain"), &json!({}));
    assert_eq!(ctl.call(&own("Describe"), &json!({}))["runtime"]["phase"], "drained");
    ctl.call(&own("Resume"), &json!({}));

    assert_eq!(ctl.call(&own("Describe"), &json!({}))["runtime"]["phase"], "running");
    for client in [&mut second, &mut third, &mut again] {
        client.send("still there?\n");
        assert_eq!(client.line(), "still there?\n");
    }
    assert_eq!(ctl.called, methods(), "a method that nobody calls here, or that there is not");
}
