//! The other shipped units, each with the real client of its service: served as shipped, and over the limit told, or kept
//! waiting, as the unit's comments say.

use super::client::Client;
use super::rig::{FUSE, Rig, SERVICE, until};
use crate::common::skip;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::mem::take;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdin, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A real client, to its end.
pub fn run(rig: &Rig, command: &[&str]) -> Output {
    rig.enter(&[&["timeout", "60"], command].concat()).output().expect("nsenter")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A real client that is still there: it is spoken to on its standard input, and killed at the end.
pub struct Dialogue {
    child: Child,
    input: ChildStdin,
    /// A pipe has no timeout of its own; a channel has one.
    lines: Receiver<String>,
}

impl Dialogue {
    pub fn begin(rig: &Rig, command: &[&str]) -> Dialogue {
        let mut command = rig.enter_to_kill(command);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("run");
        let input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let (tx, lines) = channel();
        thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|n| n > 0) && tx.send(take(&mut line)).is_ok() {}
        });
        Dialogue { child, input, lines }
    }

    pub fn say(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).expect("a client that reads");
    }

    /// The next line, empty at the end.
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(FUSE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => String::new(),
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end in {FUSE:?}"),
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn git_clones_wait_for_their_turn(rig: &Rig) {
    let service = "git-capped.service";
    // Owned by somebody else than the service, as repositories are.
    rig.ok("rm -rf /srv/git /tmp/work && mkdir -p /srv/git && git init -q --bare /srv/git/a.git && git init -q /tmp/work && cd /tmp/work
        echo text >file && git add file && git -c user.name=a -c user.email=a@example.org commit -qm one
        git push -q /srv/git/a.git HEAD:refs/heads/master && touch /srv/git/a.git/git-daemon-export-ok && chown -R nobody /srv/git
        git init -q --bare /srv/git/private.git");
    rig.ok("systemctl start git-capped.socket");
    let clone = |name: &str| {
        rig.ok("rm -rf /tmp/clone");
        rig.enter(&["timeout", "60", "git", "clone", "-q", &format!("git://127.0.0.1/{name}"), "/tmp/clone"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter")
    };
    let out = clone("a.git").wait_with_output().expect("wait");
    assert!(out.status.success(), "{out:?}");
    assert_eq!(rig.ok("cat /tmp/clone/file"), "text");
    let out = clone("private.git").wait_with_output().expect("wait");
    assert_eq!(out.status.code(), Some(128), "{out:?}");

    // As shipped, but for the number: it waits until the one before has gone.
    rig.edit_unit(service, "[Service]\nEnvironment=SOCKCAP_MAX_CONNECTIONS=1");
    rig.ok(&format!("systemctl restart {service}"));
    let held = Client::to(rig, Ipv4Addr::LOCALHOST, 9418);
    rig.until_status_of(service, "1/1 active, 0 waiting");
    let waiting = clone("a.git");
    rig.until_status_of(service, "1/1 active, 1 waiting");
    drop(held);
    let out = waiting.wait_with_output().expect("wait");
    assert!(out.status.success(), "{out:?}");
    assert_eq!(rig.ok("cat /tmp/clone/file"), "text");

    rig.edit_unit(service, "[Service]\nEnvironment=SOCKCAP_MAX_CONNECTIONS=1\nEnvironment=SOCKCAP_MAX_WAIT=1s");
    rig.ok(&format!("systemctl restart {service}"));
    let _held = Client::to(rig, Ipv4Addr::LOCALHOST, 9418);
    rig.until_status_of(service, "1/1 active, 0 waiting");
    let out = clone("a.git").wait_with_output().expect("wait");
    assert_eq!(out.status.code(), Some(128), "{out:?}");
    let said = text(&out.stderr);
    assert!(said.contains("fatal: remote error: server at capacity, try again later"), "{said}");
}

pub fn daytime_tells_the_time_from_a_tight_sandbox(rig: &Rig) {
    let service = "daytime-capped.service";
    rig.ok("systemctl start daytime-capped.socket");
    let year = rig.ok("date +%Y");
    let out = run(rig, &["nc", "-N", "127.0.0.1", "13"]);
    assert!(out.status.success() && text(&out.stdout).contains(&year), "{out:?}");

    // The same sandbox around a command that stays, so that a place can be held.
    rig.edit_unit(
        service,
        "[Service]\nEnvironment=SOCKCAP_MAX_CONNECTIONS=1\nExecStart=\nExecStart=/usr/bin/sockcap --busy-reply text -- /usr/bin/cat",
    );
    rig.ok(&format!("systemctl restart {service}"));
    let mut held = Client::to(rig, Ipv4Addr::LOCALHOST, 13);
    held.send("ping\n");
    assert_eq!(held.line(), "ping\n");
    let out = run(rig, &["nc", "-N", "127.0.0.1", "13"]);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "server at capacity\n".to_owned()));

    // The user is made for this service, and the only network is the connection.
    let daemon = rig.show(service, "MainPID");
    let cat = rig.ok(&format!("grep -vx {daemon} /sys/fs/cgroup/system.slice/{service}/cgroup.procs"));
    let uid: u32 = rig.ok(&format!("stat -c %u /proc/{cat}")).parse().expect("a uid");
    assert!((61184..=65519).contains(&uid), "{uid}");
    let links = rig.ok(&format!("tail -n +3 /proc/{cat}/net/dev | cut -d: -f1"));
    assert_eq!(links.trim(), "lo");
    assert_ne!(rig.ok(&format!("readlink /proc/{cat}/ns/net")), rig.ok("readlink /proc/1/ns/net"));
}

pub fn the_template_serves_any_command(rig: &Rig) {
    rig.ok("mkdir -p /etc/sockcap; rm -f /etc/sockcap/*");
    rig.write(
        "/etc/sockcap/hello",
        "#!/bin/sh\necho a word for the log >&2; echo ready; read -r name; echo \"hello $name from $TOWN\"\n",
    );
    rig.write("/etc/sockcap/hello.conf", "SOCKCAP_MAX_CONNECTIONS=1\nTOWN=Ulm\n");
    rig.ok("chmod 755 /etc/sockcap/hello; systemctl start sockcap@hello.socket");
    let connect = ["nc", "-N", "-U", "/run/sockcap/hello.sock"];
    let mut held = Dialogue::begin(rig, &connect);
    assert_eq!(held.line(), "ready\n");
    let out = run(rig, &connect);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "server at capacity\n".to_owned()));
    held.say("Ann\n");
    assert_eq!(held.line(), "hello Ann from Ulm\n");
    rig.until_said("_SYSTEMD_UNIT=sockcap@hello.service", "on 'hello'");
    // What a command says is not sockcap's.
    rig.until_said("_SYSTEMD_UNIT=sockcap@hello.service SYSLOG_IDENTIFIER=hello", "a word for the log");
    let out = run(rig, &[&["setpriv", "--reuid=nobody", "--clear-groups"], &connect[..]].concat());
    assert!(!out.status.success() && text(&out.stderr).contains("Permission denied"), "{out:?}");

    // A link to a program, on a port, with no settings.
    rig.ok("ln -s /usr/bin/cat /etc/sockcap/echo");
    rig.edit_unit("sockcap@echo.socket", "[Socket]\nListenStream=\nListenStream=127.0.0.1:7070");
    rig.ok("systemctl start sockcap@echo.socket");
    let mut client = Dialogue::begin(rig, &["nc", "-N", "127.0.0.1", "7070"]);
    client.say("ping\n");
    assert_eq!(client.line(), "ping\n");
    rig.until_status_of("sockcap@echo.service", "1/10 active");

    // No command, no socket, and no failure.
    rig.ok("systemctl start sockcap@none.socket");
    assert_eq!(rig.show("sockcap@none.socket", "ActiveState"), "inactive");
}

/// As the user of a service that may do nothing: in its sandbox all that lowers can be had, and what cannot is said.
pub fn a_command_is_the_process_that_options_ask_for(rig: &Rig) {
    rig.ok("mkdir -p /etc/sockcap; rm -f /etc/sockcap/*");
    // The score comes a moment later.
    rig.write(
        "/etc/sockcap/shown",
        "#!/bin/sh\numask; pwd; ulimit -n; nice; echo to the client >&2\n\
         while read -r score </proc/$$/oom_score_adj && [ \"$score\" != 100 ]; do sleep 0.01; done; echo $score\n",
    );
    let conf = |nice: i32| {
        let options = "SOCKCAP_OOM_SCORE_ADJUST=100\nSOCKCAP_LIMIT=nofile=50:60 core=0\nSOCKCAP_UMASK=027\nSOCKCAP_CHDIR=/etc\nSOCKCAP_STDERR=socket\n";
        rig.write("/etc/sockcap/shown.conf", &format!("SOCKCAP_NICE={nice}\n{options}"));
    };
    conf(19);
    rig.ok("chmod 755 /etc/sockcap/shown; systemctl start sockcap@shown.socket");
    let connect = ["nc", "-N", "-U", "/run/sockcap/shown.sock"];
    let out = run(rig, &connect);
    assert_eq!(text(&out.stdout), "0027\n/etc\n50\n19\nto the client\n100\n", "{out:?}");
    conf(-5);
    rig.sh("systemctl restart sockcap@shown.service");
    let why = "cannot give commands the nice value -5 (--nice): Permission denied (EACCES): one below sockcap's own needs CAP_SYS_NICE";
    rig.until_said("_SYSTEMD_UNIT=sockcap@shown.service", why);
    let filter = "[Service]\nSystemCallFilter=~@resources\n";
    rig.edit_unit("sockcap@shown.service", filter);
    conf(19);
    rig.sh("systemctl restart sockcap@shown.service");
    rig.until_said("_SYSTEMD_UNIT=sockcap@shown.service", "Operation not permitted (EPERM): a filter forbids it");
    let check = rig.sh("sockcapctl check sockcap@shown");
    let check = text(&check.stdout);
    assert!(check.contains("SystemCallFilter=setpriority") && check.contains("[nice-calls]"), "{check}");
    rig.edit_unit("sockcap@shown.service", &format!("{filter}SystemCallFilter=setpriority\n"));
    rig.ok("systemctl restart sockcap@shown.service");
    let out = run(rig, &connect);
    assert!(text(&out.stdout).contains("\n19\nto the client\n"), "{out:?}");
    rig.ok("systemctl stop sockcap@shown.socket sockcap@shown.service; rm /etc/sockcap/shown*");
}

pub fn each_client_has_a_sandbox_of_its_own(rig: &Rig) {
    let service = "sandbox-capped.service";
    let theirs = || rig.ok("systemctl list-units --plain --no-legend 'sandbox-capped-*.service' | cut -d' ' -f1");
    rig.edit_unit(
        service,
        "[Service]\nEnvironment=SOCKCAP_MAX_CONNECTIONS=1\nEnvironment=SOCKCAP_DRAIN_TIMEOUT=100ms\n\
         Environment=SOCKCAP_MAX_WAIT=1h",
    );
    rig.ok("systemctl start sandbox-capped.socket");
    let connect = ["nc", "-N", "127.0.0.1", "7"];
    let mut first = Dialogue::begin(rig, &connect);
    first.say("ping\n");
    assert_eq!(first.line(), "ping\n");
    let own = theirs();
    assert_eq!(own, "sandbox-capped-1.service");
    assert_eq!(rig.show(&own, "DynamicUser"), "yes");

    // The next waits, across a restart, until the service of the one before has gone.
    let mut second = Dialogue::begin(rig, &connect);
    second.say("pong\n");
    rig.until_status_of(service, "1/1 active, 1 waiting");
    rig.ok(&format!("systemctl restart {service}"));
    rig.until_status_of(service, "1/1 active, 1 waiting");
    first.say("still there\n");
    assert_eq!(first.line(), "still there\n");
    drop(first);
    assert_eq!(second.line(), "pong\n");
    assert_eq!(theirs(), "sandbox-capped-2.service");

    // A crash leaves it alone, and counted.
    rig.ok(&format!("kill -KILL $(systemctl show -P MainPID {service})"));
    until("another daemon", || (rig.show(service, "NRestarts") == "1").then_some(()));
    rig.until_status_of(service, "1/1 active");
    second.say("still there\n");
    assert_eq!(second.line(), "still there\n");

    // nc itself would stay for as long as its input is open.
    rig.ok(&format!("systemctl stop {service}"));
    assert_eq!(theirs(), "");
}

/// examples/fleet: the listener for HAProxy, beside rsync's own, tells what fits, also after a restart; clients come by a header.
pub fn a_member_of_a_fleet_tells_what_fits(rig: &Rig) {
    let example = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet").join(name);
        let text = fs::read_to_string(path).expect("an example");
        // A unit of the tests has a name that says so. This side is HAProxy.
        text.replace("rsync-capped-agent", "probe-agent").replace("192.0.2.1\n", "127.0.0.1\n")
    };
    let told = || Client::to(rig, Ipv4Addr::LOCALHOST, 9001).rest();
    // A header is awaited for 2 s.
    rig.unless_stalled(Duration::from_secs(2), || {
        // As in its README: the service runs already.
        rig.ok(&format!("systemctl start {SERVICE}"));
        rig.unit("probe-agent.socket", &example("rsync-capped-agent.socket"));
        rig.edit_unit(SERVICE, &example("rsync-capped.service.d/fleet.conf"));
        rig.ok(&format!("systemd-analyze verify --man=no probe-agent.socket {SERVICE}"));
        rig.ok(&format!("systemctl restart {SERVICE}"));
        assert_eq!(told(), "up ready weight:100% maxconn:10\n");
        let mut client = Client::to_rsync(rig);
        client.send("PROXY TCP4 192.0.2.99 192.0.2.1 40000 873\r\n");
        client.await_greeting();
        rig.until_status("1/10 active");
        rig.ok(&format!("systemctl restart {SERVICE}"));
        assert_eq!(told(), "up ready weight:100% maxconn:10\n");
        client.finish_with_a_list();
        rig.ok(&format!("systemctl stop probe-agent.socket {SERVICE}"));
    });
}

/// The shipped units that keep their clients' commands apart do, as far as this kernel can: nothing is said to be missing, and of two
/// commands of one user neither can signal or look into the other.
pub fn commands_of_shipped_units_are_apart(rig: &Rig) {
    let apart = rig.ok("sockcap --check --isolate --listen 0 -- /bin/cat");
    if !apart.contains("(Landlock ABI ") || apart.contains("signals still pass") {
        return skip("commands of shipped units", "needs Linux 6.12 with Landlock");
    }
    // Other cases have daemons that are told what is missing.
    let before = rig.ok("journalctl -n 1 -o cat --show-cursor | sed -n 's/^-- cursor: //p'");
    rig.ok("mkdir -p /etc/sockcap");
    rig.write(
        "/etc/sockcap/probe",
        "#!/bin/sh\necho $$; read -r pid; kill -0 $pid 2>/dev/null && echo signal; \
         cat /proc/$pid/environ >/dev/null 2>&1 && echo environ; echo done; read -r end\n",
    );
    rig.ok("chmod 755 /etc/sockcap/probe");
    let script = |unit: &str| match unit {
        "sockcap@probe" => String::new(),
        _ => "ExecStart=\nExecStart=/usr/bin/sockcap -- /etc/sockcap/probe\n".to_owned(),
    };
    for unit in ["daytime-capped", "git-capped", "sockcap@probe"] {
        for is_apart in [true, false] {
            let isolate = if is_apart { "" } else { "Environment=SOCKCAP_ISOLATE=no\nProtectProc=default\n" };
            rig.edit_unit(&format!("{unit}.service"), &format!("[Service]\n{}{isolate}", script(unit)));
            rig.edit_unit(&format!("{unit}.socket"), "[Socket]\nListenStream=\nListenStream=127.0.0.1:7070");
            let begin = format!("systemctl stop {unit}.socket {unit}.service; systemctl start {unit}.socket");
            until("its socket", || rig.sh(&begin).status.success().then_some(()));
            let connect = ["nc", "-N", "127.0.0.1", "7070"];
            let [mut one, mut other] = [(), ()].map(|()| Dialogue::begin(rig, &connect));
            let pid = one.line();
            assert!(other.line().trim_end().parse::<u32>().is_ok(), "{unit}");
            other.say(&pid);
            let done: Vec<_> =
                std::iter::repeat_with(|| other.line()).take_while(|l| l != "done\n" && !l.is_empty()).collect();
            let expected: &[&str] = if is_apart { &[] } else { &["signal\n", "environ\n"] };
            assert_eq!(done, expected, "{unit}: is apart: {is_apart}");
            one.say("\n");
            [one, other].iter_mut().for_each(|client| client.say("\n"));
            rig.ok(&format!("systemctl stop {unit}.socket {unit}.service"));
        }
    }
    // That of root, with its real command.
    rig.ok("systemctl restart rsync-capped.service");
    let said = rig.said_so_far(&format!("--after-cursor='{before}' MESSAGE_ID=5c1cbd7bcb154a4b9f7e0b4d4b1d0b30"));
    assert_eq!(said, "", "isolated at each start");
}
