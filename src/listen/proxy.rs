//! The PROXY protocol's header, versions 1 and 2 (proxy-protocol.txt of HAProxy): whom a proxy speaks for. Pure: bytes in, addresses out.
//!
//! What does not begin as a header is known for broken at its first wrong byte, and nothing is looked at beyond the bounds.
#![forbid(unsafe_code)]

use crate::peer::Peer;
use crate::sys::socket::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its CRLF (section 2.1).
pub const MAX_V1: usize = 107;
/// The longest header of version 2 that is taken. Section 2.2 promises 536 bytes to fit into one segment; a client's certificate
/// among the TLVs (`send-proxy-v2-ssl-cn`, PP2_SUBTYPE_SSL_CLIENT_CERT) takes more.
pub const MAX_V2: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What comes before the addresses of version 2: signature, version and command, family and transport, length.
const FIXED: usize = 16;
/// `sun_path` of either end.
const PATH: usize = 108;
const TYPE_CRC32C: u8 = 3;

/// A whole header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes: the client's own come after them.
    pub length: usize,
    /// The client's address, and the one that it connected to; `None` if the proxy speaks for itself (LOCAL), or does not know.
    pub ends: Option<(Address, Address)>,
}

/// What is wrong with a header, in a few words.
pub type Flaw = &'static str;

/// Reads the header at the beginning of `bytes`; `None`: more of it has to come.
///
/// # Errors
/// What is wrong with it: more bytes would not help.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Flaw> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1(bytes),
        Some(_) => v2(bytes),
    }
}

/// Whether `bytes` begin with `word`; `None`: as far as they go.
fn begins(bytes: &[u8], word: &[u8]) -> Result<Option<()>, Flaw> {
    let common = bytes.len().min(word.len());
    match bytes[..common] == word[..common] {
        false => Err("no signature"),
        true => Ok((common == word.len()).then_some(())),
    }
}

fn v1(bytes: &[u8]) -> Result<Option<Header>, Flaw> {
    if begins(bytes, V1)?.is_none() {
        return Ok(None);
    }
    let bytes = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err("line too long") };
    };
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if bytes.len() < MAX_V1 => return Ok(None),
        _ => return Err("no CRLF at the end of the line"),
    }
    let line = std::str::from_utf8(&bytes[V1.len()..end]).map_err(|_| "not ASCII")?;
    Ok(Some(Header { length: end + 2, ends: line_ends(line)? }))
}

/// `TCP4 192.0.2.1 192.0.2.2 56324 443`. Whatever follows UNKNOWN is ignored.
fn line_ends(line: &str) -> Result<Option<(Address, Address)>, Flaw> {
    let words: Vec<&str> = line.split(' ').collect();
    let ip = |word: &str| match words[0] {
        "TCP4" => word.parse().ok().map(IpAddr::V4),
        _ => word.parse().ok().map(IpAddr::V6),
    };
    match words[..] {
        ["UNKNOWN", ..] => Ok(None),
        ["TCP4" | "TCP6", from, to, from_port, to_port] => {
            let end = |address: &str, port: &str| -> Result<Address, Flaw> {
                Ok(address_of(ip(address).ok_or("invalid address")?, port_number(port).ok_or("invalid port")?))
            };
            Ok(Some((end(from, from_port)?, end(to, to_port)?)))
        }
        ["TCP4" | "TCP6", ..] => Err("not two addresses and two ports"),
        _ => Err("unknown protocol"),
    }
}

/// Decimal, without a sign or leading zeros.
fn port_number(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn address_of(ip: IpAddr, port: u16) -> Address {
    Address::Ip(SocketAddr::new(ip.to_canonical(), port))
}

fn v2(bytes: &[u8]) -> Result<Option<Header>, Flaw> {
    if begins(bytes, V2)?.is_none() {
        return Ok(None);
    }
    let is_local = match bytes.get(V2.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(0x22..=0x2f) => return Err("unknown command"),
        Some(_) => return Err("unknown version"),
    };
    let Some(&[family, high, low]) = bytes.get(V2.len() + 1..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err("longer than 4096 bytes");
    }
    if is_local {
        // All that follows is to be discarded, the family with it.
        return Ok((bytes.len() >= length).then_some(Header { length, ends: None }));
    }
    let size = match family {
        0x00 => 0,
        0x11 => 2 * (4 + 2),
        0x21 => 2 * (16 + 2),
        0x31 => 2 * PATH,
        0x12 | 0x22 | 0x32 => return Err("of datagrams"),
        _ => return Err("unknown family"),
    };
    if length < FIXED + size {
        return Err("too short for its addresses");
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let (addresses, tlvs) = header[FIXED..].split_at(size);
    if let Some(at) = find_crc(tlvs)? {
        let at = FIXED + size + at;
        let (before, after) = (&header[..at], &header[at + 4..]);
        if crc32c(&[before, &[0; 4], after]).to_be_bytes() != header[at..at + 4] {
            return Err("wrong CRC32C");
        }
    }
    let ends = match family {
        0x11 => ip_ends::<4, Ipv4Addr>(addresses),
        0x21 => ip_ends::<16, Ipv6Addr>(addresses),
        0x31 => Some((path(&addresses[..PATH]), path(&addresses[PATH..]))),
        _ => None,
    };
    Ok(Some(Header { length, ends }))
}

/// Two addresses of `N` bytes, then two ports.
fn ip_ends<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(bytes: &[u8]) -> Option<(Address, Address)> {
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let (from_port, rest) = rest.split_first_chunk::<2>()?;
    let to_port = rest.first_chunk::<2>()?;
    let end = |ip: &[u8; N], port: &[u8; 2]| address_of(A::from(*ip).into(), u16::from_be_bytes(*port));
    Some((end(from, from_port), end(to, to_port)))
}

/// `sun_path`, with the words that the kernel's own addresses have here, and escaped as a client's: whoever wrote it chose any bytes.
fn path(bytes: &[u8]) -> Address {
    let trimmed = bytes.iter().rposition(|byte| *byte != 0).map_or(&[][..], |last| &bytes[..=last]);
    let name = match trimmed {
        [] => None,
        [0, abstract_name @ ..] => Some([b"@", abstract_name].concat()),
        [b'/', ..] => trimmed.split(|byte| *byte == 0).next().map(<[u8]>::to_vec),
        _ => trimmed.split(|byte| *byte == 0).next().map(|path| [b"./", path].concat()),
    };
    Peer::new(Address::Unix(name.map(Vec::into_boxed_slice)), None).address
}

/// Where the value of the checksum is, if there is one. All TLVs have to be within their bounds.
fn find_crc(tlvs: &[u8]) -> Result<Option<usize>, Flaw> {
    let (mut at, mut found) = (0, None);
    while at < tlvs.len() {
        let &[kind, high, low] = tlvs.get(at..at + 3).ok_or("TLV cut short")? else { break };
        let (value, length) = (at + 3, usize::from(u16::from_be_bytes([high, low])));
        at = value + length;
        if at > tlvs.len() {
            return Err("TLV cut short");
        }
        if kind == TYPE_CRC32C && (length != 4 || found.replace(value).is_some()) {
            return Err("invalid CRC32C");
        }
    }
    Ok(found)
}

/// CRC32C (RFC 4960, appendix B) of all parts, bit by bit: a header has few bytes, and most have no checksum.
fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().copied().flatten().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests;
