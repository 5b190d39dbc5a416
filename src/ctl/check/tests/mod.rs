//! Each rule with a unit that breaks it and no other: rsync-capped as systemd 257 and sockcap show it, with one thing changed.
#![forbid(unsafe_code)]

mod cases;

use super::Paint;
use super::daemon::{Exec, Settings, assign};
use super::rule::Severity;
use super::rules::{Finding, all, judge};
use super::show::{Show, words};
use super::subject::{Running, Subject, Unit};
use super::text::Text;
use std::collections::BTreeSet;

/// A service that runs, with its socket.
pub(super) fn shipped() -> Subject {
    let unit = |name: &str, shown: &str, text: &str| Unit {
        name: name.to_owned(),
        show: Show::parse(shown),
        text: Text::parse(&format!("# /usr/lib/systemd/system/{name}\n{text}")),
    };
    let of_service = include_str!("../../../../units/rsync-capped.service");
    let of_socket = include_str!("../../../../units/rsync-capped.socket");
    let mut s = Subject {
        service: unit("rsync-capped.service", include_str!("service.show"), of_service),
        sockets: vec![unit("rsync-capped.socket", include_str!("socket.show"), of_socket)],
        settings: Some(Settings::parse(include_str!("settings.check"))),
        ..Subject::default()
    };
    assign(&mut s.variables, words(s.service.show.get("Environment")));
    s.variables.insert("SOCKCAP_CONTROL".to_owned(), "/run/sockcap/rsync-capped/control.sock".to_owned());
    s.machine.has_control_folder = true;
    s.machine.somaxconn = Some(4096);
    read(&mut s);
    s.running = Some(Running {
        exe: s.exec.path.clone(),
        words: Some(s.exec.words.clone()),
        variables: Some(s.variables.clone()),
        snapshot: None,
    });
    s
}

/// Reads `ExecStart=` again.
pub(super) fn read(s: &mut Subject) {
    s.exec = Exec::parse(&s.service.show, &s.service.text, &s.variables);
}

fn ids(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn a_good_unit_has_no_findings() {
    assert_eq!(judge(&shipped()), []);
}

#[test]
fn each_rule_has_a_unit_that_breaks_it_alone() {
    let mut seen = BTreeSet::new();
    for (id, change) in cases::ALL {
        let mut s = shipped();
        change(&mut s);
        let findings = judge(&s);
        assert_eq!(ids(&findings), [*id], "{findings:#?}");
        seen.insert(*id);
    }
    let rules: Vec<&str> = all().map(|rule| rule.id).collect();
    let unique: BTreeSet<&str> = rules.iter().copied().collect();
    assert_eq!(unique.len(), rules.len(), "a name is used twice: {rules:?}");
    let untested: Vec<_> = unique.difference(&seen).collect();
    assert!(untested.is_empty(), "no unit breaks {untested:?}");
}

/// What an option does for commands, a setting of the service need not do.
#[test]
fn options_take_the_place_of_settings() {
    let mut s = shipped();
    s.service.show.set("SyslogIdentifier", "");
    s.service.show.set("OOMScoreAdjust", "0");
    assert_eq!(ids(&judge(&s)), ["identifier", "oom-score"]);
    s.settings.as_mut().unwrap().set("stderr", "socket");
    s.variables.insert("SOCKCAP_OOM_SCORE_ADJUST".to_owned(), "100".to_owned());
    s.running = None;
    assert_eq!(ids(&judge(&s)), [] as [&str; 0]);
}

/// Of a service that is not there, only that is told; and a socket for questions has no clients who could keep a slot.
#[test]
fn nothing_is_made_up() {
    let mut s = shipped();
    s.service.show = Show::parse("LoadState=not-found\nKillMode=control-group\nNotifyAccess=none\n");
    assert_eq!(ids(&judge(&s)), ["load"]);

    let mut s = shipped();
    s.sockets[0].show.set("KeepAlive", "no");
    for (name, findings) in [("rsync", &["keep-alive"][..]), ("metrics", &[]), ("agent-check", &[]), ("varlink", &[])] {
        s.sockets[0].show.set("FileDescriptorName", name);
        assert_eq!(ids(&judge(&s)), findings, "{name}");
    }
}

/// A line says what is set, why it matters, and what to type.
#[test]
fn lines_say_what_to_write() {
    let mut s = shipped();
    s.service.show.set("KillMode", "control-group");
    s.service.show.set("StartLimitIntervalUSec", "10s");
    s.sockets[0].show.set("FlushPending", "yes");
    s.service.show.set("ActiveState", "inactive");
    s.sockets[0].show.set("ActiveState", "failed");
    s.sockets[0].show.set("Result", "trigger-limit-hit");
    let expected = "\
error: ActiveState=failed of rsync-capped.socket: clients are turned away by the kernel until somebody starts this socket again \
(result: trigger-limit-hit); run journalctl -u rsync-capped.socket; systemctl restart rsync-capped.socket [socket-failed]
error: KillMode=control-group: a restart, an upgrade or a crash ends every command; write KillMode=process in [Service]: \
systemctl edit rsync-capped.service [kill-mode]
warning: FlushPending=yes of rsync-capped.socket: whenever the service ends, systemd closes the connections of clients that wait \
in the queue; write FlushPending=no in [Socket]: systemctl edit rsync-capped.socket [flush-pending]
warning: StartLimitIntervalSec=10s: after 5 failed starts in this time the socket fails, too: an outage until somebody starts it; \
write StartLimitIntervalSec=0 in [Unit]: systemctl edit rsync-capped.service [start-limit]
";
    let findings = judge(&s);
    let report = super::report(&s, &findings, Paint::none());
    let (lines, summary) = report.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(format!("{lines}\n"), expected);
    let rules = all().count();
    let counts = format!("2 errors, 2 warnings, 0 notes of {rules} rules");
    assert_eq!(
        summary,
        format!("rsync-capped.service: {counts}; after an edit run systemctl restart rsync-capped.service")
    );
    let json = serde_json::to_value(&findings).unwrap();
    assert_eq!(json[1]["rule"], "kill-mode");
    assert_eq!((&json[1]["severity"], &json[1]["section"]), (&"error".into(), &"Service".into()));
    assert_eq!((&json[1]["setting"], &json[1]["value"]), (&"KillMode".into(), &"control-group".into()));
    assert_eq!(
        (&json[1]["write"], &json[1]["run"]),
        (&"KillMode=process".into(), &"systemctl edit rsync-capped.service".into())
    );
    assert_eq!(findings.iter().filter(|finding| finding.severity == Severity::Error).count(), 2);
}

/// What the documentation calls a rule is one.
#[test]
fn the_documentation_names_rules_that_there_are() {
    let text = include_str!("../../../../docs/troubleshooting.md");
    let lists = text.split("`check`: `").skip(1).map(|rest| rest.split(')').next().unwrap());
    let names: Vec<&str> = lists.flat_map(|list| list.split(", ")).map(|name| name.trim_matches('`')).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(all().any(|rule| rule.id == name), "no rule {name}");
    }
}
