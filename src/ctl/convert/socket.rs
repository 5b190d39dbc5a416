//! `FOO.socket` with Accept=yes becomes `FOO-capped.socket`.
#![forbid(unsafe_code)]

use super::pair::{Lines, Listening, Notes, Pair};
use super::unit::Unit;
use super::words::of_socket;

/// systemd's own, where `MaxConnections=` is not given.
const MAX_CONNECTIONS: u64 = 64;
/// Listeners of these names are for sockcap itself: they never run a command.
const RESERVED: [&str; 3] = ["varlink", "metrics", "agent-check"];

/// The sections of the new socket, and what its service has to know.
///
/// # Errors
/// One line, if sockcap cannot serve it.
pub fn convert(pair: &Pair, notes: &mut Notes) -> Result<(Listening, [Lines; 3]), String> {
    let names = &pair.names;
    let name = names.socket();
    check(pair)?;
    let mut listening = Listening { max_connections: MAX_CONNECTIONS, ..Listening::default() };
    let mut lines = Lines::new();
    for (key, value) in pair.socket.settings("Socket") {
        let value = of_socket(value, names);
        let number = |what: &str| value.parse::<u64>().map_err(|_| format!("{name}: {what}={value} is not a number"));
        match key {
            "ListenStream" | "ListenSequentialPacket" => {
                lines.push(format!("{key}={value}"));
                listening.listens.push(value);
            }
            "MaxConnections" => listening.max_connections = number(key)?,
            "MaxConnectionsPerSource" => listening.max_per_source = Some(number(key)?).filter(|max| *max > 0),
            "Backlog" => {
                lines.push(format!("{key}={value}"));
                listening.backlog = Some(value);
            }
            "FileDescriptorName" => listening.descriptor_name = Some(value),
            // The one says what this conversion changes, and the others are for Accept=no alone.
            "Accept" | "Service" | "FlushPending" | "DeferTrigger" | "DeferTriggerMaxSec" => {}
            "TriggerLimitBurst" | "TriggerLimitIntervalSec" if is_zero(&value) => notes.say(format!(
                "{key}={value} of {name} is left out: it was for many clients, and now counts starts of the one service"
            )),
            "SELinuxContextFromNet" => {
                notes.say(format!("{key}= of {name} is left out: commands have the label of the service"))
            }
            "XAttrAccept" => {
                notes.say(format!("{key}= of {name} is left out: sockcap sets no attributes of connections"))
            }
            _ => lines.push(format!("{key}={value}")),
        }
    }
    if listening.max_connections == 0 {
        return Err(format!("{name}: MaxConnections=0 is no limit that systemd accepts"));
    }
    if listening.is_tcp() && pair.socket.get("Socket", "KeepAlive").is_none() {
        lines.push("# Without keepalive, a client whose network is gone would keep its slot for ever.".into());
        lines.push("KeepAlive=yes".into());
    }
    let own = names.prefix.replace(':', "_");
    let descriptor = listening.descriptor_name.clone().filter(|name| !RESERVED.contains(&name.as_str())).unwrap_or(own);
    lines.extend([
        "# sockcap accepts, and holds the limit.".into(),
        "Accept=no".into(),
        "# The listener's name in the journal.".into(),
    ]);
    lines.push(format!("FileDescriptorName={descriptor}"));
    Ok((listening, [unit(pair, notes), lines, install(pair, notes)]))
}

/// Whether systemd accepts the connections of this socket.
pub fn accepts(socket: &Unit) -> bool {
    let accept = socket.get("Socket", "Accept").unwrap_or("no").to_ascii_lowercase();
    ["yes", "true", "1", "on", "y", "t"].contains(&accept.as_str())
}

fn check(pair: &Pair) -> Result<(), String> {
    let name = pair.names.socket();
    if !accepts(&pair.socket) {
        return Err(format!(
            "{name} does not have Accept=yes: its service accepts connections by itself, and there is nothing to convert"
        ));
    }
    let settings = pair.socket.settings("Socket");
    let is_stream = |key: &str| matches!(key, "ListenStream" | "ListenSequentialPacket");
    if let Some((key, value)) = settings.iter().find(|(key, _)| key.starts_with("Listen") && !is_stream(key)) {
        return Err(format!(
            "{name} has {key}={value}, which is no stream of connections: sockcap serves ListenStream= and ListenSequentialPacket="
        ));
    }
    if !settings.iter().any(|(key, _)| is_stream(key)) {
        return Err(format!("{name} has no ListenStream="));
    }
    Ok(())
}

/// A number or a time.
fn is_zero(value: &str) -> bool {
    value.trim_end_matches('s') == "0"
}

fn unit(pair: &Pair, notes: &mut Notes) -> Lines {
    let Pair { names, .. } = pair;
    let mut lines = Lines::new();
    for (key, value) in pair.socket.settings("Unit") {
        let value = of_socket(value, names);
        match key {
            "Description" => lines.push(format!("{key}={value}, with a connection limit")),
            "SourcePath" => {}
            _ if value.starts_with('/') || !value.contains(&names.prefix) => lines.push(format!("{key}={value}")),
            "After" | "Before" | "Requires" | "Wants" | "BindsTo" | "PartOf" | "Upholds" | "Requisite" => {
                lines.push(format!("{key}={}", names.renamed(&value)));
            }
            _ => lines.push(format!("{key}={value}")),
        }
    }
    if !lines.iter().any(|line| line.starts_with("Description=")) {
        lines.insert(0, format!("Description={}, with a connection limit", names.prefix));
    }
    // A service that is skipped for each client would trip the socket's trigger limit.
    for (key, value) in pair.service.settings("Unit") {
        if key.starts_with("Condition") || key.starts_with("Assert") {
            lines.push(format!("{key}={}", of_socket(value, names)));
            notes.say(format!(
                "{key}={value} of {} is looked at when the socket starts, not for each connection",
                names.service()
            ));
        }
    }
    let old = names.reference(&names.socket());
    lines.push("# Of two units with one address only one can listen; the old one has to let go of it first.".into());
    lines.extend([format!("Conflicts={old}"), format!("After={old}")]);
    lines
}

fn install(pair: &Pair, notes: &mut Notes) -> Lines {
    let Pair { names, .. } = pair;
    let mut lines = Lines::new();
    for (key, value) in pair.socket.settings("Install") {
        match key {
            "Also" => lines.push(format!("{key}={}", names.renamed(value))),
            "Alias" => notes.say(format!("Alias={value} of {} is left out: the old unit has it", names.socket())),
            _ => lines.push(format!("{key}={value}")),
        }
    }
    let starts = |line: &String| ["WantedBy", "RequiredBy", "UpheldBy"].iter().any(|key| line.starts_with(key));
    if !lines.iter().any(starts) {
        lines.push("WantedBy=sockets.target".into());
        notes.say(format!(
            "{} cannot be enabled, something else starts it; {} is enabled for sockets.target",
            names.socket(),
            names.new_socket()
        ));
    }
    lines
}
