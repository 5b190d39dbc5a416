//! What somebody who asks for metrics is answered, read again by the rules of its format.
#![forbid(unsafe_code)]

use super::http;
use super::metrics::{self, Dialect};
use super::snapshot::Snapshot;
use std::collections::HashSet;

/// A response of HTTP/1.1, with all that it says of itself: its status, and its body.
pub(crate) fn assert_response(response: &[u8], is_head: bool) -> (&str, &str) {
    let text = std::str::from_utf8(response).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).unwrap();
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    assert!(fields.iter().all(|(name, value)| !format!("{name}{value}").contains(char::is_control)), "{head}");
    let value = |name: &str| fields.iter().find(|(of, _)| *of == name).map(|(_, value)| *value);
    assert_eq!(value("Connection"), Some("close"));
    let length: usize = value("Content-Length").unwrap().parse().unwrap();
    match is_head {
        true => assert_eq!(body, ""),
        false => assert_eq!(body.len(), length),
    }
    (status, body)
}

/// A page of metrics that Prometheus takes: each line is a comment, or a series that comes once, and no label ends its line.
pub(crate) fn assert_page(page: &str, dialect: Dialect) {
    let page = match dialect {
        Dialect::OpenMetrics => page.strip_suffix("# EOF\n").unwrap(),
        Dialect::Text004 => page,
    };
    assert!(page.is_empty() || page.ends_with('\n'));
    let (mut seen, mut families) = (HashSet::new(), HashSet::new());
    for line in page.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind) && is_name(name), "{line}");
            assert!(families.insert((kind, name)), "twice: {line}");
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap();
        assert!(is_name(name), "{line}");
        let mut rest = rest;
        loop {
            let (label, value) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            rest = after_quote(value).unwrap_or_else(|| panic!("a label without an end: {line}"));
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        let value = rest.strip_prefix("} ").unwrap_or_else(|| panic!("more than labels: {line}"));
        assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        assert!(seen.insert(&line[..line.len() - value.len()]), "a series comes twice: {line}");
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What follows the closing quote of a label's value.
fn after_quote(value: &str) -> Option<&str> {
    let mut letters = value.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => assert!(matches!(letters.next(), Some((_, '\\' | '"' | 'n'))), "{value}"),
            '"' => return Some(&value[at + 1..]),
            _ => {}
        }
    }
    None
}

/// A client of the metrics listener that has said this.
pub(crate) fn assert_answer(request: &[u8], snapshot: &Snapshot) -> Option<Vec<u8>> {
    let answer = metrics::answer(request, || snapshot.clone())?;
    let (is_head, accept) = match http::read(request) {
        http::Request::Get { is_head, accept, .. } => (is_head, accept),
        _ => (false, String::new()),
    };
    let (status, body) = assert_response(&answer, is_head);
    if status.starts_with("200 ") && !is_head {
        assert_page(body, metrics::dialect(&accept));
    }
    Some(answer)
}
