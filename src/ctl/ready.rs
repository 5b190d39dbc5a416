//! `ready`: whether a client that comes now is taken. For probes.
#![forbid(unsafe_code)]

use super::ask;
use super::failure::Failure;
use super::globals::Globals;
use super::units;
use crate::observe::snapshot::{Phase, Snapshot};

/// # Errors
/// [`super::failure::Exit::Failed`] with one line why not.
pub fn run(unit: &str, globals: &Globals) -> Result<(), Failure> {
    let unit = units::named(unit, globals)?;
    if globals.json {
        ask::describe_as_json(&unit, true)?;
    }
    match why_not(&ask::describe(&unit)?) {
        None => Ok(()),
        Some(why) => Err(Failure::failed(format!("{} is not ready: {why}", unit.name))),
    }
}

/// Why nobody is taken who is no exception: limits on sources and rates are not looked at, since they depend on who comes.
fn why_not(snapshot: &Snapshot) -> Option<String> {
    let Snapshot { context, runtime } = snapshot;
    match runtime.phase {
        Phase::Running => {}
        Phase::Draining => return Some("a drain is about to begin".to_owned()),
        Phase::Drained => return Some("it is drained".to_owned()),
        Phase::Stopping => return Some("it is stopping".to_owned()),
        Phase::Other => return Some("it does what this sockcapctl does not know; use one of its version".to_owned()),
    }
    let is_tried = |option: &str| context.dry_run.iter().any(|name| name == option);
    let limits = &context.limits;
    let full = full(snapshot, &is_tried)?;
    if context.when_full != "wait" {
        return Some(full);
    }
    match limits.max_waiting.unwrap_or(0) {
        max if max > 0 && runtime.held >= max => Some(format!("{full}, and {}/{max} clients wait", runtime.held)),
        _ => None,
    }
}

/// Why no command would be started for anybody who came.
fn full(snapshot: &Snapshot, is_tried: &impl Fn(&str) -> bool) -> Option<String> {
    let Snapshot { context, runtime } = snapshot;
    let (max, reserved) = (context.limits.max_connections.unwrap_or(0), context.limits.reserved.unwrap_or(0));
    if max > 0 && runtime.active >= max.saturating_sub(reserved) && !is_tried("max-connections") {
        let reserved = if reserved > 0 { format!(", {reserved} reserved") } else { String::new() };
        return Some(format!("{}/{max} commands run{reserved}", runtime.active));
    }
    if runtime.active > 0 && !runtime.gates_closed.is_empty() {
        return Some(format!("it is held back by {}", runtime.gates_closed.join(", ")));
    }
    let listeners = &runtime.listeners;
    let is_full = !listeners.is_empty() && listeners.iter().all(|one| one.max > 0 && one.active >= one.max);
    (is_full && !is_tried("max-per-listener")).then(|| "every listener is at its limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Context, Limits, Listener, Runtime};

    #[test]
    fn who_comes_now_is_taken_or_not() {
        let limits = Limits { max_connections: Some(4), reserved: Some(1), max_waiting: Some(2), ..Limits::default() };
        let mut it = Snapshot {
            context: Context { limits, when_full: "refuse".into(), ..Context::default() },
            runtime: Runtime { active: 2, ..Runtime::default() },
        };
        let why = |it: &Snapshot| why_not(it).unwrap_or_default();
        assert_eq!(why(&it), "");
        it.runtime.active = 3;
        assert_eq!(why(&it), "3/4 commands run, 1 reserved");
        it.context.dry_run = vec!["max-connections".into()];
        assert_eq!(why(&it), "");
        it.context.dry_run.clear();
        it.context.when_full = "wait".into();
        assert_eq!(why(&it), "");
        it.runtime.held = 2;
        assert_eq!(why(&it), "3/4 commands run, 1 reserved, and 2/2 clients wait");
        it.context.limits.max_waiting = Some(0);
        assert_eq!(why(&it), "");
        it.runtime.phase = Phase::Draining;
        assert_eq!(why_not(&it).as_deref(), Some("a drain is about to begin"));
        it.runtime.phase = Phase::Drained;
        assert_eq!(why(&it), "it is drained");
        it.runtime.phase = Phase::Stopping;
        assert_eq!(why(&it), "it is stopping");
    }

    #[test]
    fn gates_and_listeners() {
        let mut it =
            Snapshot { context: Context { when_full: "refuse".into(), ..Context::default() }, ..Snapshot::default() };
        it.runtime.gates_closed = vec!["cpu".into()];
        assert_eq!(why_not(&it), None, "the first one is always started");
        it.runtime.active = 1;
        assert_eq!(why_not(&it).as_deref(), Some("it is held back by cpu"));
        it.runtime.gates_closed.clear();
        let listener = |active, max| Listener { active, max, ..Listener::default() };
        it.runtime.listeners = vec![listener(2, 2), listener(0, 0)];
        assert_eq!(why_not(&it), None);
        it.runtime.listeners = vec![listener(2, 2), listener(3, 3)];
        assert_eq!(why_not(&it).as_deref(), Some("every listener is at its limit"));
    }
}
