//! Where units are: as `systemctl cat` says, or in the folders that systemd looks through (systemd.unit(5)).
#![forbid(unsafe_code)]

use super::names::Names;
use super::pair::Pair;
use super::socket::accepts;
use super::unit::Unit;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The system manager's, the first wins.
const SYSTEM: [&str; 12] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// A user's manager, after those in the home and runtime directory.
const USER: [&str; 5] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
    "/usr/local/share/systemd/user",
];
/// No unit is that large; a file that is would be something else.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No such unit.
    Unit(String),
    /// It is there, and cannot be used.
    Unusable(String),
}

/// Folders with units.
#[derive(Clone, Debug)]
pub struct Folders {
    root: PathBuf,
    all: Vec<PathBuf>,
}

impl Folders {
    /// Those of the system, or of this user, below `root`; `first` before all others.
    pub fn new(root: &Path, is_user: bool, first: Option<PathBuf>) -> Self {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let of_user = || {
            let env = |name| std::env::var(name).ok().filter(|path| path.starts_with('/'));
            let config = env("XDG_CONFIG_HOME").or_else(|| env("HOME").map(|home| home + "/.config"));
            let data = env("XDG_DATA_HOME").or_else(|| env("HOME").map(|home| home + "/.local/share"));
            let runtime = env("XDG_RUNTIME_DIR");
            let own = [
                config.as_ref().map(|it| format!("{it}/systemd/user.control")),
                config.map(|it| format!("{it}/systemd/user")),
                runtime.map(|it| format!("{it}/systemd/user")),
                data.map(|it| format!("{it}/systemd/user")),
            ];
            own.into_iter().flatten()
        };
        let mut all: Vec<PathBuf> = first.into_iter().collect();
        if is_user {
            all.extend(of_user().map(|path| below(&path)));
        }
        all.extend(if is_user { &USER[..] } else { &SYSTEM[..] }.iter().map(|path| below(path)));
        Self { root: root.to_owned(), all }
    }

    /// A socket and its services, with drop-ins.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pair(&self, names: &Names, is_user: bool) -> Result<Pair, Missing> {
        let mut files = Vec::new();
        let names = &self.canonical(names);
        let socket = self.unit(&names.socket(), &mut files)?;
        let service = match self.unit(&names.service(), &mut files) {
            Err(Missing::Unit(why)) if accepts(&socket) => return Err(Missing::Unusable(why)),
            // A socket with Accept=no has another service, which is the better message.
            Err(Missing::Unit(_)) => Unit::default(),
            service => service?,
        };
        let slice = service.get("Service", "Slice").map_or_else(|| own_slice(&names.prefix), str::to_owned);
        let slice = self.unit(&slice, &mut files).or_else(|_| self.drop_ins_alone(&slice, &mut files)).ok();
        Ok(Pair { names: names.clone(), socket, service, slice, files, is_user })
    }

    /// An alias is a link to the unit that it is.
    fn canonical(&self, names: &Names) -> Names {
        let link = self.all.iter().map(|folder| folder.join(names.socket())).find_map(|path| fs::read_link(path).ok());
        let target = link.as_ref().and_then(|link| link.file_name()?.to_str()).filter(|name| name.ends_with(".socket"));
        target.and_then(|name| Names::parse(name).ok()).unwrap_or_else(|| names.clone())
    }

    fn unit(&self, name: &str, files: &mut Vec<String>) -> Result<Unit, Missing> {
        let found = self.all.iter().map(|folder| folder.join(name)).find(|path| fs::symlink_metadata(path).is_ok());
        let path = found.ok_or_else(|| Missing::Unit(format!("there is no unit {name} in {}", self.shown())))?;
        let text = self.read(&path).map_err(Missing::Unusable)?;
        let mut unit = Unit::default();
        unit.read(&text);
        if unit.is_empty() {
            return Err(Missing::Unusable(format!("{name} is masked or empty: {}", path.display())));
        }
        files.push(path.display().to_string());
        self.add_drop_ins(name, &mut unit, files);
        Ok(unit)
    }

    fn drop_ins_alone(&self, name: &str, files: &mut Vec<String>) -> Result<Unit, Missing> {
        let mut unit = Unit::default();
        self.add_drop_ins(name, &mut unit, files);
        if unit.is_empty() { Err(Missing::Unit(name.to_owned())) } else { Ok(unit) }
    }

    /// Of two with one name that in the first folder counts, and all are read in the order of their names.
    ///
    /// Those for all units of a type, or with a common prefix (`foo-.socket.d`), apply to the new unit by themselves.
    fn add_drop_ins(&self, name: &str, unit: &mut Unit, files: &mut Vec<String>) {
        let mut all: BTreeMap<String, PathBuf> = BTreeMap::new();
        for folder in &self.all {
            for entry in fs::read_dir(folder.join(format!("{name}.d"))).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().ok();
                if let Some(file) = name.filter(|file| file.ends_with(".conf")) {
                    all.entry(file).or_insert_with(|| entry.path());
                }
            }
        }
        for path in all.into_values() {
            if let Ok(text) = self.read(&path) {
                unit.read(&text);
                files.push(path.display().to_string());
            }
        }
    }

    /// A file below the root, whatever links lead to it.
    fn read(&self, path: &Path) -> Result<String, String> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Ok(link) = fs::read_link(&path) else { break };
            path = match link.strip_prefix("/") {
                Ok(inside) => self.root.join(inside),
                Err(_) => clean(&path.parent().unwrap_or(Path::new("/")).join(link)),
            };
        }
        let cannot = |why: String| format!("cannot read {}: {why}", path.display());
        if path == self.root.join("dev/null") {
            return Ok(String::new());
        }
        let about = fs::metadata(&path).map_err(|error| cannot(crate::sys::plain(&error)))?;
        if !about.is_file() || about.len() > MAX_FILE {
            return Err(cannot("it is no unit file".into()));
        }
        let bytes = fs::read(&path).map_err(|error| cannot(crate::sys::plain(&error)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn shown(&self) -> String {
        let is_there = |folder: &&PathBuf| folder.is_dir();
        let all: Vec<String> = self.all.iter().filter(is_there).map(|folder| folder.display().to_string()).collect();
        if all.is_empty() { format!("the folders of systemd below {}", self.root.display()) } else { all.join(", ") }
    }
}

/// Without `..` and `.`, as a path is meant whose folders are no links.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Where systemd puts the instances of a template that names no slice.
pub fn own_slice(prefix: &str) -> String {
    format!("system-{}.slice", prefix.replace('-', "\\x2d"))
}

/// What `systemctl cat` printed, in files: their paths and texts.
pub fn files_of(printed: &str) -> Vec<(String, String)> {
    let is_unit = |path: &str| {
        path.starts_with('/') && [".socket", ".service", ".slice", ".conf"].iter().any(|s| path.ends_with(s))
    };
    let mut files: Vec<(String, String)> = Vec::new();
    for line in printed.lines() {
        match line.strip_prefix("# ").filter(|path| is_unit(path) && !path.contains(' ')) {
            Some(path) => files.push((path.to_owned(), String::new())),
            None => {
                if let Some((_, text)) = files.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    files
}

/// The unit `name` of what `systemctl cat` printed for it, without drop-ins that apply to the new unit by themselves.
pub fn printed_unit(name: &str, printed: &str, files: &mut Vec<String>) -> Unit {
    let mut unit = Unit::default();
    for (path, text) in files_of(printed) {
        let folder = Path::new(&path).parent().and_then(|folder| folder.file_name()?.to_str()).unwrap_or_default();
        if !path.ends_with(".conf") || folder == format!("{name}.d") {
            unit.read(&text);
            files.push(path);
        }
    }
    unit
}

#[cfg(test)]
mod tests;
