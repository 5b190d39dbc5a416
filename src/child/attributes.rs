//! What each command gets of its own as a process, from options to what its child does; tried once, at the start, so that what would fail
//! for every client is told before the first.
#![forbid(unsafe_code)]

use super::rlimit::{Limit, name_of, shown};
use crate::sys::attributes::{Attributes, Stderr, Step};
use crate::sys::launch::StandardError;
use crate::sys::trial::{self, Refused};
use crate::sys::{errno_words, plain};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is set for commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `--stderr`.
    pub stderr: StandardError,
    /// `--nice`, from -20 to 19.
    pub nice: Option<i32>,
    /// `--oom-score-adjust`, from -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `--limit`, each resource once.
    pub limits: Vec<Limit>,
    /// `--umask`, at most 0777.
    pub umask: Option<u32>,
    /// `--chdir`, an absolute path.
    pub directory: Option<PathBuf>,
}

impl Wanted {
    /// Whether there is such a directory, which is a mistake of whoever has typed it.
    ///
    /// # Errors
    /// One line that names it.
    pub fn look_for_directory(&self) -> Result<(), String> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let why = match std::fs::metadata(directory) {
            Ok(about) if about.is_dir() => return Ok(()),
            Ok(_) => "it is not a directory".to_owned(),
            Err(error) => plain(&error),
        };
        Err(format!("cannot start commands in '{}' (--chdir): {why}", directory.display()))
    }

    /// Whether commands have a limit of this name.
    pub fn limits_any(&self, name: &str) -> bool {
        self.limits.iter().any(|limit| limit.resource.name == name)
    }

    /// Makes ready what a child needs for it. A copy of this process tries it and ends: call it before there are threads.
    ///
    /// # Errors
    /// One line that names the option that no command could have, and the remedy.
    pub fn prepare(&self) -> Result<Attributes, String> {
        let stderr = match self.stderr {
            // Each gets a pipe of its own, unless there is none to be had.
            StandardError::Inherit | StandardError::Stream => Stderr::Inherit,
            StandardError::Socket => Stderr::Connection,
            StandardError::Null => {
                let null = OpenOptions::new().write(true).open("/dev/null");
                let cannot = |error| format!("cannot open /dev/null (--stderr null): {}", plain(&error));
                Stderr::Descriptor(null.map_err(cannot)?.into())
            }
        };
        let directory = self.directory.as_ref().map(|path| CString::new(path.as_os_str().as_bytes()));
        let attributes = Attributes {
            stderr,
            limits: self.limits.iter().map(|limit| (limit.resource.number(), limit.soft, limit.hard)).collect(),
            nice: self.nice,
            umask: self.umask,
            directory: directory.transpose().map_err(|_| "the path of --chdir contains a NUL")?,
            ..Attributes::default()
        };
        let is_tried =
            !self.limits.is_empty() || self.nice.or(self.oom_score_adj).is_some() || self.directory.is_some();
        if is_tried {
            trial::run(&attributes, self.oom_score_adj).map_err(|refused| self.explain(&refused))?;
        }
        Ok(attributes)
    }

    fn explain(&self, refused: &Refused) -> String {
        match refused {
            Refused::Step(step, errno) => self.explain_step(*step, *errno),
            Refused::Score(errno) => {
                let what = format!("oom_score_adj {} (--oom-score-adjust)", self.oom_score_adj.unwrap_or_default());
                let remedy = (*errno == libc::EACCES).then_some(
                    "one below sockcap's own needs CAP_SYS_RESOURCE; OOMScoreAdjust= of the service sets sockcap's own",
                );
                cannot_give(&what, *errno, remedy)
            }
            Refused::Untried(why) => {
                format!("cannot try what commands get (--nice, --oom-score-adjust, --limit, --chdir): {why}")
            }
        }
    }

    fn explain_step(&self, step: Step, errno: i32) -> String {
        match step {
            Step::Limit(number) => {
                let limit = self.limits.iter().find(|limit| limit.resource.number() == number);
                let what = limit.map_or(name_of(number).to_owned(), Limit::to_string);
                let remedy = limit.filter(|_| errno == libc::EPERM).map(remedy);
                cannot_give(&format!("limit {what} (--limit)"), errno, remedy.as_deref())
            }
            Step::Nice => {
                let remedy = match errno {
                    libc::EACCES => Some(
                        "one below sockcap's own needs CAP_SYS_NICE or LimitNICE=; Nice= of the service is for sockcap and its commands",
                    ),
                    // Whoever asks for one of its own is never refused so by the kernel itself.
                    libc::EPERM => {
                        Some("a filter forbids it; SystemCallFilter=setpriority of the service lets it through")
                    }
                    _ => None,
                };
                cannot_give(&format!("nice value {} (--nice)", self.nice.unwrap_or_default()), errno, remedy)
            }
            Step::Directory => {
                let directory = self.directory.clone().unwrap_or_default();
                format!("cannot start commands in '{}' (--chdir): {}", directory.display(), errno_words(errno))
            }
            step => format!("cannot start commands ({step:?}): {}", errno_words(errno)),
        }
    }
}

fn cannot_give(what: &str, errno: i32, remedy: Option<&str>) -> String {
    let remedy = remedy.map_or(String::new(), |remedy| format!(": {remedy}"));
    format!("cannot give commands the {what}: {}{remedy}", errno_words(errno))
}

/// What lets a process have this limit, since it may not.
fn remedy(limit: &Limit) -> String {
    let name = limit.resource.name;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(most) = most.filter(|most| name == "nofile" && limit.hard > *most) {
        return format!("no process may have more than {most} (sysctl fs.nr_open)");
    }
    let ours = limit.resource.of_this_process().map_or("unknown".to_owned(), |(_, hard)| shown(hard));
    format!(
        "a hard limit above sockcap's own, {ours}, needs CAP_SYS_RESOURCE; Limit{}= of the service raises it",
        name.to_uppercase()
    )
}
