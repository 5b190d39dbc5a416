//! `metrics`: what sockcap counts, in the text format of Prometheus.
#![forbid(unsafe_code)]

use super::ask;
use super::failure::Failure;
use super::globals::Globals;
use super::output;
use super::units::{self, Unit};
use crate::observe::metrics::{Dialect, write};
use crate::observe::snapshot::Snapshot;
use crate::sys::plain;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only these units
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,

    /// Write to FILE, for the textfile collector of node_exporter: whole, or not at all
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
}

/// Carries it out.
///
/// # Errors
/// One line. Of units that do not answer it is on stderr by then, and the others' metrics are written.
pub fn run(options: &Options, globals: &Globals) -> Result<(), Failure> {
    if globals.json {
        return match options.textfile {
            Some(_) => Err(Failure::usage("--textfile writes the text format of Prometheus: leave out --json")),
            None => {
                units::each(units::some_or_all(&options.units, globals)?, |unit| ask::describe_as_json(&unit, false))
            }
        };
    }
    let asked = match &options.textfile {
        // If nothing runs, the file must not go on saying what was.
        Some(_) if options.units.is_empty() => units::all(globals)?,
        _ => units::some_or_all(&options.units, globals)?,
    };
    let (snapshots, answered) = snapshots(&asked);
    let page = write(&snapshots, Dialect::Text004);
    match &options.textfile {
        Some(file) => replace(file, &page)?,
        None => output::print(&page)?,
    }
    answered
}

/// What these units are doing, each of them once, and whether all have answered.
pub fn snapshots(units: &[Unit]) -> (Vec<Snapshot>, Result<(), Failure>) {
    let mut snapshots: Vec<Snapshot> = Vec::with_capacity(units.len());
    let answered = units::each(units, |unit| {
        let mut snapshot = ask::describe(unit)?;
        // Where its socket is has root arranged, or the manager; the rest is its own word, which could be another unit's name.
        let said = &snapshot.context.unit;
        let is_its_own = said.strip_suffix(".service").is_some_and(|said| said == unit.name);
        if said.is_empty() || !is_its_own && !unit.is_path() {
            snapshot.context.unit.clone_from(&unit.name);
        }
        // Nobody reads a page in which a series comes twice.
        if snapshots.iter().all(|other| other.context.unit != snapshot.context.unit) {
            snapshots.push(snapshot);
        }
        Ok(())
    });
    (snapshots, answered)
}

/// Puts a new file in the place of what is there: whoever reads it has the old one or the new one.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let Some(name) = file.file_name() else {
        return Err(Failure::usage(format!(
            "--textfile: '{}' is no name of a file, such as /var/lib/prometheus/node-exporter/sockcap.prom",
            file.display()
        )));
    };
    // Not one that node_exporter reads: its name does not end in .prom.
    let temporary = file.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary); // left by a process that had our number
        let mut out = File::options().write(true).create_new(true).mode(0o644).open(&temporary)?;
        // Whatever the umask: node_exporter is another user.
        out.set_permissions(Permissions::from_mode(0o644))?;
        out.write_all(text.as_bytes())?;
        fs::rename(&temporary, file)
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let folder = folder.display();
        let advice = match error.kind() {
            ErrorKind::NotFound => {
                format!(": create the directory {folder} first, or name the one that node_exporter reads")
            }
            ErrorKind::PermissionDenied => format!(": run it as a user who may write into {folder}"),
            ErrorKind::ReadOnlyFilesystem => format!(": name {folder} in ReadWritePaths= of the unit"),
            ErrorKind::IsADirectory => ": name a file in it".to_owned(),
            _ => String::new(),
        };
        Failure::failed(format!("cannot write '{}': {}{advice}", file.display(), plain(&error)))
    })
}
