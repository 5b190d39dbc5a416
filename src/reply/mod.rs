//! What a refused client is told, in its own protocol: bytes, and what must be read before them.
//!
//! One small file per protocol and one line in [`PRESETS`]; help, man page and tests loop over the table.
//! Pure: who sends and reads is `listen::linger`.
#![forbid(unsafe_code)]

mod ftp;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod git;
mod http;
mod imap;
mod irc;
mod ldap;
mod lmtp;
mod managesieve;
mod memcached;
mod mqtt;
mod mysql;
mod nntp;
mod none;
mod pop3;
mod postgresql;
mod preset;
mod reader;
mod redis;
mod rsync;
mod smtp;
mod ssh;
mod text;
mod tls;
mod vnc;

use preset::{Answer, Notice, SpeaksFirst};
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use preset::{Input, MAX_INPUT, Preset, Step};

/// Seconds after which a client may well come back, where nobody knows: what `{retry}` stands for then.
pub const RETRY_SECONDS: u32 = 10;
/// The human part of a refusal by a limit, unless `--busy-message` says otherwise.
pub const BUSY: &str = "server at capacity";
/// The human part when the command cannot be started.
pub const UNAVAILABLE: &str = "service unavailable";
/// The longest text that every line-based protocol carries (RFC 5321 section 4.5.3.1.5: 512 bytes a reply line).
const MAX_TEXT: usize = 400;
/// The longest reply from a file, in bytes.
pub const MAX_FILE: usize = 64 << 10;

/// Every preset, in the order of help.
pub static PRESETS: [Preset; 22] = [
    text::PRESET,
    none::PRESET,
    rsync::PRESET,
    http::PRESET,
    smtp::PRESET,
    lmtp::PRESET,
    ftp::PRESET,
    imap::PRESET,
    pop3::PRESET,
    ssh::PRESET,
    git::PRESET,
    mysql::PRESET,
    postgresql::PRESET,
    redis::PRESET,
    memcached::PRESET,
    nntp::PRESET,
    ldap::PRESET,
    irc::PRESET,
    tls::PRESET,
    mqtt::PRESET,
    vnc::PRESET,
    managesieve::PRESET,
];

/// `--busy-reply`: a preset or the bytes of a file.
#[derive(Clone)]
pub enum Choice {
    /// One of [`PRESETS`].
    Preset(&'static Preset),
    /// These bytes as they are, and where they came from.
    File(String, Arc<[u8]>),
}

impl Choice {
    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// If there are more than [`MAX_FILE`].
    pub fn file(path: &str, bytes: Vec<u8>) -> Result<Self, String> {
        match bytes.len() {
            0..=MAX_FILE => Ok(Choice::File(path.into(), bytes.into())),
            len => Err(format!("'{path}' has {len} bytes, a reply at most {MAX_FILE}")),
        }
    }

    /// # Errors
    /// Why `message` would break this protocol.
    pub fn check(&self, message: &Message) -> Result<(), String> {
        let Choice::Preset(preset) = self else { return Ok(()) };
        match (preset.rejects_text)(&message.text) {
            Some(why) => Err(format!("'{}' would break the protocol {}: {why}", message.text, preset.name)),
            None => Ok(()),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    /// A preset by its name; [`Choice::file`] makes the other kind.
    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let unknown = || format!("expected file:PATH or one of: {}", names.join(", "));
        PRESETS.iter().find(|preset| preset.name == name).map(Choice::Preset).ok_or_else(unknown)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Choice::Preset(preset) => f.write_str(preset.name),
            Choice::File(path, bytes) => write!(f, "file:{path} ({} bytes)", bytes.len()),
        }
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
        if text.is_empty() {
            return Err("it is empty; --busy-reply none closes without a message".into());
        }
        // Each number may become as long as numbers are.
        let longest = ["{max}", "{active}", "{retry}"]
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(name, &u32::MAX.to_string()));
        match longest.len() {
            0..=MAX_TEXT => {}
            len if len == text.len() => {
                return Err(format!("it has {len} bytes, and {MAX_TEXT} fit into one reply line"));
            }
            len => {
                return Err(format!(
                    "it may have {len} bytes once its numbers are filled in, and {MAX_TEXT} fit into one reply line"
                ));
            }
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

/// Makes the reply for one refusal; keeps the last, since a flood repeats it.
#[derive(Debug)]
pub struct Replies {
    choice: Choice,
    message: Message,
    host: Rc<str>,
    last: Option<((u32, u32, u32), Rc<Reply>)>,
}

impl Replies {
    /// Replies in this protocol, with this text, from the machine of this name.
    pub fn new(choice: Choice, message: Message, host: &str) -> Self {
        // RFC 5321 section 4.1.2, Domain: anything else would break a reply line.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let host = if !host.is_empty() && host.chars().all(plain) { host } else { "localhost" };
        Replies { choice, message, host: host.into(), last: None }
    }

    /// For a limit: `active` commands run, `max` may (0: the reason has no such number), and in `retry`, if that is known,
    /// the client may be let in.
    pub fn busy(&mut self, active: u32, max: u32, retry: Option<Duration>) -> Rc<Reply> {
        let retry = retry.map_or(RETRY_SECONDS, whole_seconds);
        if let Some((key, reply)) = &self.last {
            if *key == (active, max, retry) {
                return reply.clone();
            }
        }
        let text = &self.message.text;
        let filled = text
            .replace("{max}", &max.to_string())
            .replace("{active}", &active.to_string())
            .replace("{retry}", &retry.to_string());
        let reply = Rc::new(self.reply(filled, self.message.chosen, max, retry, true));
        self.last = Some(((active, max, retry), reply.clone()));
        reply
    }

    /// For a command that could not be started.
    pub fn unavailable(&self) -> Rc<Reply> {
        Rc::new(self.reply(UNAVAILABLE.into(), false, 0, RETRY_SECONDS, false))
    }

    fn reply(&self, text: String, chosen: bool, max: u32, retry: u32, busy: bool) -> Reply {
        let host = self.host.clone();
        let mut reply = Reply { opening: Vec::new(), answer: None, text, chosen, max, retry, busy, host };
        match &self.choice {
            Choice::File(_, bytes) => reply.opening.extend_from_slice(bytes),
            Choice::Preset(Preset { speaks_first: SpeaksFirst::Server(render), .. }) => {
                let mut opening = Vec::new();
                render(&reply.notice(), &mut opening);
                reply.opening = opening;
            }
            Choice::Preset(Preset { speaks_first: SpeaksFirst::Client { greeting, answer }, .. }) => {
                reply.opening.extend_from_slice(greeting);
                reply.answer = Some(*answer);
            }
        }
        reply
    }
}

/// Rounded up: whoever comes back a moment too early is refused again.
fn whole_seconds(span: Duration) -> u32 {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

/// Our side of one refusal.
pub struct Reply {
    opening: Vec<u8>,
    answer: Option<Answer>,
    text: String,
    chosen: bool,
    max: u32,
    retry: u32,
    busy: bool,
    host: Rc<str>,
}

impl Reply {
    /// What is sent as soon as the client is refused; may be empty.
    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// Whether the client is heard before [`Reply::answer`] has the last word. Otherwise the opening is all.
    pub fn hears(&self) -> bool {
        self.answer.is_some()
    }

    /// Appends to `out` what is to be sent after `input`.
    pub fn answer(&self, input: Input, out: &mut Vec<u8>) -> Step {
        let Some(answer) = self.answer else { return Step::Done };
        match answer(input, &self.notice(), out) {
            Step::Done => Step::Done,
            // Nothing more will come: a preset that still waits has nothing to say to this client.
            _ if input.is_all => Step::Done,
            step => step,
        }
    }

    fn notice(&self) -> Notice<'_> {
        let Reply { text, chosen, max, retry, busy, host, .. } = self;
        Notice { text, chosen: *chosen, max: *max, retry: *retry, busy: *busy, host }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Reply").field("text", &self.text).field("hears", &self.hears()).finish()
    }
}

#[cfg(test)]
mod tests;
