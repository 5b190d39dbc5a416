//! Limits and times of the new service: those of systemd become sockcap's.
#![forbid(unsafe_code)]

use super::pair::{Lines, Listening, Notes, Pair};
use super::span::{milliseconds, span};

/// How long running commands may go on after a stop.
const DRAIN_TIMEOUT: u64 = 30_000;
/// Between SIGTERM and SIGKILL, unless `TimeoutStopSec=` says something else.
const KILL_GRACE: u64 = 10_000;
/// For sockcap to end in.
const MARGIN: u64 = 10_000;
/// By how much sockcap raises the score of a command above its own.
const ABOVE: i32 = 500;

/// Lines for `[Service]`.
///
/// # Errors
/// One line.
pub fn convert(pair: &Pair, listening: &Listening, notes: &mut Notes) -> Result<Lines, String> {
    let service = pair.names.service();
    let of = |key| pair.service.get("Service", key);
    let mut lines = vec![format!("# MaxConnections= of {}, which is 64 unless set.", pair.names.socket())];
    let soft = concurrency(pair, listening, notes);
    let mut environment = |name: &str, value: &str| lines.push(format!("Environment=SOCKCAP_{name}={value}"));
    environment("MAX_CONNECTIONS", &soft.unwrap_or(listening.max_connections).to_string());
    if let Some(soft) = soft {
        environment("WHEN_FULL", "wait");
        environment("MAX_WAITING", &(listening.max_connections - soft).to_string());
    } else {
        environment("WHEN_FULL", "refuse");
    }
    if let Some(max) = listening.max_per_source {
        environment("MAX_PER_SOURCE", &max.to_string());
    }
    if listening.max_per_source.is_some() && listening.may_be_ipv6() {
        environment("SOURCE_PREFIX", "32,128");
        notes.say("each IPv6 address is a source, as before; one client may have all of a /64: SOCKCAP_SOURCE_PREFIX=32,64 counts them as one");
    }
    if let Some(backlog) = &listening.backlog {
        environment("BACKLOG", backlog);
    }
    if let Some(max) = of("RuntimeMaxSec").filter(|max| !max.is_empty() && *max != "infinity") {
        let ms = milliseconds(max).ok_or_else(|| format!("{service}: RuntimeMaxSec={max} is not a time"))?;
        environment("TIME_LIMIT", &span(ms));
    }
    let grace =
        of("TimeoutStopSec").or(of("TimeoutSec")).and_then(milliseconds).filter(|ms| *ms > 0).unwrap_or(KILL_GRACE);
    environment("DRAIN_TIMEOUT", &span(DRAIN_TIMEOUT));
    environment("KILL_GRACE", &span(grace));
    lines.push("# Above the sum of both.".into());
    lines.push(format!("TimeoutStopSec={}", span(DRAIN_TIMEOUT + grace + MARGIN)));
    lines.push("# A restart leaves commands and waiting clients to the next daemon.".into());
    let recipe = ["KillMode=process", "RestartKillSignal=SIGUSR1", "SuccessExitStatus=SIGUSR1"];
    lines.extend(recipe.map(String::from));
    lines.push(format!("FileDescriptorStoreMax={}", if soft.is_some() { 2048 } else { 64 }));
    lines.extend(["Restart=always", "RestartSec=1", "WatchdogSec=30s", "OOMPolicy=continue"].map(String::from));
    if !pair.is_user {
        let commands: i32 = of("OOMScoreAdjust").and_then(|score| score.parse().ok()).unwrap_or(0);
        lines.push(format!("# The score of a command is {ABOVE} above this."));
        lines.push(format!("OOMScoreAdjust={}", (commands.saturating_sub(ABOVE)).clamp(-1000, 1000)));
        lines.push("# A command has the first number, and sockcap the second.".into());
        lines.push(format!("LimitNOFILE={}", open_files(of("LimitNOFILE"))));
    }
    Ok(lines)
}

/// What a command had, and room for sockcap.
fn open_files(limit: Option<&str>) -> String {
    const ROOM: u64 = 16_384;
    let Some(limit) = limit else { return "1024:524288".to_owned() };
    let (soft, hard) = limit.split_once(':').unwrap_or((limit, limit));
    match hard.parse::<u64>() {
        Ok(hard) if hard < ROOM => format!("{soft}:{ROOM}"),
        _ => format!("{soft}:{hard}"),
    }
}

/// `ConcurrencySoftMax=` of the services' slice: so many run, and those up to `MaxConnections=` wait.
fn concurrency(pair: &Pair, listening: &Listening, notes: &mut Notes) -> Option<u64> {
    let slice = pair.slice.as_ref()?;
    let settings = slice.settings("Slice");
    let number = |name| settings.iter().rfind(|(key, _)| *key == name).and_then(|(_, value)| value.parse::<u64>().ok());
    let soft = number("ConcurrencySoftMax").filter(|soft| *soft > 0 && *soft < listening.max_connections);
    if let Some(soft) = soft {
        notes.say(format!(
            "ConcurrencySoftMax={soft} of the slice is SOCKCAP_MAX_CONNECTIONS with SOCKCAP_WHEN_FULL=wait: {} more clients wait, in their order",
            listening.max_connections - soft
        ));
    }
    if let Some(hard) = number("ConcurrencyHardMax") {
        notes.say(format!(
            "ConcurrencyHardMax={hard} of the slice counts services, which sockcap does not start: it has no effect"
        ));
    }
    let is_own = pair.service.get("Service", "Slice").is_none();
    let others: Vec<&str> =
        settings.iter().map(|(key, _)| *key).filter(|key| !key.starts_with("Concurrency")).collect();
    if is_own && !others.is_empty() {
        notes.say(format!(
            "{}= of the slice that systemd makes for {} is not taken over",
            others.join("=, "),
            pair.names.service()
        ));
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_have_room() {
        for (before, after) in [
            (None, "1024:524288"),
            (Some("512"), "512:16384"),
            (Some("100:70000"), "100:70000"),
            (Some("infinity"), "infinity:infinity"),
        ] {
            assert_eq!(open_files(before), after);
        }
    }
}
