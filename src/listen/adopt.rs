//! Sockets from systemd: LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID, LISTEN_PIDFDID (sd_listen_fds(3)).
//!
//! Behind the sockets come the descriptors that an earlier daemon left in the manager's store (`FileDescriptorStoreMax=`,
//! systemd.service(5)): its waiting clients and its state. All or nothing: the first descriptor that is none of these is
//! named, and nothing is adopted. But for what another version of sockcap may have stored: a service that does not start is worse.
#![forbid(unsafe_code)]

use super::Listener;
use crate::sys::client_fd::ClientFd;
use crate::sys::{process, socket};
use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// First passed descriptor (`SD_LISTEN_FDS_START`).
const START: i32 = 3;
/// More than any manager passes; larger numbers would make the library allocate by them.
const MAX_PASSED: usize = 65_536;

/// What the names begin with of all that any version stores.
const OURS: &str = "sockcap-";
/// Name of the stored state, and the prefix of the names of stored connections.
pub const STATE: &str = "sockcap-state";
/// `sockcap-held-TICKET-WAITED_USEC-LISTENER`, numbers all; the last is the listener's key. Behind it comes [`HEADED`] or [`AWAITED`], if it is so.
pub const HELD: &str = "sockcap-held-";
/// The client's PROXY header is still in front of what it says.
pub const HEADED: &str = "-proxy";
/// Its PROXY header had not all come: the client has yet to be judged.
pub const AWAITED: &str = "-proxy-awaited";

/// What was passed to this process.
#[derive(Debug, Default)]
pub struct Passed {
    /// Sockets to accept from.
    pub listeners: Vec<Listener>,
    /// Clients of an earlier daemon that still wait, by the names they were stored under, in their order.
    pub held: Vec<StoredClient>,
    /// What the earlier daemon wrote down, and its name in the store.
    pub state: Option<OwnedFd>,
    /// Names of what another version has stored and this one does not know; closed.
    pub unknown: Vec<String>,
}

/// What is known of a stored client's PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preamble {
    /// It has none, or it was taken.
    None,
    /// It is still to be taken.
    Whole,
    /// It had not all come.
    Awaited,
}

/// A client that an earlier daemon has left in the manager's store.
#[derive(Debug)]
pub struct StoredClient {
    /// Its name in the store.
    pub name: String,
    /// Its place in the order of waiting.
    pub ticket: u64,
    /// Microseconds that it had waited then.
    pub waited_usec: u64,
    /// Key of its listener.
    pub listener: u64,
    /// Its PROXY header.
    pub preamble: Preamble,
    /// The connection.
    pub fd: ClientFd,
}

impl StoredClient {
    fn new(name: &str, fd: ClientFd) -> Option<StoredClient> {
        let (ticket, waited_usec, listener, preamble) = stored(name)?;
        Some(StoredClient { name: name.into(), ticket, waited_usec, listener, preamble, fd })
    }
}

/// More clients than any daemon accepts: a million a second for 285 years. A ticket beyond it was made up.
const LAST_TICKET: u64 = 1 << 53;

/// Ticket, waited time, listener and header of the client that is stored under this name: as we write it, so that no client has two. Whoever
/// is told more of, by another version, may not be ready to be served.
pub(super) fn stored(name: &str) -> Option<(u64, u64, u64, Preamble)> {
    let numbers = name.strip_prefix(HELD)?;
    let suffixes = [(AWAITED, Preamble::Awaited), (HEADED, Preamble::Whole)];
    let (numbers, preamble) = suffixes
        .into_iter()
        .find_map(|(suffix, preamble)| Some((numbers.strip_suffix(suffix)?, preamble)))
        .unwrap_or((numbers, Preamble::None));
    let mut parts = numbers.split('-').map(|part| part.parse::<u64>().ok());
    let (ticket, waited_usec, listener) = (parts.next()??, parts.next()??, parts.next()??);
    let is_ours = numbers == format!("{ticket}-{waited_usec}-{listener}") && ticket <= LAST_TICKET;
    is_ours.then_some((ticket, waited_usec, listener, preamble))
}

/// The descriptors that `LISTEN_FDS` counts, each with its name of `LISTEN_FDNAMES`.
///
/// # Errors
/// One line that names the variable.
pub(super) fn named(count: &str, names: &str) -> Result<Vec<(i32, String)>, String> {
    let number: usize =
        count.parse().ok().filter(|n| *n <= MAX_PASSED).ok_or_else(|| {
            format!("cannot adopt sockets: LISTEN_FDS={count} is not a number from 0 to {MAX_PASSED}")
        })?;
    let mut names = names.split(':');
    let mut name = || names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
    Ok((0..number).map(|i| (START + i as i32, name())).collect())
}

/// Whether `LISTEN_PID` names this process.
fn is_for_us() -> bool {
    env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

/// Whether `LISTEN_PIDFDID` does, which systemd sets since version 258: a pid may be another process's by now.
fn is_same_process() -> bool {
    env::var("LISTEN_PIDFDID").map_or(true, |id| match process::own_pidfd_inode() {
        Some(own) => id.parse() == Ok(own),
        None => true,
    })
}

/// Why [`from_environment`] found no sockets, in one line that says what to do.
pub fn why_none() -> String {
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    if !count.is_empty() && count != "0" {
        let own = std::process::id();
        let remedy = "unset LISTEN_FDS, or start sockcap by its socket unit";
        return match env::var("LISTEN_PID").ok().filter(|pid| !pid.is_empty()) {
            Some(pid) if is_for_us() => {
                format!("LISTEN_FDS={count} is for an earlier process {pid} (LISTEN_PIDFDID): {remedy}")
            }
            Some(pid) => format!(
                "LISTEN_FDS={count} is for process {pid}, this is {own}: start sockcap by `exec`, not as a child of the process that systemd started"
            ),
            None => {
                format!("LISTEN_FDS={count} is for no process, since LISTEN_PID is not set: {remedy}")
            }
        };
    }
    // With Accept=no and one of these systemd passes neither LISTEN_FDS nor what an earlier daemon stored (systemd.exec(5)), and
    // what a command writes to stderr goes into the listening socket. So the line is named, and the socket not adopted.
    let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [(&str, &dyn AsFd); 3] =
        [("StandardInput", &input), ("StandardOutput", &output), ("StandardError", &error)];
    let is_listening = |fd: BorrowedFd| socket::is_listening(fd).unwrap_or(false);
    if let Some((name, _)) = streams.iter().find(|(_, stream)| is_listening(stream.as_fd())) {
        return format!(
            "the listening socket was passed by {name}=socket, which is for Accept=yes: remove that line from the service"
        );
    }
    if matches!(socket::domain(input.as_fd()), Ok(libc::AF_INET | libc::AF_INET6 | libc::AF_VSOCK)) {
        return "stdin is a connection, not a listening socket: the socket unit needs Accept=no".into();
    }
    "no listening sockets were passed and no --listen was given: start the .socket unit, or give --listen".into()
}

/// The sockets passed to this process; empty if none were. Call it once, before threads exist.
///
/// # Errors
/// One line that names the variable or the descriptor.
pub fn from_environment() -> Result<Passed, String> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(Passed::default()) };
    if !is_for_us() || !is_same_process() {
        return Ok(Passed::default());
    }
    let all = named(&count, &env::var("LISTEN_FDNAMES").unwrap_or_default())?;
    for (fd, name) in &all {
        // Asked of each before any is owned, so that a hole is named and not just counted.
        if !process::is_open(*fd) {
            return Err(format!("cannot adopt fd {fd} '{name}': LISTEN_FDS={count}, but it is closed"));
        }
    }
    let received = libsystemd::activation::receive_descriptors(false)
        .map_err(|error| format!("cannot adopt the {count} sockets of LISTEN_FDS: {error}"))?;
    let mut all_passed = Passed::default();
    for (passed, (fd, name)) in received.into_iter().zip(all) {
        let unfit = |why: super::AdoptError| format!("cannot adopt fd {fd} '{name}': {why}");
        let owned = socket::adopt(passed.into_raw_fd()).map_err(|error| unfit(error.into()))?;
        if name == STATE {
            all_passed.state = Some(owned);
        } else if name.starts_with(HELD) {
            match StoredClient::new(&name, ClientFd::new(owned, true)) {
                Some(client) => all_passed.held.push(client),
                None => all_passed.unknown.push(name),
            }
        } else {
            match Listener::new(owned, name.clone()) {
                Ok(listener) => all_passed.listeners.push(listener),
                Err(_) if name.starts_with(OURS) => all_passed.unknown.push(name),
                Err(why) => return Err(unfit(why)),
            }
        }
    }
    all_passed.held.sort_unstable_by_key(|stored| stored.ticket);
    Ok(all_passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_by_the_name_that_it_was_stored_under() {
        let key = u64::MAX;
        for (name, client) in [
            (format!("sockcap-held-7-1500-{key}"), (7, 1500, key, Preamble::None)),
            ("sockcap-held-0-0-1-proxy".into(), (0, 0, 1, Preamble::Whole)),
            (format!("sockcap-held-{}-3-1-proxy-awaited", 1u64 << 53), (1 << 53, 3, 1, Preamble::Awaited)),
        ] {
            assert_eq!(stored(&name), Some(client), "{name}");
        }
        for made_up in
            ["", "7", "7-8", "x-8-9", "+7-8-9", "07-8-9", "7-8-9-10", "7-8-9-new", "7-8--9", "9007199254740993-8-9"]
        {
            assert_eq!(stored(&format!("{HELD}{made_up}")), None, "{made_up}");
        }
    }

    #[test]
    fn each_descriptor_has_a_name() {
        let of =
            |count: &str, names: &str| named(count, names).map(|all| all.into_iter().map(|(_, name)| name).collect());
        let all = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of("2", "a:b"), all(&["a", "b"]));
        assert_eq!(of("3", "a::b"), all(&["a", "unknown", "b"]));
        assert_eq!(of("2", ""), all(&["unknown", "unknown"]));
        assert_eq!(of("0", "a"), all(&[]));
        assert_eq!(named("2", "a:b").unwrap(), [(3, "a".to_owned()), (4, "b".to_owned())]);
        for bad in ["", "-1", "x", "65537", "99999999999999999999"] {
            assert!(named(bad, "").is_err(), "{bad}");
        }
    }
}
