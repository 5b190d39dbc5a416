//! What a refused client is told, in its own protocol: bytes, made once at start where they can be.
//!
//! One small file per protocol and one line in [`PRESETS`]; help and tests loop over the table.
#![forbid(unsafe_code)]

mod none;
mod rsync;
mod text;

use std::fmt;
use std::str::FromStr;

/// Seconds after which a client may well come back; what `{retry}` stands for.
pub const RETRY_SECONDS: u32 = 10;
/// The human part of a refusal by a limit, unless `--busy-message` says otherwise.
pub const BUSY: &str = "server at capacity";
/// The human part when the command cannot be started.
pub const UNAVAILABLE: &str = "service unavailable";
/// The longest text that every line-based protocol carries (RFC 5321 section 4.5.3.1.5: 512 bytes a reply line).
const LONGEST: usize = 400;

/// One protocol's way of saying "come back later".
pub struct Preset {
    /// The value of `--busy-reply`.
    pub name: &'static str,
    /// For help: what a client of this protocol sees.
    pub about: &'static str,
    /// Appends the bytes. The text is printable and on one line.
    render: fn(&Saying, &mut Vec<u8>),
}

/// Every preset, in the order of help.
pub static PRESETS: [Preset; 3] = [text::PRESET, none::PRESET, rsync::PRESET];

/// What a preset may put into words.
struct Saying<'a> {
    text: &'a str,
    /// Whether the administrator chose the text.
    chosen: bool,
    max: u32,
    busy: bool,
}

/// Which preset, by its place in [`PRESETS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Choice(usize);

impl FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let unknown = || format!("expected one of: {}", names.join(", "));
        PRESETS.iter().position(|preset| preset.name == name).map(Choice).ok_or_else(unknown)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(PRESETS[self.0].name)
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `--busy-message`: text with `{max}`, `{active}` and `{retry}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    text: String,
    chosen: bool,
}

impl Default for Message {
    fn default() -> Self {
        Message { text: BUSY.into(), chosen: false }
    }
}

impl FromStr for Message {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it has {} bytes, and {LONGEST} fit into one reply line", text.len()));
        }
        if let Some(bad) = text.chars().find(|c| !(' '..='~').contains(c)) {
            return Err(format!("{bad:?} would break the protocol: only printable ASCII on one line"));
        }
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            rest = &rest[at..];
            let known = ["{max}", "{active}", "{retry}"].into_iter().find(|name| rest.starts_with(name));
            match known {
                Some(name) => rest = &rest[name.len()..],
                None => {
                    let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                    return Err(format!("'{}' is not one of {{max}}, {{active}}, {{retry}}", &rest[..end]));
                }
            }
        }
        // The default, typed out, is still the default.
        Ok(Message { text: text.into(), chosen: text != BUSY })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Makes the bytes for one refusal; keeps the last, since a flood repeats it.
#[derive(Debug)]
pub struct Replies {
    choice: Choice,
    message: Message,
    last: (Option<(u32, u32)>, Vec<u8>),
}

impl Replies {
    /// Replies in this protocol, with this text.
    pub fn new(choice: Choice, message: Message) -> Self {
        Replies { choice, message, last: (None, Vec::new()) }
    }

    /// For a limit: `active` commands run, `max` may (0: the reason has no such number).
    pub fn busy(&mut self, active: u32, max: u32) -> &[u8] {
        let key = Some((active, max));
        if self.last.0 != key {
            let text = &self.message.text;
            let filled = text
                .replace("{max}", &max.to_string())
                .replace("{active}", &active.to_string())
                .replace("{retry}", &RETRY_SECONDS.to_string());
            self.last = (key, self.render(&filled, self.message.chosen, max, true));
        }
        &self.last.1
    }

    /// For a command that could not be started.
    pub fn unavailable(&self) -> Vec<u8> {
        self.render(UNAVAILABLE, false, 0, false)
    }

    fn render(&self, text: &str, chosen: bool, max: u32, busy: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        (PRESETS[self.choice.0].render)(&Saying { text, chosen, max, busy }, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(preset: &str, message: Message) -> Replies {
        Replies::new(preset.parse().unwrap(), message)
    }

    #[test]
    fn the_fixed_texts() {
        assert_eq!(replies("text", Message::default()).busy(3, 3), b"server at capacity\n");
        assert_eq!(replies("none", Message::default()).busy(3, 3), b"");
        assert_eq!(
            replies("rsync", Message::default()).busy(4, 4),
            b"@RSYNCD: 31.0\n@ERROR: max connections (4) reached -- try again later\n"
        );
        assert_eq!(replies("text", Message::default()).unavailable(), b"service unavailable\n");
    }

    #[test]
    fn a_message_is_filled_in_everywhere() {
        let message: Message = "{active} of {max}, again in {retry} s".parse().unwrap();
        for preset in PRESETS.iter().filter(|preset| preset.name != "none") {
            let mut replies = replies(preset.name, message.clone());
            for (active, max) in [(3, 4), (4, 4), (4, 4)] {
                let text = String::from_utf8(replies.busy(active, max).to_vec()).unwrap();
                assert!(text.contains(&format!("{active} of {max}, again in 10 s")), "{text}");
            }
        }
    }

    #[test]
    fn what_would_break_a_protocol_is_refused() {
        for bad in ["a\nb", "a\r", "h\u{e9}", "{what}", "{", "{max", &"x".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Message>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(LONGEST).parse::<Message>().is_ok());
        assert!("smoke-signals".parse::<Choice>().is_err());
    }
}
