//! How systemd ends the lines of a unit file, and which go on (systemd.syntax(7)).
#![forbid(unsafe_code)]

/// The lines as they stand in the file. CR and NUL end one, too, and a line feed behind a carriage return belongs to it.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").split(['\n', '\r', '\0']).map(str::to_owned).collect()
}

/// What comes before the backslash by which a line goes on with the next. Of two in a row the first makes the second one that is meant,
/// and blanks behind one end the line.
pub(super) fn continued(line: &str) -> Option<&str> {
    let start = line.strip_suffix('\\')?;
    (start.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_where_it_ends_for_systemd() {
        assert_eq!(lines("a\r\nb\rc\0d\n"), ["a", "b", "c", "d", ""]);
    }

    #[test]
    fn a_line_goes_on_behind_an_odd_number_of_backslashes() {
        let all =
            [("a", None), ("a\\", Some("a")), ("a\\\\", None), ("\\\\\\", Some("\\\\")), ("a\\ ", None), ("", None)];
        for (line, start) in all {
            assert_eq!(continued(line), start, "{line:?}");
        }
    }
}
