//! Units that run sockcap, found by their control sockets: `/run/sockcap/UNIT/control.sock`, or below `$XDG_RUNTIME_DIR`.
#![forbid(unsafe_code)]

use super::failure::{Exit, Failure};
use super::globals::Globals;
use super::output;
use super::words::distinct;
use crate::sys::plain;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const SYSTEM: &str = "/run/sockcap";
const SOCKET: &str = "control.sock";

/// A unit, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// As it is called: without its suffix, or the path as it was given.
    pub name: String,
    /// Its control socket.
    pub path: PathBuf,
}

impl Unit {
    /// Whether it was named by the path of its socket.
    pub fn is_path(&self) -> bool {
        self.name.contains('/')
    }
}

/// Where units of this user, or of the system, have their sockets.
fn directory(globals: &Globals) -> Result<PathBuf, Failure> {
    let own = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(|dir| Path::new(&dir).join("sockcap"));
    if globals.user {
        return own
            .ok_or_else(|| Failure::failed("--user needs XDG_RUNTIME_DIR, which is not set: log in as the user"));
    }
    let is_own = || !nix::unistd::geteuid().is_root() && entries(Path::new(SYSTEM)).is_ok_and(|all| all.is_empty());
    Ok(own.filter(|_| is_own()).unwrap_or_else(|| SYSTEM.into()))
}

/// Those with a socket, sorted. There need be no directory.
fn entries(directory: &Path) -> Result<Vec<Unit>, Failure> {
    let all = match fs::read_dir(directory) {
        Ok(all) => all,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::failed(format!("cannot read {}: {}", directory.display(), plain(&error)))),
    };
    let names: Vec<String> = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let unit = |name: &str| {
        let unit = Unit { name: name.to_owned(), path: directory.join(name).join(SOCKET) };
        // Of a directory that nobody else may look into it is not known whether there is a socket: that it is forbidden is said.
        let is_there =
            fs::symlink_metadata(&unit.path).map_or_else(|e| e.kind() == ErrorKind::PermissionDenied, |_| true);
        is_there.then_some(unit)
    };
    Ok(distinct(names.iter().map(String::as_str)).into_iter().filter_map(unit).collect())
}

/// All that there are. None may be.
///
/// # Errors
/// If the directory of their sockets cannot be read.
pub fn all(globals: &Globals) -> Result<Vec<Unit>, Failure> {
    entries(&directory(globals)?)
}

/// The unit of this name, with or without its suffix; a name with a slash is the path of a socket.
///
/// # Errors
/// [`Exit::NotRunning`] with the names of those that run.
pub fn named(name: &str, globals: &Globals) -> Result<Unit, Failure> {
    if name.contains('/') {
        return Ok(Unit { name: name.to_owned(), path: name.into() });
    }
    let directory = directory(globals)?;
    let known = entries(&directory)?;
    let bare = [".service", ".socket"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    if let Some(unit) = known.iter().find(|unit| unit.name == bare) {
        return Ok(unit.clone());
    }
    let names: Vec<_> = known.into_iter().map(|unit| unit.name).collect();
    let others = match names.is_empty() {
        _ if fs::metadata(name).is_ok_and(|about| about.file_type().is_socket()) => {
            format!("for the socket in this directory, write ./{name}")
        }
        true => "no unit runs that has one".to_owned(),
        false => format!("units that run: {}", names.join(", ")),
    };
    let socket = directory.join(bare).join(SOCKET);
    Err(Failure::not_running(format!(
        "'{name}' is not running, or has no control socket: there is no {}; {others}",
        socket.display()
    )))
}

/// The one of this name, or else all.
///
/// # Errors
/// As of [`named`] and [`all`]; [`Exit::NotRunning`] if there is none.
pub fn one_or_all(name: Option<&str>, globals: &Globals) -> Result<Vec<Unit>, Failure> {
    some_or_all(name.as_slice(), globals)
}

/// Those of these names, or else all.
///
/// # Errors
/// As of [`one_or_all`].
pub fn some_or_all(names: &[impl AsRef<str>], globals: &Globals) -> Result<Vec<Unit>, Failure> {
    if !names.is_empty() {
        return names.iter().map(|name| named(name.as_ref(), globals)).collect();
    }
    let directory = directory(globals)?;
    match entries(&directory)? {
        none if none.is_empty() => {
            let sockets = directory.join("*").join(SOCKET);
            Err(Failure::not_running(format!("no unit runs sockcap: there is no {}", sockets.display())))
        }
        all => Ok(all),
    }
}

/// Does this for each; what fails is told, and the others go on.
///
/// # Errors
/// [`Exit::Partly`] if some failed; if all did, as the first of them.
pub fn each<T>(all: impl IntoIterator<Item = T>, mut run: impl FnMut(T) -> Result<(), Failure>) -> Result<(), Failure> {
    let (mut first, mut tried, mut failed) = (None, 0, 0);
    for one in all {
        tried += 1;
        match run(one) {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Done => return Err(failure),
            Err(failure) => {
                output::complain(&failure.line);
                failed += 1;
                first.get_or_insert(failure.exit);
            }
        }
    }
    match first {
        None => Ok(()),
        Some(exit) => Err(Failure { exit: if failed < tried { Exit::Partly } else { exit }, line: String::new() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_several() {
        let run = |exits: &[Exit]| {
            each(exits, |exit| match exit {
                Exit::Done => Ok(()),
                exit => Err(Failure { exit: *exit, line: String::new() }),
            })
            .map_err(|failure| failure.exit)
        };
        assert_eq!(run(&[]), Ok(()));
        assert_eq!(run(&[Exit::Done, Exit::Done]), Ok(()));
        assert_eq!(run(&[Exit::Done, Exit::Failed]), Err(Exit::Partly));
        assert_eq!(run(&[Exit::NotRunning, Exit::Failed]), Err(Exit::NotRunning));
    }

    #[test]
    fn a_path_is_a_socket() {
        let unit = named("./x.sock", &Globals::default()).unwrap();
        assert_eq!((unit.name.as_str(), unit.path), ("./x.sock", "./x.sock".into()));
    }
}
