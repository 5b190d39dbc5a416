//! `watch`: the state as JSON, a line each time that it has changed.
#![forbid(unsafe_code)]

use super::ask::print_json;
use super::client::{Client, Nothing};
use super::failure::{Exit, Failure};
use super::globals::Globals;
use super::output;
use super::units;
use crate::sys::errno_words;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::io::stdout;
use std::os::fd::AsFd;

/// Ends with the last of the units, or when nobody reads any more.
///
/// # Errors
/// As of asking; [`Exit::NotRunning`] when the units have stopped.
pub fn run(units: &[String], globals: &Globals) -> Result<(), Failure> {
    let is_one = units.len() == 1;
    let mut clients = Vec::new();
    let begun = units::each(units::some_or_all(units, globals)?, |unit| {
        let mut client = Client::connect(&unit)?;
        client.begin("Subscribe", Nothing {})?;
        clients.push(client);
        Ok(())
    });
    let mut exit = begun.map_or_else(|failure| failure.exit, |()| Exit::NotRunning);
    while !clients.is_empty() {
        for at in readable(&clients)?.into_iter().rev() {
            if let Err(failure) = pass_on(&mut clients[at], is_one) {
                if failure.exit == Exit::Done {
                    return Err(failure);
                }
                output::complain(&failure.line);
                exit = failure.exit;
                clients.remove(at);
            }
        }
    }
    Err(Failure { exit, line: String::new() })
}

fn pass_on(client: &mut Client, is_one: bool) -> Result<(), Failure> {
    client.fill()?;
    while let Some(reply) = client.try_next_reply::<Value>()? {
        print_json(reply, (!is_one).then_some(&client.unit().to_owned()))?;
    }
    Ok(())
}

/// Waits until some have something to say: which.
fn readable(clients: &[Client]) -> Result<Vec<usize>, Failure> {
    let stdout = stdout();
    let mut fds: Vec<_> = clients.iter().map(|client| PollFd::new(client.fd(), PollFlags::POLLIN)).collect();
    // That nobody reads any more is always told.
    fds.push(PollFd::new(stdout.as_fd(), PollFlags::empty()));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {
            let has = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
            match has(&fds[clients.len()]) {
                true => Err(Failure::unread()),
                false => Ok((0..clients.len()).filter(|at| has(&fds[*at])).collect()),
            }
        }
        Err(error) => Err(Failure::failed(format!("cannot wait for changes: {}", errno_words(error as i32)))),
    }
}
