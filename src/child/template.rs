//! COMMAND's arguments with `{placeholders}`, parsed once at start.
#![forbid(unsafe_code)]

use super::ConnectionInfo;
use crate::sys::launch::ExecArgs;
use crate::sys::socket::{Address, Ip};
use std::ffi::CString;
use std::io::Write;

/// What a placeholder stands for. Where a connection has no such thing, it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    RemoteAddr,
    RemotePort,
    LocalAddr,
    LocalPort,
    Listener,
    Id,
    Uid,
    Pid,
    Cid,
}

/// Every placeholder, as written between braces.
const FIELDS: [(&str, Field); 9] = [
    ("remote_addr", Field::RemoteAddr),
    ("remote_port", Field::RemotePort),
    ("local_addr", Field::LocalAddr),
    ("local_port", Field::LocalPort),
    ("listener", Field::Listener),
    ("id", Field::Id),
    ("uid", Field::Uid),
    ("pid", Field::Pid),
    ("cid", Field::Cid),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    Field(Field),
}

#[derive(Debug)]
enum Argument {
    /// Position among the spec's fixed arguments.
    Fixed(usize),
    Filled(Vec<Token>),
}

/// A parsed command line.
#[derive(Debug)]
pub struct Template {
    arguments: Vec<Argument>,
    /// Arguments without a placeholder, for `sys::launch::CommandSpec`.
    pub fixed: Vec<CString>,
}

impl Template {
    /// Parses all words; the first (the program's name, `argv[0]`) is taken as it is.
    ///
    /// # Errors
    /// One line that names the word and the placeholder.
    pub fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Template, String> {
        let mut template = Template { arguments: Vec::new(), fixed: Vec::new() };
        for (at, word) in words.enumerate() {
            let mut tokens = if at == 0 { vec![Token::Literal(word.to_vec())] } else { tokens(word)? };
            let whole = match tokens.len() {
                0 => Some(Vec::new()),
                1 => match &mut tokens[0] {
                    Token::Literal(bytes) => Some(std::mem::take(bytes)),
                    Token::Field(_) => None,
                },
                _ => None,
            };
            template.arguments.push(match whole {
                Some(bytes) => {
                    template.fixed.push(CString::new(bytes).map_err(|_| "an argument contains a NUL")?);
                    Argument::Fixed(template.fixed.len() - 1)
                }
                None => Argument::Filled(tokens),
            });
        }
        Ok(template)
    }

    /// Adds the arguments for one connection.
    pub fn fill(&self, info: &ConnectionInfo, args: &mut ExecArgs) {
        for argument in &self.arguments {
            match argument {
                Argument::Fixed(index) => args.arg_fixed(*index),
                Argument::Filled(tokens) => args.arg(|out| {
                    for token in tokens {
                        match token {
                            Token::Literal(bytes) => out.extend_from_slice(bytes),
                            Token::Field(field) => write_field(*field, info, out),
                        }
                    }
                }),
            }
        }
    }
}

fn tokens(word: &[u8]) -> Result<Vec<Token>, String> {
    let shown = || String::from_utf8_lossy(word).into_owned();
    let (mut tokens, mut literal, mut rest) = (Vec::new(), Vec::new(), word);
    loop {
        match rest {
            [] => break,
            [b'{', b'{', tail @ ..] => {
                literal.push(b'{');
                rest = tail;
            }
            // "}}" is one brace too, as in other templates; a lone one means itself.
            [b'}', b'}', tail @ ..] => {
                literal.push(b'}');
                rest = tail;
            }
            [b'{', tail @ ..] => {
                let end = tail.iter().position(|byte| *byte == b'}');
                let end =
                    end.ok_or_else(|| format!("'{{' without '}}' in '{}'; write {{{{ for a literal brace", shown()))?;
                let name = String::from_utf8_lossy(&tail[..end]);
                let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
                let field = field.ok_or_else(|| {
                    let known: Vec<_> = FIELDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
                    format!(
                        "unknown placeholder '{{{name}}}' in '{}'; write {{{{{name}}}}} for literal braces, or one of {}",
                        shown(),
                        known.join(" ")
                    )
                })?;
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal)));
                }
                tokens.push(Token::Field(field));
                rest = &tail[end + 1..];
            }
            [byte, tail @ ..] => {
                literal.push(*byte);
                rest = tail;
            }
        }
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal));
    }
    Ok(tokens)
}

fn write_field(field: Field, info: &ConnectionInfo, out: &mut Vec<u8>) {
    let addr = |address: &Address, out: &mut Vec<u8>| match address {
        Address::Ip(at) => write!(out, "{}", Ip(at)),
        Address::Unix(name) => out.write_all(name.as_deref().unwrap_or_default()),
        Address::Vsock { cid, .. } => write!(out, "{cid}"),
        Address::Other => Ok(()),
    };
    let port = |address: &Address, out: &mut Vec<u8>| match address {
        Address::Ip(at) => write!(out, "{}", at.port()),
        Address::Vsock { port, .. } => write!(out, "{port}"),
        _ => Ok(()),
    };
    // Writing to a Vec cannot fail.
    let _ = match (field, info.peer.credentials, &info.peer.address) {
        (Field::RemoteAddr, ..) => addr(&info.peer.address, out),
        (Field::RemotePort, ..) => port(&info.peer.address, out),
        (Field::LocalAddr, ..) => addr(info.local, out),
        (Field::LocalPort, ..) => port(info.local, out),
        (Field::Listener, ..) => out.write_all(info.listener.as_bytes()),
        (Field::Id, ..) => write!(out, "{}", info.id),
        (Field::Uid, Some((_, uid, _)), _) => write!(out, "{uid}"),
        (Field::Pid, Some((pid, ..)), _) => write!(out, "{pid}"),
        (Field::Cid, _, Address::Vsock { cid, .. }) => write!(out, "{cid}"),
        _ => Ok(()),
    };
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_and_fields() {
        let literal = |text: &str| Token::Literal(text.into());
        assert_eq!(tokens(b"plain").unwrap(), [literal("plain")]);
        assert_eq!(tokens(b"{{x}}").unwrap(), [literal("{x}")]);
        assert_eq!(tokens(b"a}b").unwrap(), [literal("a}b")]);
        assert_eq!(tokens(b"a{id}b").unwrap(), [literal("a"), Token::Field(Field::Id), literal("b")]);
        for bad in ["{", "{}", "{nope}", "x{id", "{ID}"] {
            assert!(tokens(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_program_s_own_name_is_not_a_template() {
        let template = Template::parse([b"{odd}".as_slice(), b"{id}", b"", b"{{"].into_iter()).unwrap();
        assert_eq!(template.fixed, [c"{odd}".into(), c"".into(), CString::new("{").unwrap()]);
        assert!(matches!(template.arguments[1], Argument::Filled(_)));
    }
}
