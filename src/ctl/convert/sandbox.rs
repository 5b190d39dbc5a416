//! Sandbox and resources that were each connection's own, and are those of sockcap and all commands now.
#![forbid(unsafe_code)]

use super::pair::{Lines, Listening, Notes, Pair};
use super::span::times;

/// What each connection had for itself.
const OWN: [&str; 10] = [
    "DynamicUser",
    "PrivateTmp",
    "PrivateIPC",
    "PrivateMounts",
    "TemporaryFileSystem",
    "RuntimeDirectory",
    "MemoryLow",
    "MemoryMin",
    "CPUQuota",
    "LogRateLimitBurst",
];
/// Limits that are worth the same if they are so many times as large.
const MULTIPLIED: [&str; 4] = ["MemoryHigh", "MemoryMax", "MemorySwapMax", "TasksMax"];
/// Processes of sockcap itself.
const SPARE_TASKS: u64 = 16;

/// The settings as they must stand, each a line.
pub fn adjust(pair: &Pair, listening: &Listening, settings: Vec<(String, String)>, notes: &mut Notes) -> Lines {
    let service = pair.names.service();
    let has = |key: &str, value: &str| settings.iter().any(|(name, held)| name == key && held == value);
    let is_someone = settings.iter().any(|(key, value)| key == "User" && value != "root" && value != "0")
        || has("DynamicUser", "yes");
    let shared = settings.iter().filter(|(key, value)| value != "no" && OWN.contains(&key.as_str()));
    let mut shared: Vec<&str> = shared.map(|(key, _)| key.as_str()).collect();
    shared.dedup();
    if !shared.is_empty() {
        notes.say(format!(
            "{}= of {service} was for each connection, and is one for all together now",
            shared.join("=, ")
        ));
    }
    let mut lines = Lines::new();
    let (mut families, mut is_filtered, mut is_system_service) = (None, false, false);
    for (at, (key, value)) in settings.iter().enumerate() {
        match key.as_str() {
            key if MULTIPLIED.contains(&key) => lines.push(multiplied(key, value, listening, &service, notes)),
            "RestrictAddressFamilies" => {
                families = Some(at);
                lines.push(format!("{key}={value}"));
            }
            "SystemCallFilter" => {
                is_filtered |= !value.starts_with('~');
                is_system_service |= value.split_whitespace().any(|word| word == "@system-service");
                lines.push(format!("{key}={value}"));
            }
            _ => lines.push(format!("{key}={value}")),
        }
    }
    if families.is_some() {
        let lists: Vec<&str> = settings
            .iter()
            .filter(|(key, _)| key == "RestrictAddressFamilies")
            .map(|(_, value)| value.as_str())
            .collect();
        lines.extend(unix_sockets(&lists, &service, notes));
    }
    if is_filtered && !is_system_service {
        lines.push("SystemCallFilter=@system-service".into());
        notes.say(format!("SystemCallFilter= of {service} is widened by @system-service, which sockcap needs"));
    }
    let capabilities =
        settings.iter().filter(|(key, _)| key == "CapabilityBoundingSet").map(|(_, value)| value.as_str());
    let capabilities: Vec<&str> = capabilities.collect();
    let allows = |value: &&&str| !value.starts_with('~');
    if capabilities.first().is_some_and(|value| allows(&value))
        && !is_someone
        && !capabilities.iter().filter(allows).any(|value| value.contains("CAP_KILL"))
    {
        lines.push("CapabilityBoundingSet=CAP_KILL".into());
        notes.say(format!(
            "CapabilityBoundingSet= of {service} is widened by CAP_KILL, to end a command that has become another user"
        ));
    }
    lines
}

fn multiplied(key: &str, value: &str, listening: &Listening, service: &str, notes: &mut Notes) -> String {
    let product = times(value, listening.max_connections);
    let spare = |product: String| match (key, product.parse::<u64>()) {
        ("TasksMax", Ok(tasks)) => (tasks.saturating_add(SPARE_TASKS)).to_string(),
        _ => product,
    };
    match product.map(spare) {
        Some(product) => {
            notes.say(format!("{key}={value} of {service} was for each connection, and is {product} for all together now: one may take it all"));
            format!("{key}={product}")
        }
        None => format!("{key}={value}"),
    }
}

/// sockcap talks to systemd and the journal over UNIX sockets.
fn unix_sockets(lists: &[&str], service: &str, notes: &mut Notes) -> Option<String> {
    // The first list says whether what is not named may be used.
    let mut is_open = lists.first().is_none_or(|list| list.starts_with('~'));
    for list in lists {
        let (names, allows) = list.strip_prefix('~').map_or((*list, true), |names| (names, false));
        if names.split_whitespace().any(|name| name == "AF_UNIX") {
            is_open = allows;
        }
    }
    if is_open {
        return None;
    }
    notes.say(format!(
        "RestrictAddressFamilies= of {service} is widened by AF_UNIX, by which sockcap talks to systemd and the journal"
    ));
    Some("RestrictAddressFamilies=AF_UNIX".to_owned())
}
