//! The line of HAProxy's agent protocol (configuration.txt, "agent-check"), by which a load balancer learns how many connections fit here.
//!
//! It is always told in full, since HAProxy takes what is not said as unchanged. Never `maxconn:0`, which is no limit there; and never `down`
//! for overload, which would cut those who are served.
#![forbid(unsafe_code)]

use super::snapshot::{Phase, Snapshot};
use std::num::NonZeroU32;

/// What an agent check is answered, for one of `share` balancers that send connections here. Without a cap `maxconn` is left out, so that
/// the balancer's own holds.
pub fn line(snapshot: &Snapshot, share: NonZeroU32) -> String {
    let runtime = &snapshot.runtime;
    if runtime.phase != Phase::Running {
        return "up drain\n".to_owned();
    }
    let is_open = runtime.gates_closed.is_empty();
    // While a gate is closed, whoever ends makes room for nobody.
    let max = cap(snapshot).map(|cap| if is_open { cap } else { cap.min(runtime.active) });
    let weight = if is_open { 100 } else { 1 };
    match max {
        Some(max) => format!("up ready weight:{weight}% maxconn:{}\n", (max / share).max(1)),
        None => format!("up ready weight:{weight}%\n"),
    }
}

/// Commands that anybody's connections may have at once, if that is limited.
fn cap(snapshot: &Snapshot) -> Option<u32> {
    let limits = &snapshot.context.limits;
    let is_tried = |option: &str| snapshot.context.dry_run.iter().any(|name| name == option);
    let total = limits.max_connections.filter(|max| *max > 0 && !is_tried("max-connections"));
    let total = total.map(|max| max.saturating_sub(limits.reserved.unwrap_or(0)));
    let listeners = &snapshot.runtime.listeners;
    let is_each_limited = !listeners.is_empty() && listeners.iter().all(|listener| listener.max > 0);
    let by_listener = (is_each_limited && !is_tried("max-per-listener"))
        .then(|| listeners.iter().fold(0, |sum: u32, listener| sum.saturating_add(listener.max)));
    total.into_iter().chain(by_listener).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::snapshot::{Context, Limits, Listener, Runtime};

    fn snapshot(max: u32, reserved: u32, active: u32) -> Snapshot {
        let limits = Limits { max_connections: Some(max), reserved: Some(reserved), ..Limits::default() };
        Snapshot {
            context: Context { limits, ..Context::default() },
            runtime: Runtime { active, listeners: vec![Listener::default()], ..Runtime::default() },
        }
    }

    fn said(snapshot: &Snapshot, share: u32) -> String {
        line(snapshot, NonZeroU32::new(share).unwrap())
    }

    #[test]
    fn the_cap_is_told_less_what_is_reserved() {
        assert_eq!(said(&snapshot(8, 0, 3), 1), "up ready weight:100% maxconn:8\n");
        assert_eq!(said(&snapshot(8, 3, 8), 1), "up ready weight:100% maxconn:5\n");
        // 0 would be no limit.
        assert_eq!(said(&snapshot(1, 1, 0), 1), "up ready weight:100% maxconn:1\n");
        assert_eq!(said(&snapshot(1, 2, 0), 1), "up ready weight:100% maxconn:1\n");
        assert_eq!(said(&snapshot(u32::MAX, 0, 0), 1), "up ready weight:100% maxconn:4294967295\n");
    }

    #[test]
    fn each_balancer_is_told_its_share() {
        for (share, told) in [(1, 8), (2, 4), (3, 2), (8, 1), (9, 1), (u32::MAX, 1)] {
            assert_eq!(said(&snapshot(8, 0, 0), share), format!("up ready weight:100% maxconn:{told}\n"), "{share}");
        }
    }

    #[test]
    fn without_a_cap_the_balancer_s_own_holds() {
        let mut without = snapshot(0, 0, 9);
        assert_eq!(said(&without, 1), "up ready weight:100%\n");
        without.runtime.gates_closed = vec!["load".into()];
        assert_eq!(said(&without, 1), "up ready weight:1%\n");
        without.context.limits = Limits::default();
        assert_eq!(said(&without, 1), "up ready weight:1%\n");
        let mut tried = snapshot(8, 0, 0);
        tried.context.dry_run = vec!["max-connections".into()];
        assert_eq!(said(&tried, 1), "up ready weight:100%\n");
    }

    #[test]
    fn limits_of_all_listeners_are_a_cap() {
        let listeners =
            |limits: &[u32]| limits.iter().map(|max| Listener { max: *max, ..Listener::default() }).collect();
        let mut by_listener = snapshot(8, 0, 0);
        for (limits, told) in
            [(&[3, 4][..], 7), (&[8], 8), (&[9], 8), (&[3, 0], 8), (&[u32::MAX, u32::MAX], 8), (&[], 8)]
        {
            by_listener.runtime.listeners = listeners(limits);
            assert_eq!(said(&by_listener, 1), format!("up ready weight:100% maxconn:{told}\n"), "{limits:?}");
        }
        by_listener.runtime.listeners = listeners(&[3]);
        by_listener.context.limits.max_connections = Some(0);
        assert_eq!(said(&by_listener, 1), "up ready weight:100% maxconn:3\n");
        by_listener.context.dry_run = vec!["max-per-listener".into()];
        assert_eq!(said(&by_listener, 1), "up ready weight:100%\n");
    }

    #[test]
    fn behind_a_closed_gate_nobody_is_added() {
        for (active, share, told) in [(0, 1, 1), (1, 1, 1), (3, 1, 3), (9, 1, 8), (7, 2, 3), (1, 2, 1)] {
            let mut closed = snapshot(8, 0, active);
            closed.runtime.gates_closed = vec!["cpu".into(), "load".into()];
            assert_eq!(said(&closed, share), format!("up ready weight:1% maxconn:{told}\n"), "{active} of {share}");
        }
    }

    #[test]
    fn whoever_ends_takes_no_more_and_cuts_nobody() {
        for phase in [Phase::Draining, Phase::Drained, Phase::Stopping] {
            for max in [0, 8] {
                let mut ending = snapshot(max, 0, 3);
                ending.runtime.phase = phase;
                ending.runtime.gates_closed = vec!["load".into()];
                assert_eq!(said(&ending, 1), "up drain\n");
            }
        }
    }
}
