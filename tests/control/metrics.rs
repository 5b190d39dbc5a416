//! `sockcapctl metrics` and `sockcapctl serve-report`: what a running daemon counts, in the formats of other people's programs.

use crate::common::*;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A daemon with one command running, one client held and one refused, found as the unit `test` of `--user`.
struct House {
    folder: ControlFolder,
    _daemon: Daemon,
    _clients: [TcpStream; 3],
}

impl House {
    fn new(name: &str) -> House {
        let folder = ControlFolder::new(name);
        let unit = folder.path().join("sockcap/test");
        fs::create_dir_all(&unit).unwrap();
        let socket = unit.join("control.sock");
        let options = ["--max-connections", "1", "--when-full", "wait", "--max-waiting", "1"];
        let listen = ["--listen", "127.0.0.1:0", "--control", socket.to_str().unwrap()];
        let daemon = sockcap(&listen).args(&options).start();
        let mut control = Control::connect(&socket);
        let mut active = daemon.connect();
        echoes(&mut active);
        let held = daemon.connect();
        control.until("one is held", |runtime| runtime["held"] == 1);
        let refused = daemon.connect();
        control.until("one is refused", |runtime| runtime["accepted"] == 3);
        House { folder, _daemon: daemon, _clients: [active, held, refused] }
    }

    fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(ctl_binary());
        command.arg("--user").args(args).env("XDG_RUNTIME_DIR", self.folder.path());
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.ctl(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:#?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The sum of all series of this name that have this label; of all, without one. No more is known of what the unit is called: the test
/// itself may run in one.
fn sum(page: &str, name: &str, label: &str) -> Option<u64> {
    let samples = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    let values = samples.filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value.parse::<u64>().unwrap());
    values.reduce(|one, other| one + other)
}

fn check(page: &str) {
    for (name, label, count) in [
        ("connections_accepted_total", "", 3),
        ("connections_active", "", 1),
        ("connections_served_total", "", 0),
        ("connections_waiting", "place=\"held\"", 1),
        ("connections_refused_total", "reason=\"queue-full\"", 1),
        ("connections_refused_total", "", 1),
        ("connections_limit", "limit=\"total\"", 1),
        ("waiting_limit", "", 1),
    ] {
        assert_eq!(sum(page, &format!("sockcap_{name}"), label), Some(count), "{name}: {page}");
    }
}

#[test]
fn metrics_are_printed_for_one_unit_or_all() {
    let house = House::new("metrics");
    check(&house.ok(&["metrics"]));
    check(&house.ok(&["metrics", "test.service"]));
    // A unit that is named twice is there once.
    check(&house.ok(&["metrics", "test", "test"]));
    assert!(house.ok(&["metrics", "test", "test"]).matches("\nsockcap_draining{").count() == 1);
    let none = house.ctl(&["metrics", "other"]).output().unwrap();
    assert_eq!((none.status.code(), none.stdout.len()), (Some(3), 0), "{none:?}");
}

/// A unit's directory belongs to the user that it runs as: a link in it leads nobody to another unit.
#[test]
fn a_link_in_the_place_of_a_socket_is_not_followed() {
    let house = House::new("link");
    let units = house.folder.path().join("sockcap");
    fs::create_dir(units.join("other")).unwrap();
    symlink("../test/control.sock", units.join("other/control.sock")).unwrap();
    let drained = house.ctl(&["drain", "other"]).output().unwrap();
    assert_eq!(drained.status.code(), Some(1), "{drained:?}");
    assert!(String::from_utf8_lossy(&drained.stderr).contains("is a symbolic link"), "{drained:?}");
    assert_eq!(Control::connect(&house.folder.path().join("sockcap/test/control.sock")).runtime()["phase"], "running");
    // Who names a path means it.
    house.ok(&["drain", units.join("other/control.sock").to_str().unwrap()]);
}

/// Metrics are told under the name of the directory, which the manager has made, and not under one that a unit claims.
#[test]
fn no_unit_speaks_for_another() {
    let house = House::new("liar");
    let units = house.folder.path().join("sockcap");
    let mut reply = Control::connect(&units.join("test/control.sock")).call("Describe", json!({}));
    reply["context"]["unit"] = json!("test.service");
    fs::create_dir(units.join("liar")).unwrap();
    let listener = UnixListener::bind(units.join("liar/control.sock")).unwrap();
    let liar = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [1];
        while byte != [0] {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(format!("{}\0", json!({ "parameters": reply })).as_bytes()).unwrap();
    });
    let page = house.ok(&["metrics"]);
    liar.join().unwrap();
    check(
        &page
            .lines()
            .filter(|line| !line.contains("unit=\"liar\""))
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    assert_eq!(sum(&page, "sockcap_connections_accepted_total", "unit=\"liar\""), Some(3), "{page}");
}

#[test]
fn promtool_has_nothing_to_say() {
    let house = House::new("promtool");
    let page = house.ok(&["metrics"]);
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "promtool is not installed: tests/run.sh installs it");
        return skip("metrics", "promtool is not installed");
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:#?}\n{page}");
}

/// `--textfile`: readable for node_exporter, whatever the umask, and nothing else in the folder.
#[test]
fn a_textfile_is_replaced_as_a_whole() {
    let house = House::new("textfile");
    let folder = house.folder.path().join("node-exporter");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("sockcap.prom");
    fs::write(&file, "old\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let script = "umask 077; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(ctl_binary()).args(["--user", "metrics", "--textfile"]).arg(&file);
    let output = command.env("XDG_RUNTIME_DIR", house.folder.path()).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    check(&fs::read_to_string(&file).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["sockcap.prom"]);

    // What does not run any more is not in it either.
    let mut command = Command::new(ctl_binary());
    command.args(["--user", "metrics", "--textfile"]).arg(&file).env("XDG_RUNTIME_DIR", &folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
}

#[test]
fn a_textfile_that_cannot_be_written_is_named() {
    let folder = ControlFolder::new("unwritten");
    let written = |file: &Path| -> Output {
        let mut command = Command::new(ctl_binary());
        command.args(["--user", "metrics", "--textfile"]).arg(file).env("XDG_RUNTIME_DIR", folder.path());
        command.output().unwrap()
    };
    for (file, code, advice) in [
        (folder.path().join("none/sockcap.prom"), 1, "create the directory"),
        (folder.path().to_owned(), 1, "name a file in it"),
        (Path::new("/").to_owned(), 2, "is no name of a file"),
    ] {
        let output = written(&file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_one_line = said.lines().count() == 1 && said.contains(file.to_str().unwrap()) && said.contains(advice);
        assert!(output.status.code() == Some(code) && is_one_line, "{output:?}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A client of `serve-report`, as its socket unit starts it.
fn reporter(house: &House) -> (Control, std::process::Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = house.ctl(&["serve-report"]).stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    (Control::over(ours), child)
}

#[test]
fn serve_report_lists_what_the_reader_of_systemd_takes() {
    let house = House::new("report");
    let (mut client, mut child) = reporter(&house);
    // As systemd-report sends it: without parameters.
    client.stream.write_all(b"{\"method\":\"io.systemd.Metrics.List\",\"more\":true}\0").unwrap();
    let mut metrics = Vec::new();
    loop {
        let reply = client.reply().unwrap();
        assert!(reply.get("error").is_none(), "{reply}");
        metrics.push(reply["parameters"].clone());
        if reply.get("continues").is_none() {
            break;
        }
    }
    let families: Vec<Value> = client.list("io.systemd.Metrics.Describe", "name");
    for metric in &metrics {
        assert!(families.contains(&metric["name"]), "not described: {metric}");
        assert!(metric["value"].is_u64() && metric["object"].is_string(), "{metric}");
        let fields = metric.get("fields").map(|fields| fields.as_object().unwrap());
        assert!(fields.is_none_or(|fields| !fields.is_empty() && fields.values().all(Value::is_string)), "{metric}");
    }
    let of = |name: &str| {
        let name = format!("io.github.sockcap.{name}");
        metrics.iter().filter(|metric| metric["name"] == name).collect::<Vec<_>>()
    };
    let sum = |name: &str| of(name).iter().map(|metric| metric["value"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("ConnectionsAccepted"), sum("ConnectionsActive"), sum("WaitingLimit")), (3, 1, 1), "{metrics:#?}");
    let refused = of("ConnectionsRefused");
    assert!(refused.len() == 1 && refused[0]["fields"]["reason"] == "queue-full", "{refused:#?}");
    assert_eq!(of("ConnectionsLimit")[0]["fields"], json!({ "limit": "total" }));
    assert_eq!((of("OldestWaitUSec").len(), of("WaitUSec").len()), (1, 0), "{metrics:#?}");
    drop(client);
    assert!(child.wait().unwrap().success());
}

#[test]
fn serve_report_is_a_varlink_service() {
    let house = House::new("report-service");
    let (mut client, mut child) = reporter(&house);
    assert_eq!(client.error("io.systemd.Metrics.List", json!({})).0, "org.varlink.service.ExpectedMore");
    assert_eq!(client.error("io.systemd.Metrics.Describe", json!({})).0, "org.varlink.service.ExpectedMore");
    assert_eq!(client.error("io.systemd.Metrics.Reset", json!({})).0, "org.varlink.service.MethodNotFound");
    assert_eq!(client.error("io.github.sockcap.Daemon.Describe", json!({})).0, "org.varlink.service.InterfaceNotFound");
    let info = client.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["interfaces"], json!(["io.systemd.Metrics", "org.varlink.service"]));
    for interface in info["interfaces"].as_array().unwrap() {
        let reply = client.call("org.varlink.service.GetInterfaceDescription", json!({ "interface": interface }));
        let text = reply["description"].as_str().unwrap();
        assert!(text.contains(&format!("\ninterface {}\n", interface.as_str().unwrap())), "{text}");
    }
    drop(client);
    assert!(child.wait().unwrap().success());
}

/// No unit runs sockcap: an error of the interface, and not an empty list.
#[test]
fn serve_report_has_nothing_to_tell() {
    let folder = ControlFolder::new("report-none");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(ctl_binary());
    command.args(["--user", "serve-report"]).env("XDG_RUNTIME_DIR", folder.path());
    let mut child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(command); // it has a copy of their end
    let mut client = Control::over(ours);
    client.send("io.systemd.Metrics.List", json!({}), true);
    assert_eq!(client.reply().unwrap()["error"], "io.systemd.Metrics.NoSuchMetric");
    // What is no call has no reply: the connection is closed, and the exit code tells of it.
    client.stream.write_all(b"hello\0").unwrap();
    assert_eq!(client.reply(), None);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Started by hand it has no client.
#[test]
fn serve_report_needs_a_connection() {
    let output = Command::new(ctl_binary()).arg("serve-report").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("sockcap-report.socket"), "{output:?}");
}
