//! What a command finds in its environment: ours, cleaned, and the variables of its connection.
//!
//! `REMOTE_ADDR`, `REMOTE_PORT`, `SO_COOKIE` as `Accept=yes` sets them (systemd.exec(5)): unset if the peer
//! is unnamed or gone. Beside them the UCSPI names that tcpserver and s6 set, and a mark by which a later daemon
//! finds the commands of an earlier one again ([`MARK`]).
#![forbid(unsafe_code)]

use super::ConnectionInfo;
use crate::policy::arrival::ListenerId;
use crate::sys::launch::{ExecArgs, Pass};
use crate::sys::socket::{Address, Ip};
use std::ffi::{CString, OsString};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;

/// Variables between systemd and this daemon, or of another connection (inetd, CGI): they must not leak into the command.
/// `JOURNAL_STREAM` stays: the command's stderr is the same stream (systemd.exec(5)).
const PRIVATE: [&str; 21] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "FDSTORE",
    "SYSTEMD_EXEC_PID",
    "MANAGERPID",
    "MAINPID",
    "MANAGERPIDFDID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "REMOTE_HOST",
    "REMOTE_USER",
    "REMOTE_IDENT",
    "SO_COOKIE",
    "PROTO",
];
/// The mark of a command: `SOCKCAP_CONNECTION=ID LISTENER PID`, with the listener's label. What a command itself starts inherits it, so the pid
/// tells the one that the connection was given to.
pub const MARK: &str = "SOCKCAP_CONNECTION";
/// Prefixes of the same kind: our own options, pressure variables of later systemd versions, and what the UCSPI servers set
/// (tcpserver, s6, ipsvd, ucspi-unix, ucspi-ssl), names from the DNS and ident among it.
const PRIVATE_PREFIXES: [&str; 22] = [
    "SOCKCAP_",
    "CPU_PRESSURE_",
    "IO_PRESSURE_",
    "MONITOR_",
    "TCP6LOCAL",
    "TCP6REMOTE",
    "TCPLOCAL",
    "TCPREMOTE",
    "TCPCONNNUM",
    "TCPCONCURRENCY",
    "TCPORIGDST",
    "IPCLOCAL",
    "IPCREMOTE",
    "IPCCONNNUM",
    "UNIXLOCAL",
    "UNIXREMOTE",
    "VSOCKLOCAL",
    "VSOCKREMOTE",
    "UDPLOCAL",
    "UDPREMOTE",
    "SSLLOCAL",
    "SSLREMOTE",
];

/// The part that is the same for every connection, as `NAME=value`.
pub fn cleaned(vars: impl Iterator<Item = (OsString, OsString)>, pass: Pass) -> Vec<CString> {
    let private = |name: &[u8]| {
        PRIVATE.iter().any(|known| known.as_bytes() == name)
            || PRIVATE_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    };
    let mut all: Vec<CString> = vars
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .filter(|(name, _)| !private(name))
        .filter_map(|(name, value)| CString::new([name, value].join(&b'=')).ok())
        .collect();
    if pass == Pass::ListenFds {
        all.extend([c"LISTEN_FDS=1".into(), c"LISTEN_FDNAMES=connection".into()]);
    }
    all
}

/// Variables that are the same for all connections of a kind, or of a listener; made once.
#[derive(Debug)]
pub struct FixedVars {
    /// All of them, for `sys::launch::CommandSpec`.
    pub all: Vec<CString>,
    pass: Pass,
    /// By listener: where its own `TCPLOCALIP` and `TCPLOCALPORT` are, unless each connection has others.
    local: Vec<Option<usize>>,
}

const PROTO_TCP: usize = 0;
const PROTO_IPC: usize = 1;

impl FixedVars {
    /// For these listeners, in this order.
    pub fn new<'a>(locals: impl Iterator<Item = (&'a Address, bool)>, pass: Pass) -> Self {
        let mut entries = FixedVars { all: vec![c"PROTO=TCP".into(), c"PROTO=IPC".into()], pass, local: Vec::new() };
        for (local, is_wildcard) in locals {
            entries.local.push(match local {
                Address::Ip(at) if !is_wildcard => {
                    let pair = [format!("TCPLOCALIP={}", Ip(at)), format!("TCPLOCALPORT={}", at.port())];
                    // An address has no NUL.
                    entries.all.extend(pair.into_iter().filter_map(|entry| CString::new(entry).ok()));
                    Some(entries.all.len() - 2)
                }
                _ => None,
            });
        }
        entries
    }

    /// Adds the variables of one connection.
    pub fn fill(&self, listener: ListenerId, info: &ConnectionInfo, args: &mut ExecArgs) {
        match &info.peer.address {
            Address::Ip(peer) => {
                args.env_fixed(PROTO_TCP);
                match (self.local[listener], info.local) {
                    (Some(at), _) => [at, at + 1].into_iter().for_each(|entry| args.env_fixed(entry)),
                    (None, Address::Ip(local)) => {
                        args.env(|out| address(b"TCPLOCALIP=", local, out));
                        args.env(|out| number(b"TCPLOCALPORT=", local.port().into(), out));
                    }
                    _ => {}
                }
                args.env(|out| address(b"REMOTE_ADDR=", peer, out));
                args.env(|out| number(b"REMOTE_PORT=", peer.port().into(), out));
                args.env(|out| address(b"TCPREMOTEIP=", peer, out));
                args.env(|out| number(b"TCPREMOTEPORT=", peer.port().into(), out));
                args.env(|out| number(b"TCPCONNNUM=", info.of_source.into(), out));
            }
            Address::Vsock { cid, port } => {
                // The form of systemd's sockaddr_pretty() for AF_VSOCK without a port.
                args.env(|out| number(b"REMOTE_ADDR=vsock:", (*cid).into(), out));
                args.env(|out| number(b"REMOTE_PORT=", (*port).into(), out));
            }
            Address::Unix(name) => {
                args.env_fixed(PROTO_IPC);
                if let Some(name) = name {
                    args.env(|out| text(b"REMOTE_ADDR=", name, out));
                }
                if let Some((_, uid, gid)) = info.peer.credentials {
                    args.env(|out| number(b"IPCREMOTEEUID=", uid.into(), out));
                    args.env(|out| number(b"IPCREMOTEEGID=", gid.into(), out));
                }
                args.env(|out| text(b"IPCREMOTEPATH=", name.as_deref().unwrap_or_default(), out));
                args.env(|out| number(b"IPCCONNNUM=", info.of_source.into(), out));
            }
            Address::Other => {}
        }
        if let Some(cookie) = info.cookie {
            args.env(|out| number(b"SO_COOKIE=", cookie, out));
        }
        args.env_own_pid(|out| {
            number(b"SOCKCAP_CONNECTION=", info.id, out);
            text(b" ", info.label.as_bytes(), out);
            out.push(b' ');
        });
        if self.pass == Pass::ListenFds {
            args.env_own_pid(|out| out.extend_from_slice(b"LISTEN_PID="));
        }
    }
}

fn text(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// By hand and not by `core::fmt`, since this is on the path of every connection.
fn number(name: &[u8], value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    let (mut digits, mut at, mut rest) = ([0; 20], 20, value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

fn address(name: &[u8], at: &SocketAddr, out: &mut Vec<u8>) {
    match at {
        SocketAddr::V4(at) => {
            let [a, b, c, d] = at.ip().octets();
            number(name, a.into(), out);
            [b, c, d].into_iter().for_each(|octet| number(b".", octet.into(), out));
        }
        SocketAddr::V6(_) => {
            out.extend_from_slice(name);
            let _ = write!(out, "{}", Ip(at)); // writing to a Vec cannot fail
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::parse_ip;

    #[test]
    fn private_variables_do_not_leak() {
        let names = [
            "PATH",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
            "SOCKCAP_MAX_CONNECTIONS",
            "JOURNAL_STREAM",
            "IPCCONNNUM",
            "REMOTE_ADDR",
        ];
        let vars = names.iter().map(|name| (OsString::from(name), OsString::from("x")));
        assert_eq!(cleaned(vars.clone(), Pass::Stdio), [c"PATH=x".into(), CString::new("JOURNAL_STREAM=x").unwrap()]);
        let passed = cleaned(vars, Pass::ListenFds);
        assert!(passed.iter().any(|entry| entry.as_bytes() == b"LISTEN_FDS=1"));
    }

    #[test]
    fn numbers_and_addresses() {
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        for value in [0, 9, 10, 65535, u64::MAX] {
            assert_eq!(written(&|out| number(b"N=", value, out)), format!("N={value}"));
        }
        for ip in ["0.0.0.0", "192.0.2.255", "::1", "2001:db8::7", "fe80::1%lo", "fe80::1%4294967295"] {
            let at = parse_ip(ip).unwrap();
            assert_eq!(written(&|out| address(b"IP=", &at, out)), format!("IP={ip}"));
        }
    }
}
