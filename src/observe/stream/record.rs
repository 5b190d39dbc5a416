//! Entries of the journal, byte by byte (systemd.io/JOURNAL_NATIVE_PROTOCOL).
#![forbid(unsafe_code)]

use crate::observe::peer::ShownPeer;

/// `daemon` of syslog(3), which journald gives to a service's streams.
const FACILITY: &[u8] = b"3";

/// Appends a field. Its name is upper case; its value may be anything.
pub(super) fn field(record: &mut Vec<u8>, name: &str, value: &[u8]) {
    record.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        record.push(b'\n');
        record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        record.push(b'=');
    }
    record.extend_from_slice(value);
    record.push(b'\n');
}

/// What each entry of a connection begins with: first its `SYSLOG_IDENTIFIER`, the command's.
pub(super) fn head(identifier: &str, id: u64, listener: &str, peer: &ShownPeer) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    let (address, port) = peer.address();
    field(&mut head, "SYSLOG_IDENTIFIER", identifier.as_bytes());
    field(&mut head, "SYSLOG_FACILITY", FACILITY);
    field(&mut head, "SOCKCAP_CONNECTION", id.to_string().as_bytes());
    field(&mut head, "SOCKCAP_LISTENER", listener.as_bytes());
    field(&mut head, "SOCKCAP_PEER", peer.to_string().as_bytes());
    if let Some(address) = address {
        field(&mut head, "SOCKCAP_PEER_ADDR", address.as_bytes());
    }
    if let Some(port) = port {
        field(&mut head, "SOCKCAP_PEER_PORT", port.to_string().as_bytes());
    }
    head
}

/// Completes `record`, which has the head of a connection, with a line.
pub(super) fn line(record: &mut Vec<u8>, priority: u8, text: &[u8]) {
    field(record, "PRIORITY", &[b'0' + priority]);
    field(record, "MESSAGE", text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::peer::LogPeer;
    use crate::peer::Peer;
    use crate::sys::socket::Address;

    #[test]
    fn an_entry_says_whose_it_is() {
        let peer = Peer::new(Address::Ip("192.0.2.7:4000".parse().unwrap()), None);
        let mut record = head("rsync", 17, "my\nport", &ShownPeer::new(peer.clone(), LogPeer::Full));
        line(&mut record, 3, b"no\xff");
        let mut expected = b"SYSLOG_IDENTIFIER=rsync\nSYSLOG_FACILITY=3\nSOCKCAP_CONNECTION=17\n".to_vec();
        expected.extend_from_slice(b"SOCKCAP_LISTENER\n\x07\0\0\0\0\0\0\0my\nport\nSOCKCAP_PEER=192.0.2.7 port 4000\n");
        expected
            .extend_from_slice(b"SOCKCAP_PEER_ADDR=192.0.2.7\nSOCKCAP_PEER_PORT=4000\nPRIORITY=3\nMESSAGE=no\xff\n");
        assert_eq!(record, expected, "{}", record.escape_ascii());

        let hidden = head("rsync", 17, "web", &ShownPeer::new(peer, LogPeer::None));
        assert!(hidden.ends_with(b"SOCKCAP_LISTENER=web\nSOCKCAP_PEER=a client\n"), "{}", hidden.escape_ascii());
    }
}
