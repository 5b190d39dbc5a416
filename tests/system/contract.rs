//! A command that ran under Accept=yes must not notice the change: the same probe under both, compared word for word.

use super::client::Client;
use super::rig::Rig;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;

/// One `name=value` per line. `$$` is the command itself, which the shell looks at through its children; its descriptors not
/// through a pipe, of which it may still hold both ends then.
const PROBE: &str = r#"#!/bin/sh
env | sed 's/^/env /'
printf fds=; (cd /proc/$$/fd && echo *)
[ "$(readlink /proc/$$/fd/0)" = "$(readlink /proc/$$/fd/1)" ] && echo "stdio=one $(readlink /proc/$$/fd/0 | tr -d '0-9[]')"
echo "flags=$(sed -n 's/^flags:[[:space:]]*//p' /proc/$$/fdinfo/0)"
set -- $(cat /proc/$$/stat); [ "$1" = "$5" ] && echo group=own; [ "$1" = "$6" ] && echo session=own; echo "tty=$7"
echo "umask=$(umask)"; echo "cwd=$(pwd)"; echo "user=$(id -u):$(id -g)"
echo "files=$(ulimit -Sn)"
echo "stderr=$(readlink /proc/$$/fd/2 | tr -d '0-9[]')"
"#;

type Found = BTreeMap<String, String>;

fn found(text: &str) -> Found {
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// What the probe finds behind a port, and the port that its client had.
fn by_tcp(rig: &Rig, ip: IpAddr, port: u16) -> (Found, u16) {
    let mut client = Client::to(rig, ip, port);
    let from = client.port();
    (found(&client.rest()), from)
}

fn by_unix(rig: &Rig, name: &str) -> Found {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
    let mut text = String::new();
    let mut stream = rig.inside(|| UnixStream::connect_addr(&address)).expect("connect");
    stream.read_to_string(&mut text).expect("read");
    found(&text)
}

pub fn the_command_finds_what_accept_yes_would_give(rig: &Rig) {
    rig.write("/run/probe", PROBE);
    rig.ok("chmod +x /run/probe");
    // A shell plays with its own signal mask, so another command, without a shell, tells of signals.
    for (name, port, command) in [("probe", 7001, "/run/probe"), ("probe-signals", 7003, "/bin/cat /proc/self/status")]
    {
        let (yes, cap) = (format!("{name}-yes"), format!("{name}-cap"));
        let listen = |name: &str, port: u16| format!("[Socket]\nListenStream={port}\nListenStream=@{name}\n");
        rig.unit(&format!("{yes}.socket"), &format!("{}Accept=yes\n", listen(&yes, port)));
        rig.unit(&format!("{cap}.socket"), &listen(&cap, port + 1));
        rig.unit(
            &format!("{yes}@.service"),
            &format!("[Service]\nExecStart={command}\nStandardInput=socket\nStandardError=journal\n"),
        );
        rig.unit(
            &format!("{cap}.service"),
            &format!("[Service]\nType=notify\nExecStart=/usr/bin/sockcap -- {command}\nEnvironment=SOCKCAP_MAX_CONNECTIONS=5\nWatchdogSec=30\nFileDescriptorStoreMax=4\n"),
        );
        rig.ok(&format!("systemctl daemon-reload; systemctl start {yes}.socket {cap}.socket"));
    }

    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (yes, yes_port) = by_tcp(rig, ip, 7001);
        let (cap, cap_port) = by_tcp(rig, ip, 7002);
        // A dual-stack socket's IPv4 peer is an IPv4 peer.
        for (found, port) in [(&yes, yes_port), (&cap, cap_port)] {
            assert_eq!(found.get("env REMOTE_ADDR"), Some(&ip.to_string()));
            assert_eq!(found.get("env REMOTE_PORT"), Some(&port.to_string()));
        }
        compare(&yes, &cap);
        assert_eq!(cap["env PROTO"], "TCP");
        assert_eq!(cap["env TCPREMOTEIP"], ip.to_string());
        assert_eq!(cap["env TCPREMOTEPORT"], cap_port.to_string());
        assert_eq!(cap["env TCPLOCALPORT"], "7002");
        cap["env SO_COOKIE"].parse::<u64>().expect("a number");
    }

    let [yes, cap] = [7003, 7004].map(|port| Client::to(rig, Ipv4Addr::LOCALHOST, port).rest());
    assert_eq!((mask(&yes, "SigBlk"), mask(&cap, "SigBlk")), (0, 0));
    // The one difference, on purpose: systemd ignores SIGPIPE unless told otherwise; a command here starts clean.
    assert_eq!((mask(&yes, "SigIgn"), mask(&cap, "SigIgn")), (1 << (13 - 1), 0));

    let (yes, cap) = (by_unix(rig, "probe-yes"), by_unix(rig, "probe-cap"));
    compare(&yes, &cap);
    assert_eq!(cap["env PROTO"], "IPC");
    assert_eq!((yes.get("env REMOTE_ADDR"), cap.get("env REMOTE_ADDR")), (None, None), "an unnamed peer");
    assert_eq!((yes.get("env REMOTE_PORT"), cap.get("env REMOTE_PORT")), (None, None));
}

/// A mask of /proc/PID/status, without signals 32 and 33: the C library keeps them for itself and nobody can reset them.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    u64::from_str_radix(line.trim(), 16).expect("a mask") & !(0b11 << 31)
}

fn compare(yes: &Found, cap: &Found) {
    for same in ["fds", "stdio", "flags", "group", "session", "tty", "umask", "cwd", "user", "files", "stderr"] {
        assert!(yes.contains_key(same), "the probe under Accept=yes lacks {same}: {yes:#?}");
        assert_eq!(yes.get(same), cap.get(same), "{same}");
    }
    // What is systemd's and the daemon's own must not leak; what is the unit's must come through.
    for name in cap.keys().filter_map(|k| k.strip_prefix("env ")) {
        let private = ["LISTEN_", "WATCHDOG_", "SOCKCAP_", "NOTIFY_SOCKET", "MAINPID", "FDSTORE"];
        // The mark is for the daemon after this one.
        assert!(
            name == "SOCKCAP_CONNECTION" || !private.iter().any(|p| name.starts_with(p)),
            "{name} leaked to the command"
        );
    }
    for name in yes.keys().filter(|k| k.starts_with("env ")) {
        let of_the_unit = ["env INVOCATION_ID", "env JOURNAL_STREAM", "env SYSTEMD_EXEC_PID", "env MEMORY_PRESSURE_"];
        let expected = !of_the_unit.iter().any(|p| name.starts_with(p));
        assert!(!expected || cap.contains_key(name), "{name} is missing: {cap:#?}");
    }
    assert_eq!(yes.get("env PATH"), cap.get("env PATH"));
}
