//! Reading numbers and pieces out of what a client has said so far: never past its end, never in a panic.
#![forbid(unsafe_code)]

/// Why nothing could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// The client has not said that much yet.
    Incomplete,
    /// This is not the protocol.
    Malformed,
}

/// What has not been read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ParseError::Incomplete)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ParseError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian number of `size` bytes, 4 at most.
    pub(super) fn number(&mut self, size: usize) -> Result<u32, ParseError> {
        Ok(self.take(size)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// The next byte, which must be `expected`.
    pub(super) fn expect(&mut self, expected: u8) -> Result<(), ParseError> {
        if self.byte()? == expected { Ok(()) } else { Err(ParseError::Malformed) }
    }
}
