//! From a pair of units with Accept=yes to one that runs sockcap.
//!
//! `find` reads the pair, `render` converts it, which is a function of texts, and here the result is written.
#![forbid(unsafe_code)]

mod busy;
mod command;
mod find;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod limits;
mod names;
mod pair;
mod render;
mod sandbox;
mod service;
mod socket;
mod span;
mod unit;
mod words;

use super::failure::Failure;
use super::globals::Globals;
use super::output;
use crate::sys::plain;
use find::{Folders, Missing, own_slice, printed_unit};
use names::Names;
use pair::Pair;
use render::Converted;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A unit with Accept=yes: its name, or the path of its file
    #[arg(value_name = "FOO.socket")]
    pub socket: String,

    /// Write the two units into this directory, instead of to stdout
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Replace units that are already in that directory
    #[arg(long, requires = "output")]
    pub force: bool,

    /// Read the units of the system in this directory, as of a container or an image
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Carries it out. What cannot be carried over is on stderr.
///
/// # Errors
/// One line.
pub fn run(options: &Options, globals: &Globals) -> Result<(), Failure> {
    let pair = read(options, globals)?;
    let converted = render::convert(&pair).map_err(Failure::failed)?;
    if globals.json {
        let unit = |(name, text): &(String, String)| serde_json::json!({ "name": name, "text": text });
        let json = serde_json::json!({
            "socket": unit(&converted.socket),
            "service": unit(&converted.service),
            "files": pair.files,
            "notes": converted.notes,
        });
        if options.output.is_none() {
            return output::print(&format!("{json}\n"));
        }
        write(options, &converted)?;
        return output::print(&format!("{json}\n"));
    }
    converted.notes.iter().for_each(|note| output::complain(note));
    let both = [&converted.socket, &converted.service];
    let Some(folder) = &options.output else {
        let texts = both.map(|(name, text)| format!("# ---- {name} ----\n{text}"));
        return output::print(&texts.join("\n"));
    };
    write(options, &converted)?;
    let names = both.map(|(name, _)| format!("{}\n", folder.join(name).display()));
    output::print(&names.concat())
}

fn read(options: &Options, globals: &Globals) -> Result<Pair, Failure> {
    let given = Path::new(&options.socket);
    let name = given.file_name().and_then(|name| name.to_str()).unwrap_or(&options.socket);
    let names = Names::parse(name).map_err(Failure::usage)?;
    let is_path = options.socket.contains('/');
    if is_path && options.root.is_some() {
        return Err(Failure::usage(
            "--root takes the name of a unit, not a path: the unit is looked for below that directory",
        ));
    }
    let manager = ["/run/systemd/system", "/run/systemd/private"].iter().any(|path| Path::new(path).exists());
    if !is_path && options.root.is_none() && (manager || globals.user) {
        if let Some(pair) = ask_manager(&names, globals.user)? {
            return Ok(pair);
        }
    }
    let folder =
        is_path.then(|| given.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned());
    if is_path && !given.exists() {
        return Err(Failure::not_running(format!("there is no file {}", given.display())));
    }
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    if !root.is_dir() {
        return Err(Failure::usage(format!("--root {}: there is no such directory", root.display())));
    }
    Folders::new(root, globals.user, folder).pair(&names, globals.user).map_err(|missing| match missing {
        Missing::Unit(why) => Failure::not_running(why),
        Missing::Unusable(why) => Failure::failed(why),
    })
}

/// As systemd sees the pair, aliases and generated units included. `None` if there is no systemctl.
fn ask_manager(names: &Names, is_user: bool) -> Result<Option<Pair>, Failure> {
    let cat = |unit: &str| {
        let mut systemctl = Command::new("systemctl");
        systemctl.args(is_user.then_some("--user")).args(["--no-pager", "cat", "--", unit]).env("LC_ALL", "C");
        systemctl.output()
    };
    let mut files = Vec::new();
    let mut unit = |name: &str| match cat(name) {
        Err(_) => Ok(None),
        Ok(done) if done.status.success() => {
            let unit = printed_unit(name, &String::from_utf8_lossy(&done.stdout), &mut files);
            Ok(Some(unit).filter(|unit| !unit.is_empty()))
        }
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
    };
    let missing =
        |name: &str, why: &str| format!("there is no unit {name}: systemctl cat says: {}", why.replace('\n', "; "));
    let (socket, service) = (names.socket(), names.service());
    let socket = match unit(&socket) {
        Ok(None) => return Ok(None),
        Ok(Some(unit)) => unit,
        Err(why) => return Err(Failure::not_running(missing(&socket, &why))),
    };
    let service = match unit(&service) {
        Ok(Some(unit)) => unit,
        Ok(None) => return Err(Failure::failed(format!("{service} is masked or empty"))),
        // A socket with Accept=no has another service, which is the better message.
        Err(_) if !socket::accepts(&socket) => unit::Unit::default(),
        Err(why) => return Err(Failure::failed(missing(&service, &why))),
    };
    let slice = service.get("Service", "Slice").map_or_else(|| own_slice(&names.prefix), str::to_owned);
    let slice = unit(&slice).ok().flatten();
    Ok(Some(Pair { names: names.clone(), socket, service, slice, files, is_user }))
}

fn write(options: &Options, converted: &Converted) -> Result<(), Failure> {
    let Some(folder) = &options.output else { return Ok(()) };
    let both = [&converted.socket, &converted.service].map(|(name, text)| (folder.join(name), text));
    let is_kept = |path: &Path| !options.force && fs::symlink_metadata(path).is_ok();
    if let Some((path, _)) = both.iter().find(|(path, _)| is_kept(path)) {
        return Err(Failure::failed(format!("{} is already there; --force replaces it", path.display())));
    }
    for (path, text) in both {
        let cannot = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => {
                Failure::failed(format!("cannot write {}: there is no such directory", path.display()))
            }
            _ => Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error))),
        };
        // Whole, or not at all.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new).map_err(cannot)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&new, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(cannot(error));
        }
    }
    Ok(())
}
