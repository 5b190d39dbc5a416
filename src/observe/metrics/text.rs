//! Prometheus' two text formats, of one table. They differ where counters are named, in units, in the end mark and in `le`.
//!
//! OpenMetrics 1.0: <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Text 0.0.4, which is all that node_exporter's directory of
//! text files understands: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
#![forbid(unsafe_code)]

use super::table::{Kind, METRICS, Metric, Row, Value};
use crate::observe::snapshot::{Histogram, Snapshot};
use std::collections::HashSet;
use std::fmt::{self, Display, Write};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text004,
}

impl Dialect {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Dialect::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Dialect::Text004 => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a client that sends this `Accept` header is best served with: OpenMetrics only if it is named, with no less weight than text.
pub fn dialect(accept: &str) -> Dialect {
    let (mut open_metrics, mut text, mut anything) = (0.0, None::<f64>, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let value = |name: &str| {
            parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
        };
        let weight = value("q").map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0));
        match kind.as_str() {
            "application/openmetrics-text"
                if value("version").is_none_or(|version| version.trim_matches('"') == "1.0.0") =>
            {
                open_metrics = weight.max(open_metrics);
            }
            "text/plain" => text = Some(weight.max(text.unwrap_or(0.0))),
            "text/*" | "*/*" => anything = weight.max(anything),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text.unwrap_or(anything) { Dialect::OpenMetrics } else { Dialect::Text004 }
}

/// All metrics of these daemons, each of which has a unit of its own. A series that comes twice, as only a daemon that does not play by the
/// rules has it, is written once: with two of one, nobody would read the page, and the others' metrics would be lost.
pub fn write(snapshots: &[Snapshot], dialect: Dialect) -> String {
    // A daemon with one listener comes to about 10 KiB.
    let mut out = String::with_capacity(snapshots.len() * 12 * 1024);
    for metric in &METRICS {
        let mut has_head = false;
        for snapshot in snapshots {
            let mut seen = HashSet::new();
            for row in (metric.rows)(snapshot) {
                if !seen.insert(row.labels.clone()) {
                    continue;
                }
                if !has_head {
                    has_head = true;
                    head(&mut out, metric, dialect);
                }
                sample(&mut out, metric, snapshot, &row, dialect);
            }
        }
    }
    if dialect == Dialect::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

// Writing to a String cannot fail, here and below.
fn head(out: &mut String, metric: &Metric, dialect: Dialect) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let (full, help) = (metric.full_name(), metric.help);
    match dialect {
        Dialect::OpenMetrics => {
            let family = full.strip_suffix("_total").unwrap_or(&full);
            let _ = writeln!(out, "# TYPE {family} {kind}");
            if let Some(unit) = metric.unit() {
                let _ = writeln!(out, "# UNIT {family} {unit}");
            }
            let _ = writeln!(out, "# HELP {family} {help}.");
        }
        Dialect::Text004 => {
            let _ = writeln!(out, "# HELP {full} {help}.\n# TYPE {full} {kind}");
        }
    }
}

fn sample(out: &mut String, metric: &Metric, snapshot: &Snapshot, row: &Row, dialect: Dialect) {
    let name = metric.full_name();
    let mut labels = format!("unit=\"{}\"", Escaped(&snapshot.context.unit));
    for (label, value) in metric.labels.iter().zip(&row.labels) {
        let _ = write!(labels, ",{label}=\"{}\"", Escaped(value));
    }
    let _ = match row.value {
        Value::Count(count) => writeln!(out, "{name}{{{labels}}} {count}"),
        Value::Usec(usec) => writeln!(out, "{name}{{{labels}}} {}", Seconds(usec)),
        Value::Histogram(times) => histogram(out, &name, &labels, times, dialect),
    };
}

fn histogram(out: &mut String, name: &str, labels: &str, times: &Histogram, dialect: Dialect) -> fmt::Result {
    let mut so_far = 0u64;
    for (bound, count) in times.bounds_usec.iter().zip(&times.counts) {
        so_far = so_far.saturating_add(*count);
        // OpenMetrics has one way to write a number in `le`, since it is a string to compare.
        let decimal = if dialect == Dialect::OpenMetrics && bound % 1_000_000 == 0 { ".0" } else { "" };
        writeln!(out, "{name}_bucket{{{labels},le=\"{}{decimal}\"}} {so_far}", Seconds(*bound))?;
    }
    let all = times.counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}")?;
    writeln!(out, "{name}_sum{{{labels}}} {}", Seconds(times.sum_usec))?;
    writeln!(out, "{name}_count{{{labels}}} {all}")
}

/// Microseconds, as exact seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        match rest {
            0 => write!(f, "{whole}"),
            _ => f.write_str(format!("{whole}.{rest:06}").trim_end_matches('0')),
        }
    }
}

/// A value of a label, with nothing in it that a terminal would obey.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
