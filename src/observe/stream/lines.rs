//! Cuts what a command writes into lines, as journald does it for a stream (systemd-journald.service(8), "Stream logging").
#![forbid(unsafe_code)]

/// journald's own default of `LineMax=` (journald.conf(5)): a longer line is cut into pieces of this length.
const LINE_MAX: usize = 48 * 1024;
/// `SyslogLevel=` of a unit that does not say otherwise (systemd.exec(5)).
const INFO: u8 = 6;

/// What has come of a line so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// At most [`LINE_MAX`] bytes; no memory between two lines.
    begun: Vec<u8>,
    /// The priority of a line whose first piece is out already.
    goes_on: Option<u8>,
}

impl Lines {
    /// Takes what was read; `tell` gets each line, or piece of a long one, with its priority.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8, &[u8])) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | 0));
            let (piece, is_whole) = (&bytes[..end.unwrap_or(bytes.len())], end.is_some());
            let room = LINE_MAX - self.begun.len();
            if piece.len() > room || (piece.len() == room && !is_whole) {
                self.take(&piece[..room], false, &mut tell);
                bytes = &bytes[room..];
            } else if is_whole {
                self.take(piece, true, &mut tell);
                bytes = &bytes[piece.len() + 1..];
            } else {
                self.begun.extend_from_slice(piece);
                return;
            }
        }
    }

    /// Nothing comes any more: what has come is a line.
    pub(super) fn finish(&mut self, mut tell: impl FnMut(u8, &[u8])) {
        self.take(&[], true, &mut tell);
    }

    /// The end of a line or, not `is_whole`, of a piece of it.
    fn take(&mut self, end: &[u8], is_whole: bool, tell: &mut impl FnMut(u8, &[u8])) {
        let mut begun = std::mem::take(&mut self.begun);
        let all = if begun.is_empty() {
            end
        } else {
            begun.extend_from_slice(end);
            &begun
        };
        let (priority, text) = match self.goes_on {
            Some(priority) => (priority, all),
            None => prefixed(all),
        };
        self.goes_on = (!is_whole).then_some(priority);
        // journald keeps no empty lines either.
        if !text.is_empty() {
            tell(priority, text);
        }
    }
}

/// The priority that a line begins with, as `<3>` (sd-daemon(3)), and the rest.
fn prefixed(line: &[u8]) -> (u8, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (digit - b'0', rest),
        _ => (INFO, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Told = Vec<(u8, Vec<u8>)>;

    fn all_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Told {
        let (mut lines, mut told) = (Lines::default(), Told::new());
        let mut tell = |priority, text: &[u8]| told.push((priority, text.to_vec()));
        parts.into_iter().for_each(|part| lines.feed(part, &mut tell));
        lines.finish(&mut tell);
        assert_eq!((lines.begun.capacity(), lines.goes_on), (0, None));
        told
    }

    fn line(text: &str) -> (u8, Vec<u8>) {
        (INFO, text.into())
    }

    #[test]
    fn lines_end_as_in_a_stream_of_journald() {
        let of = |text: &[u8]| all_of([text]);
        assert_eq!(of(b"one\ntwo\n"), [line("one"), line("two")]);
        assert_eq!(of(b"one\0two"), [line("one"), line("two")], "the last without an end");
        assert_eq!(of(b"\n\n<3>\n\0"), [], "empty ones");
        assert_eq!(of(b" a\r\n"), [line(" a\r")]);
        assert_eq!(of(b"\xff\xfe\n"), [(INFO, b"\xff\xfe".to_vec())]);
        assert_eq!(all_of([&b"o"[..], b"n", b"e\nt", b"", b"wo"]), [line("one"), line("two")]);
    }

    #[test]
    fn a_prefix_is_a_priority() {
        let of = |text: &str| all_of([text.as_bytes()]);
        let cut: Vec<&[u8]> = b"<3>no\n".chunks(1).collect();
        assert_eq!(all_of(cut), [(3, b"no".to_vec())]);
        assert_eq!(of("<0>a\n<7>b\nc\n"), [(0, b"a".to_vec()), (7, b"b".to_vec()), line("c")]);
        for plain in ["<8>a", "<>a", "<3", "<33>a", " <3>a", "3>a", "<x>"] {
            assert_eq!(of(plain), [line(plain)]);
        }
    }

    #[test]
    fn a_long_line_is_cut_and_keeps_its_priority() {
        for (length, pieces) in [
            (LINE_MAX - 1, &[LINE_MAX - 1][..]),
            (LINE_MAX, &[LINE_MAX]),
            (LINE_MAX + 1, &[LINE_MAX, 1]),
            (3 * LINE_MAX, &[LINE_MAX; 3]),
        ] {
            let mut text = vec![b'x'; length];
            text.push(b'\n');
            for size in [1000, 4096, LINE_MAX, text.len()] {
                let told = all_of(text.chunks(size));
                assert_eq!(told.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), pieces, "{length} by {size}");
            }
        }
        let text = [b"<3>".to_vec(), vec![b'x'; LINE_MAX], b"<4>y\nz".to_vec()].concat();
        let told: Vec<_> =
            all_of(text.chunks(4096)).into_iter().map(|(priority, text)| (priority, text.len())).collect();
        assert_eq!(told, [(3, LINE_MAX - 3), (3, 7), (INFO, 1)]);
    }

    proptest! {
        /// However it is cut on its way, what is told is what was written.
        #[test]
        fn the_way_changes_nothing(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0), Just(b'<'), Just(b'3'), Just(b'>'), any::<u8>()], 0..200),
            size in 1..20usize,
        ) {
            let told = all_of(text.chunks(size));
            prop_assert_eq!(&told, &all_of([&text[..]]));
            let plain: Vec<Vec<u8>> = text
                .split(|byte| matches!(byte, b'\n' | 0))
                .map(|line| prefixed(line).1.to_vec())
                .filter(|line| !line.is_empty())
                .collect();
            prop_assert_eq!(told.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), plain);
        }
    }
}
