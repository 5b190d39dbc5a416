//! `--isolate=cgroup`: what the manager has to leave to the service.
#![forbid(unsafe_code)]

use crate::ctl::check::rule::Severity::Error;
use crate::ctl::check::rule::{Hit, Rule, rule};
use crate::ctl::check::subject::Subject;

/// Options that need a controller.
const LIMITS: [&str; 6] = ["memory-max", "memory-high", "tasks-max", "cpu-weight", "cpu-max", "io-weight"];

fn is_set(s: &Subject, option: &str) -> bool {
    s.settings.as_ref().is_some_and(|settings| !settings.get(option).is_empty())
}

/// Whether there is no start without a cgroup for each connection.
fn needs_cgroups(s: &Subject) -> bool {
    s.settings.as_ref().is_some_and(|settings| settings.get("isolate").contains("needs Delegate"))
}

pub(super) const RULES: &[Rule] = &[
    rule("delegate", Error, "the service does not start: it has no cgroups to give to connections", |s| {
        let is_delegated = s.service.show.is_on("Delegate");
        Hit::service(&s.service, "Delegate", "no", "Delegate=yes").when(needs_cgroups(s) && !is_delegated)
    }),
    rule("control-groups", Error, "the service does not start: it may not make cgroups for connections", |s| {
        let value = s.service.show.get("ProtectControlGroups");
        let hit = Hit::service(&s.service, "ProtectControlGroups", value, "ProtectControlGroups=no");
        hit.when(needs_cgroups(s) && !matches!(value, "no" | ""))
    }),
    rule(
        "delegate-subgroup",
        Error,
        "after a crash no daemon can be started beside commands that run: the kernel lets nobody into a cgroup with limits below it",
        |s| {
            let has_limits = LIMITS.into_iter().any(|option| is_set(s, option));
            let makes_way = s.service.show.all("ExecStopPost").iter().any(|line| line.contains("subtree_control"));
            let has_subgroup = !s.service.show.get("DelegateSubgroup").is_empty();
            let line = "DelegateSubgroup=daemon (before systemd 254: ExecStopPost= as in options.md)";
            Hit::service(&s.service, "DelegateSubgroup", "", line)
                .when(needs_cgroups(s) && has_limits && !makes_way && !has_subgroup)
        },
    ),
];
