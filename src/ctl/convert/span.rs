//! Spans and sizes as systemd writes them (systemd.time(7), systemd.resource-control(5)).
#![forbid(unsafe_code)]

/// Units of time in milliseconds.
const UNITS: [(&[&str], f64); 9] = [
    (&["", "s", "sec", "second", "seconds"], 1e3),
    (&["us", "usec", "\u{b5}s", "\u{3bc}s"], 1e-3),
    (&["ms", "msec"], 1.0),
    (&["m", "min", "minute", "minutes"], 60e3),
    (&["h", "hr", "hour", "hours"], 3600e3),
    (&["d", "day", "days"], 86_400e3),
    (&["w", "week", "weeks"], 7.0 * 86_400e3),
    (&["M", "month", "months"], 30.44 * 86_400e3),
    (&["y", "year", "years"], 365.25 * 86_400e3),
];

/// A span in milliseconds; `None` is `infinity`, or what systemd would not understand either.
pub fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut is_any) = (text.trim(), 0.0, false);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(names, _)| names.contains(&&rest[..letters]))?;
        total += number * factor;
        rest = rest[letters..].trim_start();
        is_any = true;
    }
    (is_any && total < 3e14).then_some(total.round() as u64)
}

/// As sockcap and systemd both read it.
pub fn span(milliseconds: u64) -> String {
    match milliseconds {
        ms if ms % 1000 != 0 => format!("{ms}ms"),
        ms if ms % 60_000 != 0 || ms == 0 => format!("{}s", ms / 1000),
        ms => format!("{}min", ms / 60_000),
    }
}

/// A size or a count times so many; `None` for percentages and `infinity`.
pub fn times(text: &str, factor: u64) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let suffix = &text[digits..];
    let is_known = matches!(suffix, "" | "B" | "K" | "M" | "G" | "T" | "P" | "E");
    is_known.then_some(())?;
    number.checked_mul(factor).map(|product| format!("{product}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_systemd() {
        for (text, ms) in
            [("5", 5000), ("5min 20s", 320_000), ("1.5h", 5_400_000), ("10ms", 10), ("1h30m", 5_400_000), ("0", 0)]
        {
            assert_eq!(milliseconds(text), Some(ms), "{text}");
        }
        for bad in ["", "infinity", "5x", "s", "1..2s", "-1", "99999999999y"] {
            assert_eq!(milliseconds(bad), None, "{bad}");
        }
        assert_eq!([0, 10, 1000, 90_000, 300_000].map(span), ["0s", "10ms", "1s", "90s", "5min"]);
    }

    #[test]
    fn sizes_are_multiplied() {
        assert_eq!(times("64M", 64).as_deref(), Some("4096M"));
        assert_eq!(times("10", 3).as_deref(), Some("30"));
        for kept in ["infinity", "50%", "", "18446744073709551615", "1.5G"] {
            assert_eq!(times(kept, 2), None, "{kept}");
        }
    }
}
