//! How much of the time tasks are stalled (Linux, Documentation/accounting/psi.rst, since 4.20): of our own service, whose commands
//! they are, else of the whole system.
//!
//! Where the manager lets us watch a file (`MEMORY_PRESSURE_WATCH`, systemd 254; CPU and I/O since 261; systemd.io/MEMORY_PRESSURE), the
//! kernel tells as soon as the limit is reached, without waiting for the next reading.
#![forbid(unsafe_code)]

use super::cgroup;
use crate::policy::limit::pressure::EVENT_WINDOW;
use crate::policy::resource::Resource;
use crate::poll::{Poll, Watch};
use crate::sys::plain;
use nix::sys::epoll::EpollFlags;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Two lines of less than 100 bytes.
const MAX_FILE: usize = 256;

/// One resource that is looked at.
#[derive(Debug)]
struct Source {
    resource: Resource,
    /// In percent.
    max: f64,
    /// What is read; `None` once it is gone.
    file: Option<File>,
    /// What the kernel tells of: not the one that is read.
    watched: Option<File>,
}

/// A folder and the ending of the files in it.
pub type Folder = (String, &'static str);

/// All resources that are looked at.
#[derive(Debug, Default)]
pub struct Pressure {
    folders: Vec<Folder>,
    sources: Vec<Source>,
    lost: Vec<(Resource, io::Error)>,
}

/// Where pressure may be read, the nearest first: our own cgroup's folder, if it is ours alone, and the system's.
pub fn folders() -> Vec<Folder> {
    let own = cgroup::own_folder().map(|folder| (folder, ".pressure"));
    own.into_iter().chain([("/proc/pressure".to_owned(), "")]).collect()
}

impl Pressure {
    /// Opens what tells of these resources, each with its limit in percent, in the first of `folders` that has it.
    ///
    /// # Errors
    /// One line, if one is nowhere to be read.
    pub fn open(limits: &[(Resource, f64)], folders: Vec<Folder>) -> Result<Pressure, String> {
        let source = |(resource, max): &(Resource, f64)| match open(*resource, &folders) {
            Ok(file) => Ok(Source { resource: *resource, max: *max, file: Some(file), watched: None }),
            Err(error) => Err(format!(
                "cannot read how much {resource} pressure there is (--max-pressure): {}; the kernel needs CONFIG_PSI and psi=1, and the service may not hide /proc/pressure",
                plain(&error)
            )),
        };
        let sources = limits.iter().map(source).collect::<Result<_, _>>()?;
        Ok(Pressure { folders, sources, lost: Vec::new() })
    }

    /// Has the poll set tell of the limits that are reached, where the manager lets us.
    pub fn watch(&mut self, poll: &Poll) {
        for source in &mut self.sources {
            let watch = Watch::Pressure(source.resource as u32);
            let flags = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
            let watched = watched(source.resource, source.max);
            source.watched = watched.filter(|file| poll.add(file, watch, flags).is_ok());
        }
    }

    /// What the kernel tells with an event: that a limit was reached, or that the file is gone.
    pub fn told(&mut self, number: u32, poll: &Poll) -> Option<Resource> {
        let source = self.sources.iter_mut().find(|source| source.resource as u32 == number)?;
        if level(source.watched.as_ref()?).is_err() {
            let _ = poll.delete(source.watched.take()?);
            return None;
        }
        Some(source.resource)
    }

    /// Percent of the last 10 seconds in which some tasks were stalled, by [`Resource`]; `None` for one that cannot be read.
    pub fn read(&mut self) -> [Option<f64>; 3] {
        let mut levels = [None; 3];
        let Pressure { folders, sources, lost } = self;
        for Source { resource, file, .. } in sources {
            let Some(current) = file else { continue };
            let read = level(current).or_else(|_| {
                // A cgroup's files come and go with cgroup.pressure (cgroup-v2.rst); those that are open stay dead.
                *current = open(*resource, folders)?;
                level(current)
            });
            match read {
                Ok(level) => levels[*resource as usize] = Some(level),
                Err(error) => {
                    *file = None;
                    lost.push((*resource, error));
                }
            }
        }
        levels
    }

    /// A resource that cannot be read any more, and why: each is told once.
    pub fn next_lost(&mut self) -> Option<(Resource, io::Error)> {
        self.lost.pop()
    }
}

/// Without psi=1 the files of cgroups are there, and reading them fails.
fn open(resource: Resource, folders: &[Folder]) -> io::Result<File> {
    let mut why = io::Error::from_raw_os_error(libc::ENOENT);
    for (folder, ending) in folders {
        let path = format!("{folder}/{}{ending}", resource.name());
        match File::open(path).and_then(|file| level(&file).map(|_| file)) {
            Ok(file) => return Ok(file),
            Err(error) => why = error,
        }
    }
    Err(why)
}

fn level(file: &File) -> io::Result<f64> {
    let mut text = [0; MAX_FILE];
    let len = file.read_at(&mut text, 0)?;
    some_avg10(&text[..len]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Of `some avg10=1.23 avg60=...`.
pub(super) fn some_avg10(text: &[u8]) -> Option<f64> {
    let line = std::str::from_utf8(text).ok()?.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    line.split(' ').next()?.parse().ok().filter(|level| (0.0..=100.0).contains(level))
}

/// The file that the manager gives us to watch, with our limit as its threshold, not the manager's. Its absence is no loss but of
/// time: without CAP_SYS_RESOURCE the kernel takes none before Linux 6.5. Nothing but such a file is written to.
fn watched(resource: Resource, max: f64) -> Option<File> {
    let path = env::var(format!("{}_PRESSURE_WATCH", resource.name().to_ascii_uppercase())).ok()?;
    if !path.starts_with("/proc/pressure/") && !path.ends_with(&format!("/{}.pressure", resource.name())) {
        return None;
    }
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    level(&file).ok()?;
    let window = EVENT_WINDOW.as_micros();
    let stalled = (window as f64 * max / 100.0) as u64;
    file.write_all(format!("some {stalled} {window}\0").as_bytes()).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read_and_nothing_else() {
        let of = |text: &str| some_avg10(text.as_bytes());
        let rest = "avg60=0.10 avg300=0.00 total=12345\n";
        assert_eq!(of(&format!("some avg10=1.23 {rest}full avg10=0.50 {rest}")), Some(1.23));
        assert_eq!(of(&format!("full avg10=0.50 {rest}some avg10=100.00 {rest}")), Some(100.0));
        for bad in [
            "",
            "some",
            "some avg10=",
            "some avg10=x y",
            "some avg10=-1 ",
            "some avg10=100.1 ",
            "some avg10=nan ",
            "full avg10=1.00 ",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(some_avg10(b"some avg10=\xff"), None);
    }

    #[test]
    fn the_nearest_that_can_be_read_is_asked() {
        let dir = std::env::temp_dir().join(format!("sockcap-pressure-{}", std::process::id()));
        let (own, system) = (dir.join("own"), dir.join("system"));
        [&own, &system].into_iter().for_each(|dir| std::fs::create_dir_all(dir).unwrap());
        let line = |level: &str| format!("some avg10={level} avg60=0.00 avg300=0.00 total=0\n");
        std::fs::write(own.join("memory.pressure"), line("1.00")).unwrap();
        std::fs::write(own.join("io.pressure"), "").unwrap();
        std::fs::write(system.join("memory"), line("2.00")).unwrap();
        std::fs::write(system.join("io"), line("3.00")).unwrap();
        let folders = vec![(own.to_str().unwrap().to_owned(), ".pressure"), (system.to_str().unwrap().to_owned(), "")];
        let limits = [(Resource::Memory, 10.0), (Resource::Io, 10.0)];
        let mut pressure = Pressure::open(&limits, folders.clone()).unwrap();
        assert_eq!(pressure.read(), [None, Some(1.0), Some(3.0)]);
        std::fs::write(system.join("io"), line("4.00")).unwrap();
        std::fs::write(own.join("memory.pressure"), "gone").unwrap();
        assert_eq!(pressure.read(), [None, Some(2.0), Some(4.0)], "another file has it");
        assert!(pressure.next_lost().is_none());
        std::fs::write(system.join("memory"), "gone").unwrap();
        for _ in 0..2 {
            assert_eq!(pressure.read(), [None, None, Some(4.0)]);
        }
        assert_eq!(pressure.next_lost().map(|(resource, _)| resource), Some(Resource::Memory));
        assert!(pressure.next_lost().is_none(), "once");
        let error = Pressure::open(&[(Resource::Cpu, 10.0)], folders).unwrap_err();
        assert!(
            error.starts_with("cannot read how much CPU pressure there is (--max-pressure): No such file"),
            "{error}"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
