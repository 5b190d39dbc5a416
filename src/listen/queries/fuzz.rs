//! Where the requests of somebody who asks about the daemon end, over a connection.
#![forbid(unsafe_code)]

use super::asker::{Asker, Kind};
use super::insiders::Insiders;
use crate::fuzzing::bytes::pieces;
use crate::listen::accept::Connection;
use crate::sys::client_fd::ClientFd;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// What is to be answered of somebody who says this, in such pieces, and then no more. `None`: it is no request, and the last.
pub(crate) fn requests(kind: Kind, said: &[u8], how: u8) -> Vec<Option<Vec<u8>>> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let connection = Connection::restored(ClientFd::new(ours.into(), false), 0, 0).unwrap();
    let now = Instant::now();
    let (mut asker, mut all) = (Asker::new(now, kind, connection, &Insiders::Unknown), Vec::new());
    let bound = kind.terms().request;
    for piece in pieces(said, how).into_iter().map(Some).chain([None]) {
        match piece {
            Some(piece) => theirs.write_all(piece).unwrap(),
            None => theirs.shutdown(Shutdown::Write).unwrap(),
        }
        // A turn for each part that is read, and one in which there is nothing.
        for _ in 0..=piece.map_or(1, |piece| piece.len().div_ceil(1024) + 1) {
            let is_here = asker.hear(now);
            assert!(asker.input.len() <= bound, "{} bytes are kept", asker.input.len());
            while is_here && asker.is_due(now) {
                let request = asker.take_request();
                let is_last = request.is_none() || kind != Kind::Control;
                all.push(request);
                if is_last {
                    return all;
                }
            }
        }
    }
    all
}
