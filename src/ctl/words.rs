//! Numbers as people read them: spans, bars, points in time, tables.
#![forbid(unsafe_code)]

use super::output::visible;
use crate::observe::snapshot::Count;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `3min 12s`: two units at most, as systemd writes them, and rounded down.
pub fn span(usec: u64) -> String {
    const SECOND: u64 = 1_000_000;
    const UNITS: [(u64, &str); 6] =
        [(86_400 * SECOND, "d"), (3_600 * SECOND, "h"), (60 * SECOND, "min"), (SECOND, "s"), (1_000, "ms"), (1, "us")];
    let Some(first) = UNITS.iter().position(|(unit, _)| usec >= *unit) else { return "0".to_owned() };
    let (large, name) = UNITS[first];
    let mut out = format!("{}{name}", usec / large);
    // Nobody wants 12s 345ms.
    let next = UNITS.get(first + 1).filter(|(small, _)| *small >= SECOND && usec % large >= *small);
    if let Some((small, name)) = next {
        let _ = write!(out, " {}{name}", usec % large / small); // writing to a String cannot fail
    }
    out
}

/// Microseconds since 1970.
pub fn now_usec() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// `2026-11-29 10:00:00 UTC`
pub fn date(usec: u64) -> String {
    const LAST: u64 = 253_402_300_799; // of the year 9999, beyond which humantime panics
    let at = UNIX_EPOCH + Duration::from_secs((usec / 1_000_000).min(LAST));
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', " UTC")
}

/// `[#####-----]`: any at all is one mark, and only what is full has all.
pub fn bar(part: u64, whole: u64, width: usize) -> String {
    let scaled = (u128::from(part) * width as u128).checked_div(whole.into()).unwrap_or(0) as usize;
    let marks = scaled.max(usize::from(part > 0)).min(width);
    format!("[{}{}]", "#".repeat(marks), "-".repeat(width - marks))
}

/// `17: 12 total-limit, 5 waited-too-long`, those with most first; `0` if there is none.
pub fn counts(all: &[Count]) -> String {
    let mut some: Vec<_> = all.iter().filter(|count| count.count > 0).collect();
    some.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    let each: Vec<_> = some.iter().map(|count| format!("{} {}", count.count, visible(&count.name))).collect();
    match each.is_empty() {
        true => "0".to_owned(),
        false => format!("{}: {}", sum(all), each.join(", ")),
    }
}

/// Each once, in their order.
pub fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Of all names together.
pub fn sum(all: &[Count]) -> u64 {
    all.iter().fold(0, |sum, count| sum.saturating_add(count.count))
}

/// Rows below a header, in columns as wide as what is in them.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Narrowest column that is cut.
const NARROW: usize = 8;

impl Table {
    /// A name that begins with `>` is of a column of numbers, which is flush right.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells.iter().map(|cell| visible(cell)).collect());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, the header first. Where there is a width, the widest columns of text are cut until all fit.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let names: Vec<String> = self.header.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        let length = |cell: &String| cell.chars().count();
        let mut widths: Vec<usize> = names.iter().map(length).collect();
        for row in &self.rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = length(cell).max(*width));
        }
        while width.is_some_and(|most| widths.iter().sum::<usize>() + 2 * (widths.len() - 1) > most) {
            let of_text = widths.iter_mut().zip(&self.header).filter(|(_, name)| !name.starts_with('>'));
            match of_text.map(|(width, _)| width).max().filter(|width| **width > NARROW) {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        std::iter::once(&names).chain(&self.rows).map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for ((cell, width), name) in row.iter().zip(widths).zip(&self.header) {
            let cell = match cell.chars().count() > *width {
                true => cell.chars().take(width - 1).chain(['~']).collect(),
                false => cell.clone(),
            };
            let _ = match name.starts_with('>') {
                true => write!(out, "{cell:>width$}  "),
                false => write!(out, "{cell:<width$}  "),
            };
        }
        out.truncate(out.trim_end().len());
        out
    }

    /// The lines as one text.
    pub fn text(&self, width: Option<usize>) -> String {
        self.lines(width).join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let second = 1_000_000;
        for (usec, expected) in [
            (0, "0"),
            (999, "999us"),
            (350_999, "350ms"),
            (12 * second + 345_000, "12s"),
            (60 * second, "1min"),
            (192 * second, "3min 12s"),
            (3_600 * second + 59 * second, "1h"),
            (7_500 * second, "2h 5min"),
            (86_400 * second * 3 + 3_600 * second * 4, "3d 4h"),
        ] {
            assert_eq!(span(usec), expected);
        }
        assert!(span(u64::MAX).ends_with('h'));
    }

    #[test]
    fn points_in_time() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(1_795_946_400_000_000), "2026-11-29 10:00:00 UTC");
        assert_eq!(date(u64::MAX), "9999-12-31 23:59:59 UTC");
    }

    #[test]
    fn bars() {
        for (part, whole, expected) in
            [(0, 10, "[----------]"), (5, 10, "[#####-----]"), (1, 1000, "[#---------]"), (999, 1000, "[#########-]")]
        {
            assert_eq!(bar(part, whole, 10), expected);
        }
        assert_eq!(
            (bar(12, 10, 4), bar(u64::MAX, u64::MAX, 2), bar(3, 0, 2)),
            ("[####]".into(), "[##]".into(), "[#-]".into())
        );
    }

    #[test]
    fn tables_fit() {
        let mut table = Table::new(&[">ID", "SOURCE", "LISTENER"]);
        table.row(vec!["7".into(), "192.0.2.1".into(), "rsync".into()]);
        table.row(vec!["12345".into(), "fe80::1".into(), format!("{}\x1b", "x".repeat(100))]);
        assert_eq!(table.lines(None)[1], "    7  192.0.2.1  rsync");
        let lines = table.lines(Some(40));
        assert_eq!(lines[0], "   ID  SOURCE     LISTENER");
        assert_eq!(lines[2], format!("12345  fe80::1    {}~", "x".repeat(21)));
        assert!(table.lines(Some(3)).iter().all(|line| line.contains("  ")), "what cannot be cut stays");
    }

    #[test]
    fn counts_have_most_first() {
        let count = |name: &str, count| Count { name: name.into(), count };
        assert_eq!(counts(&[count("a", 1), count("b", 0), count("c", 3)]), "4: 3 c, 1 a");
        assert_eq!(counts(&[count("a", 0)]), "0");
    }
}
