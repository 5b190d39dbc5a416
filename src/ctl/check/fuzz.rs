//! What systemd and sockcap say of a unit, whatever that is.
#![forbid(unsafe_code)]

use super::daemon::{Exec, Settings, assign, environment_file};
use super::output::Paint;
use super::rules::judge;
use super::show::{Show, words};
use super::subject::{Running, Subject, Unit};
use super::text::Text;

/// A unit that is as it should be.
fn good() -> Subject {
    let unit = |name: &str, show: &str| Unit { name: name.into(), show: Show::parse(show), ..Unit::default() };
    Subject {
        service: unit("a.service", include_str!("tests/service.show")),
        sockets: vec![unit("a.socket", include_str!("tests/socket.show"))],
        settings: Some(Settings::parse(include_str!("tests/settings.check"))),
        ..Subject::default()
    }
}

/// `SERVICE FF SOCKET FF FILE FF SETTINGS FF ENVIRONMENT`: what `systemctl show`, `systemctl cat` and `sockcap --check` print, where it
/// is another than that of a good unit.
pub(crate) fn shown(data: &[u8]) {
    thread_local!(static GOOD: Subject = good());
    let texts: Vec<_> = data.split(|byte| *byte == 0xff).map(String::from_utf8_lossy).collect();
    let text = |nth: usize| texts.get(nth).map_or("", |text| text.as_ref());
    let mut s = GOOD.with(Subject::clone);
    let change = |unit: &mut Unit, shown: &str| {
        shown.lines().filter_map(|line| line.split_once('=')).for_each(|(name, value)| unit.show.set(name, value));
        unit.text = Text::parse(text(2));
    };
    change(&mut s.service, text(0));
    change(&mut s.sockets[0], text(1));
    let settings = s.settings.get_or_insert_default();
    text(3).lines().filter_map(|line| line.split_once(' ')).for_each(|(name, value)| settings.set(name, value));
    assign(&mut s.variables, words(s.service.show.get("Environment")));
    assign(&mut s.variables, environment_file(text(4)));
    s.exec = Exec::parse(&s.service.show, &s.service.text, &s.variables);
    let running = Running { exe: s.exec.path.clone(), words: Some(s.exec.words.clone()), ..Running::default() };
    for running in [None, Some(running)] {
        s.running = running;
        let findings = judge(&s);
        let report = super::report(&s, &findings, Paint::none());
        assert_eq!(report.lines().count(), findings.len() + 1, "{report:?}");
        assert!(!report.replace('\n', "").contains(char::is_control), "{report:?}");
        for finding in &findings {
            let is_told = finding.write.is_some() || finding.what.is_some() || finding.run.is_some();
            assert!(is_told && !finding.why.is_empty(), "{finding:?}");
        }
    }
}
