//! The journal's own socket, as a service of systemd sees it, with a reader of ours.

use super::*;
use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixDatagram;

/// The journal of daemons that are started with [`Journal::around`].
pub struct Journal {
    socket: UnixDatagram,
    dir: TempDir,
    /// What was read and not asked for yet.
    read: VecDeque<Entry>,
}

/// An entry: its fields, whose values may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry(BTreeMap<String, Vec<u8>>);

impl Entry {
    /// As systemd.io/JOURNAL_NATIVE_PROTOCOL has it.
    fn parse(mut bytes: &[u8]) -> Entry {
        let mut fields = BTreeMap::new();
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
            let name = String::from_utf8(bytes[..end].to_vec()).expect("a name");
            let (value, rest) = match bytes[end] {
                b'=' => {
                    let value = bytes[end + 1..].split(|byte| *byte == b'\n').next().expect("a value");
                    (value, &bytes[end + 1 + value.len()..])
                }
                _ => {
                    let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().expect("a length"));
                    bytes[end + 9..].split_at(length as usize)
                }
            };
            assert_eq!(rest.first(), Some(&b'\n'), "the end of {name}");
            fields.insert(name, value.to_vec());
            bytes = &rest[1..];
        }
        assert!(bytes.is_empty(), "{}", bytes.escape_ascii());
        Entry(fields)
    }

    /// The field's value; empty if there is no such field.
    pub fn get(&self, field: &str) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    /// The same as it is.
    pub fn bytes(&self, field: &str) -> &[u8] {
        self.0.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names of all fields.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether a command wrote this, to whatever connection it belongs.
    pub fn is_of_command(&self) -> bool {
        self.get("SYSLOG_IDENTIFIER") != "sockcap"
    }
}

impl Journal {
    /// `None`, and said so, where no mount is possible.
    pub fn new(what: &str) -> Option<Journal> {
        if !is_root() {
            skip(what, "only root can mount");
            return None;
        }
        let dir = TempDir::new();
        let socket = UnixDatagram::bind(dir.join("journal")).expect("bind");
        socket.set_read_timeout(Some(FUSE)).expect("timeout");
        Some(Journal { socket, dir, read: VecDeque::new() })
    }

    /// What becomes a program whose journal this is.
    pub fn around(&self) -> Vec<String> {
        const MOUNT: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && \
                             ln -s \"$0\" /run/systemd/journal/socket && exec \"$@\"";
        ["unshare", "-m", "sh", "-c", MOUNT, &self.dir.join("journal")].map(str::to_owned).into()
    }

    /// Lets a reader of datagrams end, with an empty one.
    pub fn end(&self) {
        UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], self.dir.join("journal"))).expect("send");
    }

    /// The next datagram, as it is.
    pub fn datagram(&self) -> Vec<u8> {
        let mut buffer = vec![0; 256 << 10];
        let length = uninterrupted(|| self.socket.recv(&mut buffer)).expect("an entry");
        buffer.truncate(length);
        buffer
    }

    /// The next entry that fits. Those that do not are kept for others.
    #[track_caller]
    pub fn next(&mut self, fits: impl Fn(&Entry) -> bool) -> Entry {
        if let Some(at) = self.read.iter().position(&fits) {
            return self.read.remove(at).expect("it is there");
        }
        loop {
            let entry = Entry::parse(&self.datagram());
            if entry.0.is_empty() {
                continue; // it asks whether somebody is there
            }
            if fits(&entry) {
                return entry;
            }
            self.read.push_back(entry);
        }
    }

    /// The next one of sockcap's own that contains these words.
    #[track_caller]
    pub fn said(&mut self, words: &str) -> Entry {
        self.next(|entry| !entry.is_of_command() && entry.get("MESSAGE").contains(words))
    }

    /// The next line of the command of this connection.
    #[track_caller]
    pub fn line_of(&mut self, connection: &str) -> Entry {
        self.next(|entry| entry.is_of_command() && entry.get("SOCKCAP_CONNECTION") == connection)
    }
}
