//! LMTP: the same 421 as SMTP, whose replies it has (RFC 2033 section 4); the client keeps the mail in its queue.
#![forbid(unsafe_code)]

use super::preset::{Preset, SpeaksFirst};
use super::smtp;

pub(super) const PRESET: Preset = Preset {
    name: "lmtp",
    about: "as smtp",
    speaks_first: SpeaksFirst::Server(smtp::render),
    rejects_text: super::preset::any_line,
};

#[cfg(test)]
mod tests {
    use crate::reply::tests::told;

    #[test]
    fn golden() {
        assert_eq!(told("lmtp", None, b""), b"421 host.example server at capacity, try again later\r\n");
    }
}
