//! What `systemctl cat` says: the lines of a unit's files and drop-ins, for what systemd has thrown away when it read them.
#![forbid(unsafe_code)]

use crate::ctl::syntax;

/// One setting as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// `Service`; empty above the first section.
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// The file it stands in.
    pub(super) file: String,
}

/// The lines, in the order in which systemd reads them.
#[derive(Clone, Debug, Default)]
pub(super) struct Text(pub(super) Vec<Line>);

impl Text {
    pub(super) fn parse(text: &str) -> Text {
        let (mut file, mut section, mut begun) = (String::new(), String::new(), None::<String>);
        let mut lines = Vec::new();
        for raw in syntax::lines(text) {
            let line = raw.trim_start();
            if let Some(rest) = line.strip_prefix('#') {
                // The head that systemctl puts above each file; a file begins without a section.
                if let Some(path) =
                    rest.strip_prefix(' ').map(str::trim_end).filter(|path| is_file(path) && begun.is_none())
                {
                    (file, section) = (path.to_owned(), String::new());
                }
                continue;
            }
            if line.starts_with(';') {
                continue;
            }
            let whole = begun.take().unwrap_or_default() + line;
            if let Some(first) = syntax::continued(&whole) {
                begun = Some(format!("{first} "));
            } else if let Some(name) = whole.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((key, value)) = whole.split_once('=') {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                lines.push(Line { section: section.clone(), key, value, file: file.clone() });
            }
        }
        Text(lines)
    }

    /// The lines of this setting that hold: an empty one takes back those before it.
    pub(super) fn of<'a>(&'a self, section: &str, key: &str) -> Vec<&'a Line> {
        let all: Vec<&Line> = self.0.iter().filter(|line| line.section == section && line.key == key).collect();
        let from = all.iter().rposition(|line| line.value.is_empty()).map_or(0, |at| at + 1);
        all[from..].to_vec()
    }

    /// The value that holds of a setting that has one.
    pub(super) fn last<'a>(&'a self, section: &str, key: &str) -> Option<&'a str> {
        self.of(section, key).last().map(|line| line.value.as_str())
    }
}

fn is_file(path: &str) -> bool {
    path.starts_with('/') && [".service", ".socket", ".conf"].iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_sections_and_lines_that_go_on() {
        let text = Text::parse(
            "# /usr/lib/systemd/system/a.service\n# A comment.\nLost=1\n[Service]\nExecStart=/bin/a \\\n# in between\n    b\n\
             Environment=A=1\n; B=2\n\n# /etc/systemd/system/a.service.d/b.conf\nC=3\n[Service]\nEnvironment=\nEnvironment=D=4\n",
        );
        let seen: Vec<_> = text.0.iter().map(|l| format!("{}.{}={}", l.section, l.key, l.value)).collect();
        let expected = [
            ".Lost=1",
            "Service.ExecStart=/bin/a  b",
            "Service.Environment=A=1",
            ".C=3",
            "Service.Environment=",
            "Service.Environment=D=4",
        ];
        assert_eq!(seen, expected);
        assert_eq!(text.0[3].file, "/etc/systemd/system/a.service.d/b.conf");
        assert_eq!(text.last("Service", "Environment"), Some("D=4"));
        assert_eq!(text.of("Service", "Environment").len(), 1);
        assert_eq!(text.last("Service", "User"), None);
    }

    #[test]
    fn a_line_ends_where_it_ends_for_systemd() {
        let text = Text::parse("[Service]\rEnvironment=A=1\\ \nUser=a\\\\\nGroup=b\0Nice=1\r\nUMask=\\\r\n  7\r\n");
        let seen: Vec<_> = text.0.iter().map(|l| (l.key.as_str(), l.value.as_str())).collect();
        assert_eq!(seen, [("Environment", "A=1\\"), ("User", "a\\\\"), ("Group", "b"), ("Nice", "1"), ("UMask", "7")]);
    }
}
