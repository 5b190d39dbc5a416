//! The table and both formats, over snapshots made by hand.
#![forbid(unsafe_code)]

use super::table::{METRICS, Value};
use super::*;
use crate::observe::snapshot::{Count, Histogram, Listener, Phase};
use crate::policy::reason::Reason;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn counts(counts: &[(&str, u64)]) -> Vec<Count> {
    counts.iter().map(|(name, count)| Count { name: (*name).to_owned(), count: *count }).collect()
}

/// A daemon with two listeners, and a command of neither.
fn busy() -> Snapshot {
    let mut s = Snapshot::default();
    s.context.version = "0.1.0".to_owned();
    s.context.unit = "rsync-capped.service".to_owned();
    s.context.limits.max_connections = Some(4);
    s.context.limits.max_waiting = Some(0);
    s.context.limits.max_wait_usec = Some(30_000_000);
    s.runtime.started_usec = 1_764_412_800_250_000;
    (s.runtime.accepted, s.runtime.served, s.runtime.gone) = (20, 9, 1);
    (s.runtime.active, s.runtime.held, s.runtime.queued) = (4, 1, 7);
    s.runtime.oldest_wait_usec = Some(1_500_000);
    s.runtime.refused = counts(&[("total-limit", 4), ("stopping", 1)]);
    s.runtime.ended = counts(&[("ok", 8), ("signal", 1)]);
    s.runtime.gates_closed = vec!["memory".to_owned()];
    s.runtime.session_times = Histogram {
        name: String::new(),
        bounds_usec: vec![10_000, 1_000_000],
        counts: vec![2, 3, 4],
        sum_usec: 12_345_678,
    };
    s.runtime.listeners = vec![
        Listener {
            label: "rsync".to_owned(),
            max: 3,
            active: 2,
            held: 1,
            queued: Some(7),
            accepted: 12,
            served: 5,
            gone: 1,
            refused: counts(&[("total-limit", 3)]),
            is_paused: true,
            ..Listener::default()
        },
        Listener {
            label: "rsync:2".to_owned(),
            active: 1,
            accepted: 7,
            served: 4,
            refused: counts(&[("total-limit", 1), ("stopping", 1)]),
            ..Listener::default()
        },
    ];
    s
}

fn has(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|there| there == *line), "{line} is not in:\n{page}");
    }
}

#[test]
fn open_metrics_names_families_and_ends_with_a_mark() {
    let page = write(&[busy()], Dialect::OpenMetrics);
    has(
        &page,
        &[
            "# TYPE sockcap_connections_accepted counter",
            "sockcap_connections_accepted_total{unit=\"rsync-capped.service\",listener=\"rsync:2\"} 7",
            "# UNIT sockcap_session_seconds seconds",
            "sockcap_session_seconds_bucket{unit=\"rsync-capped.service\",le=\"0.01\"} 2",
            "sockcap_session_seconds_bucket{unit=\"rsync-capped.service\",le=\"1.0\"} 5",
            "sockcap_session_seconds_bucket{unit=\"rsync-capped.service\",le=\"+Inf\"} 9",
            "sockcap_session_seconds_sum{unit=\"rsync-capped.service\"} 12.345678",
            "sockcap_session_seconds_count{unit=\"rsync-capped.service\"} 9",
            "sockcap_start_time_seconds{unit=\"rsync-capped.service\"} 1764412800.25",
        ],
    );
    assert!(page.ends_with("\n# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
}

#[test]
fn text_004_names_series() {
    let page = write(&[busy()], Dialect::Text004);
    has(
        &page,
        &[
            "# TYPE sockcap_connections_accepted_total counter",
            "sockcap_connections_accepted_total{unit=\"rsync-capped.service\",listener=\"rsync\"} 12",
            "sockcap_session_seconds_bucket{unit=\"rsync-capped.service\",le=\"1\"} 5",
            "sockcap_oldest_wait_seconds{unit=\"rsync-capped.service\"} 1.5",
            "sockcap_gate_closed{unit=\"rsync-capped.service\",gate=\"memory\"} 1",
            "sockcap_gate_closed{unit=\"rsync-capped.service\",gate=\"load\"} 0",
            "sockcap_listener_paused{unit=\"rsync-capped.service\",listener=\"rsync\"} 1",
            "sockcap_commands_ended_total{unit=\"rsync-capped.service\",result=\"oom\"} 0",
            "sockcap_draining{unit=\"rsync-capped.service\"} 0",
        ],
    );
    assert!(!page.contains("# UNIT") && !page.contains("# EOF"), "{page}");
}

#[test]
fn what_is_no_limit_has_no_row() {
    let page = write(&[busy()], Dialect::Text004);
    let limits: Vec<&str> = page.lines().filter(|line| line.contains("_limit") && !line.starts_with('#')).collect();
    let unit = "unit=\"rsync-capped.service\"";
    assert_eq!(
        limits,
        [
            format!("sockcap_connections_limit{{{unit},limit=\"total\",listener=\"\"}} 4"),
            format!("sockcap_connections_limit{{{unit},limit=\"listener\",listener=\"rsync\"}} 3"),
            format!("sockcap_wait_limit_seconds{{{unit}}} 30"),
            format!("sockcap_source_table_limit{{{unit}}} 0"),
        ]
    );
}

#[test]
fn both_dialects_have_the_same_values() {
    let values = |dialect| {
        let page = write(&[busy(), Snapshot::default()], dialect);
        let samples = page.lines().filter(|line| !line.starts_with('#')).map(|line| line.replace(".0\"}", "\"}"));
        samples.collect::<Vec<_>>()
    };
    assert_eq!(values(Dialect::OpenMetrics), values(Dialect::Text004));
}

#[test]
fn a_family_stands_together_however_many_units() {
    let mut other = busy();
    other.context.unit = "git-capped.service".to_owned();
    for dialect in [Dialect::OpenMetrics, Dialect::Text004] {
        let page = write(&[busy(), other.clone()], dialect);
        let (mut heads, mut samples) = (BTreeSet::new(), BTreeSet::new());
        let mut family = String::new();
        for line in page.lines().filter(|line| *line != "# EOF") {
            if let Some(type_line) = line.strip_prefix("# TYPE ") {
                family = type_line.split(' ').next().unwrap().to_owned();
                assert!(heads.insert(family.clone()), "twice: {line}");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} is not below {family}");
                let series = line.rsplit_once(' ').unwrap().0;
                assert!(samples.insert(series.to_owned()), "twice: {series}");
            }
        }
        assert!(samples.iter().any(|series| series.contains("git-capped")));
    }
}

#[test]
fn without_snapshots_a_page_is_empty() {
    assert_eq!(write(&[], Dialect::Text004), "");
    assert_eq!(write(&[], Dialect::OpenMetrics), "# EOF\n");
}

#[test]
fn labels_cannot_break_a_line() {
    let mut s = busy();
    s.context.unit = "a\"b\\c\nd.service".to_owned();
    let page = write(&[s], Dialect::Text004);
    assert!(page.contains("sockcap_draining{unit=\"a\\\"b\\\\c\\nd.service\"} 0\n"), "{page}");
}

/// Numbers and names of another process: nothing in them spoils the page.
#[test]
fn a_series_is_written_once() {
    let mut odd = busy();
    odd.runtime.listeners[1].label = "rsync".to_owned();
    odd.runtime.listeners[1].accepted = u64::MAX;
    odd.context.unit = "\x1b[2J\u{9b}".to_owned();
    odd.runtime.refused = counts(&[("total-limit", u64::MAX), ("total-limit", 1)]);
    for dialect in [Dialect::OpenMetrics, Dialect::Text004] {
        let page = write(std::slice::from_ref(&odd), dialect);
        assert!(page.contains("\u{fffd}[2J") && !page.contains(['\x1b', '\u{9b}']), "{page}");
        let mut series = BTreeSet::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(series.insert(line.rsplit_once(' ').unwrap().0), "{line}");
        }
    }
}

#[test]
fn names_follow_the_rules() {
    let mut names = BTreeSet::new();
    for metric in &METRICS {
        let full = metric.full_name();
        assert!(metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{full}");
        assert!(!metric.name.ends_with("_total") && !metric.name.ends_with("_count"), "{full}");
        assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{full}");
        assert!(!metric.help.contains(['\\', '\n', '"']), "{full}: would have to be escaped");
        assert!(!metric.labels.contains(&"unit") && !metric.labels.contains(&"le"), "{full}");
        assert!(names.insert(full));
        for row in (metric.rows)(&busy()) {
            assert_eq!(row.labels.len(), metric.labels.len(), "{}", metric.name);
            let is_time = matches!(row.value, Value::Usec(_) | Value::Histogram(_));
            assert_eq!(is_time, metric.unit() == Some("seconds"), "{}", metric.name);
        }
    }
}

/// An alert on a rate cannot see a counter that begins with 1.
#[test]
fn a_counter_of_known_names_begins_with_0() {
    let mut s = Snapshot::default();
    s.runtime.would_refuse = counts(&[("rate", 0)]);
    let page = write(&[s], Dialect::Text004);
    for reason in Reason::ALL {
        has(
            &page,
            &[&format!("sockcap_connections_refused_total{{unit=\"\",listener=\"\",reason=\"{}\"}} 0", reason.slug())],
        );
    }
    has(&page, &["sockcap_connections_accepted_total{unit=\"\",listener=\"\"} 0"]);
    assert!(!page.contains("would_refuse"), "{page}");
    let mut tried = Snapshot::default();
    tried.context.dry_run = vec!["max-rate".to_owned()];
    let page = write(&[tried], Dialect::Text004);
    has(&page, &["sockcap_connections_would_refuse_total{unit=\"\",reason=\"rate\"} 0"]);
}

#[test]
fn a_newer_daemon_s_reason_has_its_row() {
    let mut s = busy();
    s.runtime.refused.push(Count { name: "full-moon".to_owned(), count: 3 });
    let page = write(&[s], Dialect::Text004);
    let row = "sockcap_connections_refused_total{unit=\"rsync-capped.service\",listener=\"\",reason=\"full-moon\"} 3";
    has(&page, &[row]);
}

#[test]
fn draining_is_also_stopping() {
    for (phase, draining) in [(Phase::Running, 0), (Phase::Draining, 1), (Phase::Drained, 1), (Phase::Stopping, 1)] {
        let mut s = Snapshot::default();
        s.runtime.phase = phase;
        has(&write(&[s], Dialect::Text004), &[&format!("sockcap_draining{{unit=\"\"}} {draining}")]);
    }
}

#[test]
fn a_client_gets_the_format_that_it_asks_for() {
    let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                        text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let protobuf_first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                          application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for accept in [
        prometheus_2,
        prometheus_3,
        protobuf_first,
        "Application/OpenMetrics-Text",
        "application/openmetrics-text; version=\"1.0.0\"",
    ] {
        assert_eq!(dialect(accept), Dialect::OpenMetrics, "{accept}");
    }
    for accept in [
        "",
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=much",
        ",;,=;q",
    ] {
        assert_eq!(dialect(accept), Dialect::Text004, "{accept}");
    }
}

#[test]
fn only_a_request_for_the_metrics_asks_for_a_snapshot() {
    let text = |request: &str, snapshot: fn() -> Snapshot| {
        String::from_utf8(answer(request.as_bytes(), snapshot).unwrap()).unwrap()
    };
    let nobody = || panic!("nothing is to be read");
    assert_eq!(answer(b"GET /metrics HTTP/1.1\r\nHost: a\r\n", nobody), None);
    assert!(text("GET / HTTP/1.0\r\n\r\n", nobody).starts_with("HTTP/1.1 404 "));
    assert!(text("GET /metrics/ HTTP/1.0\r\n\r\n", nobody).starts_with("HTTP/1.1 404 "));
    assert!(text("POST /metrics HTTP/1.0\r\n\r\n", nobody).starts_with("HTTP/1.1 405 "));
    let plain = text("GET /metrics HTTP/1.0\r\n\r\n", busy);
    assert!(plain.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    assert!(plain.ends_with(&write(&[busy()], Dialect::Text004)), "{plain}");
    let open = text("GET /metrics?x HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n", busy);
    assert!(
        open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{open}"
    );
    assert!(open.ends_with("\n# EOF\n"), "{open}");
}

fn listener() -> impl Strategy<Value = Listener> {
    (0u64..9, 0u64..9, 0u32..9, 0u64..9).prop_map(|(accepted, served, active, refused)| Listener {
        accepted,
        served,
        active,
        refused: counts(&[("total-limit", refused), ("rate", refused / 2)]),
        ..Listener::default()
    })
}

proptest! {
    /// Rows add up to what the daemon counts in total.
    #[test]
    fn rows_by_listener_add_up(listeners in proptest::collection::vec(listener(), 0..4), elsewhere in 0u64..5) {
        let mut s = Snapshot::default();
        let of_reason = |listener: &Listener, at: usize| listener.refused[at].count;
        s.runtime.accepted = listeners.iter().map(|l| l.accepted).sum::<u64>() + elsewhere;
        s.runtime.served = listeners.iter().map(|l| l.served).sum::<u64>() + elsewhere;
        s.runtime.active = listeners.iter().map(|l| l.active).sum::<u32>() + elsewhere as u32;
        let full = listeners.iter().map(|l| of_reason(l, 0)).sum::<u64>() + elsewhere;
        let rate = listeners.iter().map(|l| of_reason(l, 1)).sum::<u64>();
        s.runtime.refused = counts(&[("total-limit", full), ("rate", rate)]);
        s.runtime.listeners = listeners;
        let sum = |name: &str| {
            let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
            let values = (metric.rows)(&s).into_iter().map(|row| match row.value {
                Value::Count(count) => count,
                _ => unreachable!("a count"),
            });
            values.sum::<u64>()
        };
        prop_assert_eq!(sum("connections_accepted"), s.runtime.accepted);
        prop_assert_eq!(sum("connections_served"), s.runtime.served);
        prop_assert_eq!(sum("connections_active"), u64::from(s.runtime.active));
        prop_assert_eq!(sum("connections_refused"), full + rate);
    }
}
