//! Headers whole, in pieces and broken.
#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [V2, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

const V4_ENDS: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0x01, 0xbb];

/// With its checksum as the last TLV.
fn with_crc(mut header: Vec<u8>) -> Vec<u8> {
    let length = (header.len() - FIXED + 7) as u16;
    header[14..16].copy_from_slice(&length.to_be_bytes());
    header.extend(tlv(TYPE_CRC32C, &[0; 4]));
    let sum = crc32c(&[&header]).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum);
    header
}

/// Each beginning of it needs more, and what follows it changes nothing.
fn whole(bytes: &[u8]) -> Option<(Address, Address)> {
    for length in 0..bytes.len() {
        assert_eq!(parse(&bytes[..length]), Ok(None), "{length} of {bytes:?}");
    }
    let header = parse(bytes).unwrap().unwrap();
    assert_eq!(header.length, bytes.len());
    assert_eq!(parse(&[bytes, b"PROXY\r\n\0"].concat()), Ok(Some(header.clone())));
    header.ends
}

#[test]
fn lines_of_version_1() {
    for (line, from, to) in [
        ("TCP4 192.0.2.1 192.0.2.2 56324 443", "192.0.2.1:56324", "192.0.2.2:443"),
        ("TCP4 255.255.255.255 0.0.0.0 65535 0", "255.255.255.255:65535", "0.0.0.0:0"),
        ("TCP6 2001:db8::1 ::1 1 65535", "[2001:db8::1]:1", "[::1]:65535"),
        ("TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2", "192.0.2.1:1", "192.0.2.2:2"),
    ] {
        assert_eq!(whole(format!("PROXY {line}\r\n").as_bytes()), Some((ip(from), ip(to))), "{line}");
    }
    for line in ["UNKNOWN", "UNKNOWN ", "UNKNOWN ffff::1 x y z"] {
        assert_eq!(whole(format!("PROXY {line}\r\n").as_bytes()), None, "{line}");
    }
}

#[test]
fn broken_lines_of_version_1() {
    for line in [
        "TCP4 192.0.2.1 192.0.2.2 56324",
        "TCP4 192.0.2.1 192.0.2.2 56324 443 ",
        "TCP4  192.0.2.1 192.0.2.2 56324 443",
        "TCP4 192.0.2.1 192.0.2.2 056324 443",
        "TCP4 192.0.2.1 192.0.2.2 +1 443",
        "TCP4 192.0.2.1 192.0.2.2 65536 443",
        "TCP4 192.0.2.1 192.0.2.2 1 -1",
        "TCP4 192.0.02.1 192.0.2.2 1 2",
        "TCP4 192.0.2 192.0.2.2 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP6 192.0.2.1 192.0.2.2 1 2",
        "TCP6 fe80::1%eth0 ::1 1 2",
        "UDP4 192.0.2.1 192.0.2.2 1 2",
        "TCP4",
        "",
        "unknown",
        "UNKNOWNS",
        "UNKNOWN \u{e9}\u{0}\n",
        "UNKNOWN a\rb",
    ] {
        assert!(parse(format!("PROXY {line}\r\n").as_bytes()).is_err(), "{line}");
    }
    for bytes in [&b"PROXY UNKNOWN\n"[..], b"PROXY UNKNOWN\r\r", b"PROXY\r", b"PRX", b"GET / HTTP/1.0\r\n"] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_flaw_is_told_by_its_kind() {
    let line = |line: &str| parse(format!("PROXY {line}\r\n").as_bytes()).unwrap_err();
    assert_eq!(line("TCP4 192.0.2.1 192.0.2.2 56324"), "not two addresses and two ports");
    assert_eq!(line("TCP5 192.0.2.1 192.0.2.2 1 2"), "unknown protocol");
    let family = |family| parse(&v2_header(0x21, family, &[0; 216])).unwrap_err();
    assert_eq!([0x12, 0x22, 0x32].map(family), ["of datagrams"; 3]);
    assert_eq!([0x10, 0x13, 0x41].map(family), ["unknown family"; 3]);
}

#[test]
fn a_line_has_at_most_107_bytes() {
    let of = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
    assert_eq!(whole(&of(MAX_V1)), None);
    let long = of(MAX_V1 + 1);
    assert_eq!(parse(&long[..MAX_V1 - 1]), Ok(None));
    assert!(parse(&long[..MAX_V1]).is_err());
    assert!(parse(&long).is_err());
    assert!(parse(&[b"PROXY ", &[b'x'; 9999][..]].concat()).is_err());
}

#[test]
fn addresses_of_version_2() {
    let ends = Some((ip("192.0.2.1:56324"), ip("192.0.2.2:443")));
    assert_eq!(whole(&v2_header(0x21, 0x11, &V4_ENDS)), ends);
    let [a, b]: [Ipv6Addr; 2] = ["2001:db8::1", "::ffff:192.0.2.2"].map(|ip| ip.parse().unwrap());
    let v6 = [&a.octets()[..], &b.octets(), &[0, 1, 0, 2]].concat();
    assert_eq!(whole(&v2_header(0x21, 0x21, &v6)), Some((ip("[2001:db8::1]:1"), ip("192.0.2.2:2"))));
    let unix = |name: &[u8]| [name, &vec![0; PATH - name.len()]].concat();
    for (name, told) in [
        (&b"/run/a\n"[..], Some(&b"/run/a\\n"[..])),
        (b"\0ab\0c", Some(b"@ab\\000c")),
        (b"a", Some(b"./a")),
        (b"/a\0rest", Some(b"/a")),
        (b"", None),
    ] {
        let expected = (Address::Unix(told.map(Into::into)), Address::Unix(Some(b"/to".as_slice().into())));
        assert_eq!(whole(&v2_header(0x21, 0x31, &[unix(name), unix(b"/to")].concat())), Some(expected));
    }
    let full = [[b'/'; PATH], [b'x'; PATH]].concat();
    let Some((Address::Unix(Some(from)), _)) = whole(&v2_header(0x21, 0x31, &full)) else { panic!() };
    assert_eq!(from.len(), PATH);
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know() {
    assert_eq!(whole(&v2_header(0x21, 0x00, &[])), None);
    assert_eq!(whole(&v2_header(0x21, 0x00, &tlv(4, b"noop"))), None);
    // LOCAL: nothing of it means anything.
    for family in [0x00, 0x11, 0x32, 0xff] {
        assert_eq!(whole(&v2_header(0x20, family, &[])), None);
        assert_eq!(whole(&v2_header(0x20, family, &V4_ENDS)), None);
    }
}

#[test]
fn checksums_and_other_tlvs() {
    assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283, "the check value of CRC-32C");
    let header = v2_header(0x21, 0x11, &[&V4_ENDS[..], &tlv(1, b"h2"), &tlv(0x20, &[])].concat());
    assert!(whole(&header).is_some());
    let good = with_crc(header);
    assert!(whole(&good).is_some());
    for at in 16..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(parse(&bad).is_err() || at >= good.len() - 7 && bad[good.len() - 7] != TYPE_CRC32C, "{at}");
    }
    let none = with_crc(v2_header(0x21, 0x00, &[]));
    assert_eq!(whole(&none), None);
    for tlvs in [
        tlv(TYPE_CRC32C, &[0; 3]),
        tlv(TYPE_CRC32C, &[0; 5]),
        [tlv(TYPE_CRC32C, &[0; 4]), tlv(TYPE_CRC32C, &[0; 4])].concat(),
        vec![1],
        vec![1, 0],
        vec![1, 0, 1],
        vec![1, 0xff, 0xff, 0],
    ] {
        assert!(parse(&v2_header(0x21, 0x11, &[&V4_ENDS[..], &tlvs].concat())).is_err(), "{tlvs:?}");
    }
}

#[test]
fn broken_headers_of_version_2() {
    for (command, family) in
        [(0x11, 0x11), (0x31, 0x11), (0x22, 0x11), (0x2f, 0), (0x21, 0x10), (0x21, 0x12), (0x21, 0x41)]
    {
        assert!(parse(&v2_header(command, family, &[0; 216])).is_err(), "{command:x} {family:x}");
    }
    assert!(parse(&v2_header(0x21, 0x11, &V4_ENDS[..11])).is_err());
    assert!(parse(&v2_header(0x21, 0x21, &[0; 35])).is_err());
    assert!(parse(&v2_header(0x21, 0x31, &[0; 215])).is_err());
    assert!(parse(b"\r\n\r\n\0\r\nQUIT\r").is_err());
    assert!(parse(b"\r\n\r\nx").is_err(), "at the first wrong byte");
}

#[test]
fn a_header_of_version_2_has_at_most_4096_bytes() {
    let of = |length: usize| v2_header(0x21, 0x00, &tlv(4, &vec![7; length - FIXED - 3]));
    assert_eq!(parse(&of(MAX_V2)), Ok(Some(Header { length: MAX_V2, ends: None })));
    assert!(parse(&of(MAX_V2 + 1)[..FIXED]).is_err(), "known before it has come");
    assert!(parse(&v2_header(0x20, 0x00, &vec![0; MAX_V2])).is_err());
}

proptest! {
    #[test]
    fn garbage_is_never_more_than_broken(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 1 ", V2,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xe0", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x20"]),
        rest in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b" .:01\r\n\x03".to_vec())], 0..400),
    ) {
        let bytes = [start, &rest].concat();
        if let Ok(Some(header)) = parse(&bytes) {
            prop_assert!(header.length <= bytes.len());
            prop_assert_eq!(parse(&bytes[..header.length - 1]), Ok(None), "whole at its last byte and not before");
        }
    }

    #[test]
    fn more_bytes_never_change_what_was_said(bytes in prop::collection::vec(any::<u8>(), 0..64), more in any::<Vec<u8>>()) {
        let bytes = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..], &bytes].concat();
        let said = parse(&bytes);
        if said != Ok(None) {
            prop_assert_eq!(parse(&[bytes, more].concat()), said);
        }
    }
}
