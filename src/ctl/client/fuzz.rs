//! A daemon that answers anything.
#![forbid(unsafe_code)]

use super::*;
use crate::fuzzing::bytes::pieces;
use std::net::Shutdown;

/// All replies of a daemon that says this in such pieces, and then no more, up to the first that is none.
pub(in crate::ctl) fn replies(said: &[u8], how: u8) -> (Vec<Value>, Failure) {
    let (stream, mut other) = UnixStream::pair().unwrap();
    let mut client = Client { stream, buffer: Vec::new(), waited: Duration::ZERO, is_patient: true, unit: "x".into() };
    let mut all = Vec::new();
    for piece in pieces(said, how).into_iter().map(Some).chain([None]) {
        match piece {
            Some(piece) => other.write_all(piece).unwrap(),
            None => other.shutdown(Shutdown::Write).unwrap(),
        }
        let mut left = piece.map_or(1, <[u8]>::len);
        while left > 0 {
            let before = client.buffer.len();
            if let Err(failure) = client.fill() {
                return (all, failure);
            }
            left -= client.buffer.len() - before;
            assert!(client.buffer.len() <= MOST + AT_ONCE, "{} bytes are kept", client.buffer.len());
            loop {
                match client.try_next_reply() {
                    Ok(Some(reply)) => all.push(reply),
                    Ok(None) if client.buffer.contains(&0) => {} // one without parameters
                    Ok(None) => break,
                    Err(failure) => return (all, failure),
                }
            }
        }
    }
    unreachable!("the end is an error")
}
