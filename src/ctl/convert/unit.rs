//! Unit files as systemd reads them (systemd.syntax(7)): comments, continued lines, drop-ins that add, replace or reset.
//!
//! Any text is read: a line that is neither a section nor an assignment is passed over, as systemd does.
#![forbid(unsafe_code)]

use crate::ctl::syntax;

/// One line `Key=value` of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Assignment {
    section: String,
    key: String,
    value: String,
}

/// A unit with its drop-ins, in the order in which they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    assignments: Vec<Assignment>,
}

/// Settings that systemd itself has once. Others that are repeated are kept as often as they are given.
const SCALARS: [&str; 52] = [
    "Accept",
    "Backlog",
    "BindIPv6Only",
    "BindToDevice",
    "CPUQuota",
    "CPUWeight",
    "DefaultDependencies",
    "Description",
    "DevicePolicy",
    "DirectoryMode",
    "DynamicUser",
    "FileDescriptorName",
    "FreeBind",
    "Group",
    "IOWeight",
    "KeepAlive",
    "KillMode",
    "KillSignal",
    "LockPersonality",
    "MaxConnections",
    "MaxConnectionsPerSource",
    "MemoryDenyWriteExecute",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "Nice",
    "NoDelay",
    "NoNewPrivileges",
    "OOMPolicy",
    "OOMScoreAdjust",
    "PAMName",
    "ProcSubset",
    "RemainAfterExit",
    "RemoveIPC",
    "RemoveOnStop",
    "Restart",
    "RestartSec",
    "RootDirectory",
    "RuntimeMaxSec",
    "Slice",
    "SocketGroup",
    "SocketMode",
    "SocketUser",
    "SyslogIdentifier",
    "TasksMax",
    "Type",
    "UMask",
    "User",
    "WatchdogSec",
    "WorkingDirectory",
    "RestrictRealtime",
    "RestrictSUIDSGID",
];
/// The same by how they begin.
const SCALAR_PREFIXES: [&str; 6] = ["Limit", "PollLimit", "Private", "Protect", "Standard", "Timeout"];
/// Of these an empty value says something of its own.
const MEANS_NOTHING: [&str; 1] = ["CapabilityBoundingSet"];

impl Unit {
    /// Adds the lines of one file.
    pub fn read(&mut self, text: &str) {
        let mut section = String::new();
        for line in lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !section.is_empty()) {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                // systemd passes over a line without a name.
                if !key.is_empty() {
                    self.assignments.push(Assignment { section: section.clone(), key, value });
                }
            }
        }
    }

    /// Whether there is no assignment: an empty file masks a unit.
    pub fn is_empty(&self) -> bool {
        self.assignments.is_empty()
    }

    /// What holds in a section: keys and values, those that were replaced or reset left out.
    pub fn settings(&self, section: &str) -> Vec<(&str, &str)> {
        let mut held: Vec<(&str, &str)> = Vec::new();
        for Assignment { key, value, .. } in self.assignments.iter().filter(|it| it.section == section) {
            let (key, value) = (key.as_str(), value.as_str());
            if value.is_empty() {
                // Dependencies cannot be reset.
                if section != "Install" && !(section == "Unit" && is_dependency(key)) {
                    held.retain(|(other, _)| !shares_reset(key, other));
                }
                if !MEANS_NOTHING.contains(&key) {
                    continue;
                }
            } else if is_scalar(key) {
                held.retain(|(other, _)| *other != key);
            }
            held.push((key, value));
        }
        held
    }

    /// The value that a setting has; the last one of a list.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.settings(section).into_iter().rfind(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

fn is_scalar(key: &str) -> bool {
    SCALARS.contains(&key) || SCALAR_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Those of `[Unit]` that name other units.
fn is_dependency(key: &str) -> bool {
    const OTHERS: [&str; 7] = ["After", "Before", "Conflicts", "BindsTo", "PartOf", "Upholds", "JoinsNamespaceOf"];
    OTHERS.contains(&key)
        || ["Requires", "Wants", "Requisite", "On", "Propagates", "ReloadPropagated"].iter().any(|p| key.starts_with(p))
}

/// Whether an empty `key` resets `other`, too: listening sockets are one list, and so are conditions and assertions.
fn shares_reset(key: &str, other: &str) -> bool {
    key == other
        || ["Listen", "Condition", "Assert"].iter().any(|list| key.starts_with(list) && other.starts_with(list))
}

/// Lines as they are meant: without comments, and those that end with a backslash together with the next.
fn lines(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut begun: Option<String> = None;
    for line in syntax::lines(text) {
        // Also within a continued line.
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut whole = begun.take().unwrap_or_default();
        match syntax::continued(&line) {
            Some(start) => {
                whole.push_str(start);
                whole.push(' ');
                begun = Some(whole);
            }
            None => {
                whole.push_str(&line);
                all.push(whole);
            }
        }
    }
    all.extend(begun);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(files: &[&str]) -> Unit {
        let mut unit = Unit::default();
        files.iter().for_each(|text| unit.read(text));
        unit
    }

    #[test]
    fn lines_are_continued_across_comments() {
        let unit = unit(&["\u{feff}# c\n ; c\n[Service]\nExecStart = /bin/a \\\n# not this\n  b \\\n  c\\\\\nUser=x"]);
        assert_eq!(unit.settings("Service"), [("ExecStart", "/bin/a    b    c\\\\"), ("User", "x")]);
        assert_eq!(unit.get("Service", "User"), Some("x"));
        assert_eq!(unit.get("Socket", "User"), None);
    }

    #[test]
    fn a_line_that_the_file_ends_in_is_whole() {
        assert_eq!(unit(&["[Service]\nUser=a\\"]).get("Service", "User"), Some("a"));
    }

    #[test]
    fn a_line_ends_where_it_ends_for_systemd() {
        let unit = unit(&["[Service]\r\nExecStart=/bin/a \\\r\n b\rUser=x\0Group=y\n"]);
        assert_eq!(unit.settings("Service"), [("ExecStart", "/bin/a   b"), ("User", "x"), ("Group", "y")]);
    }

    #[test]
    fn a_line_without_a_name_is_none() {
        assert_eq!(unit(&["[Socket]\n=x\n = y\nBacklog=3\n"]).settings("Socket"), [("Backlog", "3")]);
    }

    #[test]
    fn drop_ins_replace_add_and_reset() {
        let base = "[Socket]\nListenStream=1\nListenSequentialPacket=/a\nMaxConnections=3\nIPAddressAllow=::1\nfoo\n[Unit]\nAfter=a\n";
        let all = unit(&[base, "[Socket]\nMaxConnections=4\nIPAddressAllow=::2\n", "[Unit]\nAfter=\nAfter=b\n"]);
        assert_eq!(
            all.settings("Socket"),
            [
                ("ListenStream", "1"),
                ("ListenSequentialPacket", "/a"),
                ("IPAddressAllow", "::1"),
                ("MaxConnections", "4"),
                ("IPAddressAllow", "::2")
            ]
        );
        assert_eq!(all.settings("Unit"), [("After", "a"), ("After", "b")], "dependencies stay");
        let reset = unit(&[base, "[Socket]\nListenStream=\nListenStream=2\nMaxConnections=\n"]);
        assert_eq!(reset.settings("Socket"), [("IPAddressAllow", "::1"), ("ListenStream", "2")]);
        let described =
            unit(&["[Unit]\nDocumentation=a\nAfter=a\n", "[Unit]\nDocumentation=\nDocumentation=b\nAfter=\n"]);
        assert_eq!(described.settings("Unit"), [("After", "a"), ("Documentation", "b")], "dependencies alone stay");
    }

    #[test]
    fn a_section_does_not_reach_into_the_next_file() {
        assert!(unit(&["[Socket]\n", "Accept=yes\n"]).is_empty());
    }

    #[test]
    fn no_capabilities_are_a_setting() {
        let unit = unit(&["[Service]\nCapabilityBoundingSet=CAP_KILL\nCapabilityBoundingSet=\n"]);
        assert_eq!(unit.settings("Service"), [("CapabilityBoundingSet", "")]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(\\PC|[\\[\\]=\\\\#;\\n ]){0,200}") {
            let mut unit = Unit::default();
            unit.read(&text);
            for section in ["", "Unit", "Service"] {
                unit.settings(section);
            }
        }
    }
}
