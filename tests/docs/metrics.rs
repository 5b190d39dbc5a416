//! What pages, alerts and the dashboard say of metrics is what the code has.

use super::{pages, read};
use serde_json::Value;
use sockcap::observe::metrics::table::{Kind, METRICS, Metric};
use sockcap::policy::reason::Reason;

const FILES: [&str; 4] = ["alerts.yml", "alerts_test.yml", "prometheus.yml", "grafana.json"];

/// The page or file, and its text.
fn texts() -> Vec<(String, String)> {
    let examples = FILES.map(|file| format!("examples/monitoring/{file}"));
    // A query stands in JSON with its quotes escaped.
    let texts = examples.into_iter().map(|path| (path.clone(), read(&path).replace("\\\"", "\"")));
    texts.chain(pages()).collect()
}

/// The metric that this series belongs to.
fn metric_of(series: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| {
        let rest = series.strip_prefix(metric.full_name().as_str());
        match metric.kind {
            Kind::Histogram => rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest)),
            _ => rest == Some(""),
        }
    })
}

/// Each series that a text names, and what follows it.
fn series(text: &str) -> Vec<(&str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("sockcap_").map(|(at, _)| at).filter(|at| !text[..*at].ends_with(is_word));
    let split = |at: usize| text[at..].split_at(text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at));
    // `sockcap_*.deb` is none.
    starts.map(split).filter(|(name, _)| *name != "sockcap_").collect()
}

#[test]
fn every_series_that_is_named_exists_with_its_labels() {
    for (path, text) in texts() {
        for (name, after) in series(&text) {
            let metric = metric_of(name).unwrap_or_else(|| panic!("{path}: there is no {name}"));
            let Some(selector) = after.strip_prefix('{').and_then(|after| after.split('}').next()) else { continue };
            for (label, value) in selector.split(',').filter_map(|part| part.split_once('=')) {
                let label = label.trim();
                let is_target_s = matches!(label, "job" | "instance" | "unit");
                let is_bound = metric.kind == Kind::Histogram && label == "le";
                assert!(is_target_s || is_bound || metric.labels.contains(&label), "{path}: {name} has no {label}");
                if label == "reason" {
                    let reason = value.trim_matches(|c| "~\"".contains(c));
                    assert!(Reason::ALL.iter().any(|known| known.slug() == reason), "{path}: no reason {reason}");
                }
            }
        }
    }
}

#[test]
fn the_page_has_the_table_of_metrics() {
    let page = read("docs/watching.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `sockcap_")).collect();
    let expected = METRICS.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        format!("| `{}` | {kind} | {} | {} |", metric.full_name(), labels.join(", "), metric.help)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard: Value = serde_json::from_str(&read("examples/monitoring/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&Value> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| &row["title"]).collect();
    assert_eq!(rows, ["Now", "Burst", "Wait", "Trouble"]);
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let shown: Vec<&str> = queries.iter().flat_map(|query| series(query)).map(|(name, _)| name).collect();
    for metric in &METRICS {
        let is_shown = |name: &&str| metric_of(name).is_some_and(|other| std::ptr::eq(other, metric));
        assert!(shown.iter().any(is_shown), "no panel shows {}", metric.full_name());
    }
    // Whoever imports it is asked for the data source, and nothing names another.
    assert_eq!(dashboard["__inputs"][0]["name"], "DS_PROMETHEUS");
    let text = dashboard.to_string();
    assert_eq!(text.matches("\"datasource\":").count(), text.matches("\"uid\":\"${DS_PROMETHEUS}\"").count());
    // No two panels overlap, and each has an id of its own.
    let number = |panel: &Value, name: &str| panel["gridPos"][name].as_u64().unwrap();
    for (at, one) in panels.iter().enumerate() {
        for other in &panels[at + 1..] {
            assert_ne!(one["id"], other["id"]);
            let apart = |a: &Value, b: &Value| {
                number(a, "x") + number(a, "w") <= number(b, "x") || number(a, "y") + number(a, "h") <= number(b, "y")
            };
            assert!(apart(one, other) || apart(other, one), "{} and {} overlap", one["title"], other["title"]);
        }
    }
}

#[test]
fn the_picture_of_metrics_is_the_readme_s() {
    let (readme, svg) = (read("README.md"), read("benches/metrics.svg"));
    let about = svg.split("<desc id=\"about\">").nth(1).unwrap();
    // "128 scrapes while 40 clients come: 20 served, 20 refused, ..."
    let number = |what: &str| {
        let before = about.split(what).next().unwrap().trim_end();
        before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let [clients, served, refused] = ["clients come", "served", "refused"].map(number);
    assert_eq!(clients, served + refused);
    let alt = readme.split("](benches/metrics.svg)").next().unwrap().rsplit("![").next().unwrap();
    assert!(alt.contains(&format!("{clients} clients through a cap of 4")), "{alt}");
}
