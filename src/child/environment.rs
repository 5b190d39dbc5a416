//! What a command finds in its environment: ours, cleaned, and the variables of its connection.
//!
//! `REMOTE_ADDR`, `REMOTE_PORT`, `SO_COOKIE` as `Accept=yes` sets them (systemd.exec(5)): unset if the peer
//! is unnamed or gone. Beside them the UCSPI names that tcpserver and s6 set.
#![forbid(unsafe_code)]

use super::Facts;
use crate::sys::socket::Address;
use crate::sys::spawn::{Pass, Words};
use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

/// Variables between systemd and this daemon, or of another connection: no business of a command's.
/// `JOURNAL_STREAM` stays: the command's stderr is the same stream (systemd.exec(5)).
const PRIVATE: [&str; 25] = [
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
    "MANAGERPIDFDID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "SO_COOKIE",
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "TCPCONNNUM",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEPATH",
];
/// Prefixes of the same kind: our own options, and pressure variables of later systemd versions.
const PRIVATE_PREFIXES: [&str; 4] = ["SOCKCAP_", "CPU_PRESSURE_", "IO_PRESSURE_", "IPCCONNNUM"];

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

/// Adds the variables of one connection.
pub fn fill(facts: &Facts, words: &mut Words) {
    match &facts.peer.address {
        Address::Ip(peer) => {
            let (ip, port) = (peer.ip(), peer.port());
            put(words, format_args!("REMOTE_ADDR={ip}"));
            put(words, format_args!("REMOTE_PORT={port}"));
            put(words, format_args!("PROTO=TCP"));
            put(words, format_args!("TCPREMOTEIP={ip}"));
            put(words, format_args!("TCPREMOTEPORT={port}"));
            if let Address::Ip(local) = facts.local {
                put(words, format_args!("TCPLOCALIP={}", local.ip()));
                put(words, format_args!("TCPLOCALPORT={}", local.port()));
            }
            put(words, format_args!("TCPCONNNUM={}", facts.of_source));
        }
        Address::Vsock { cid, port } => {
            // systemd's form (socket_address_print for AF_VSOCK without the port).
            put(words, format_args!("REMOTE_ADDR=vsock:{cid}"));
            put(words, format_args!("REMOTE_PORT={port}"));
        }
        Address::Unix(name) => {
            if let Some(name) = name {
                words.env(|out| {
                    out.extend_from_slice(b"REMOTE_ADDR=");
                    out.extend_from_slice(name);
                });
            }
            put(words, format_args!("PROTO=IPC"));
            if let Some((_, uid, gid)) = facts.peer.credentials {
                put(words, format_args!("IPCREMOTEEUID={uid}"));
                put(words, format_args!("IPCREMOTEEGID={gid}"));
            }
            words.env(|out| {
                out.extend_from_slice(b"IPCREMOTEPATH=");
                out.extend_from_slice(name.as_deref().unwrap_or_default());
            });
            put(words, format_args!("IPCCONNNUM={}", facts.of_source));
        }
        Address::Other => {}
    }
    if let Some(cookie) = facts.cookie {
        put(words, format_args!("SO_COOKIE={cookie}"));
    }
}

fn put(words: &mut Words, entry: std::fmt::Arguments) {
    words.env(|out| {
        let _ = out.write_fmt(entry); // writing to a Vec cannot fail
    });
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
