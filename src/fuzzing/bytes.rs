//! What a target makes of the bytes that it is entered with.
#![forbid(unsafe_code)]

/// Bytes that stand for choices, and those behind them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte; 0 behind the last.
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// One of these.
    pub(crate) fn one_of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[usize::from(self.byte()) % all.len()]
    }

    /// The next number of `N` bytes, the low one first.
    pub(crate) fn number<const N: usize>(&mut self) -> u64 {
        (0..N).fold(0, |number, nth| number | u64::from(self.byte()) << (8 * nth))
    }

    /// What comes before the next byte `end`, which is left out, or all that there is.
    pub(crate) fn until(&mut self, end: u8) -> &'a [u8] {
        let at = self.0.iter().position(|byte| *byte == end);
        let (part, rest) = self.0.split_at(at.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        part
    }
}

/// The bytes in pieces, as `how` says: 0 is one piece, 1 is a byte each.
pub(crate) fn pieces(bytes: &[u8], how: u8) -> Vec<&[u8]> {
    match how {
        0 => vec![bytes],
        1 => bytes.chunks(1).collect(),
        how => {
            let (mut all, mut rest, mut state) = (Vec::new(), bytes, u32::from(how));
            while !rest.is_empty() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (piece, after) = rest.split_at((1 + (state >> 24) as usize % usize::from(how)).min(rest.len()));
                all.push(piece);
                rest = after;
            }
            all
        }
    }
}

/// Whether somebody who reads it as text sees one line, which no terminal obeys.
pub(crate) fn is_plain_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
