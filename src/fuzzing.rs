//! All that reads bytes from outside, entered with any bytes: the fuzzer of `fuzz/` does, and a test with those that it has kept.
//!
//! Each target holds its code to more than that it does not panic: to its bounds, to the same answer however its bytes come in pieces,
//! to reading again what it writes. None of this is in the programs: it is compiled for tests and for the fuzzer alone.
#![forbid(unsafe_code)]

pub(crate) mod bytes;

use crate::cli::{self, Task};
use crate::daemon::settings::Settings;

/// Something that reads bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// By which `fuzz/run.sh` and the folders of the corpus know it.
    pub name: &'static str,
    /// Enters it. Panics if it does not keep what it promises.
    pub enter: fn(&[u8]),
    /// Bytes that it is entered with at most.
    pub longest: usize,
    /// Bytes of memory that it takes at most, its checks included.
    pub memory: usize,
}

const fn target(name: &'static str, enter: fn(&[u8]), longest: usize, memory: usize) -> Target {
    Target { name, enter, longest, memory }
}

/// Daemons that are asked, for the rules that limits have beside each other.
const STARTED: [&[&str]; 3] = [
    &["sockcap", "--", "/bin/true"],
    &["sockcap", "--when-full=wait", "--exempt=::1", "--reserved=3", "--", "/bin/true"],
    &["sockcap", "--isolate=cgroup", "--slot-until=cgroup", "--uid-pool=70000-70099", "--", "/bin/true"],
];

fn control(data: &[u8]) {
    thread_local!(static SETTINGS: Vec<Settings> = STARTED.map(|words| match cli::parse(words.iter().map(Into::into)) {
        Ok(Task::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }).into());
    SETTINGS.with(|started| crate::daemon::fuzz::control(data, started));
}

/// All of them.
pub static TARGETS: [Target; 13] = [
    target("answers", crate::ctl::fuzz::answers, 1500, 2 << 20),
    target("control", control, 700, 1 << 20),
    target("environ", crate::child::fuzz::found, 500, 256 << 10),
    target("http", crate::daemon::fuzz::http, 500, 1 << 20),
    target("options", crate::cli::fuzz::options, 200, 2 << 20),
    target("passed", crate::listen::fuzz::passed, 200, 8 << 20),
    target("proxy", crate::listen::fuzz::proxy, 4200, 64 << 10),
    target("reply", crate::reply::fuzz::reply, 700, 256 << 10),
    target("shown", crate::ctl::check::fuzz::shown, 400, 1 << 20),
    target("state", crate::daemon::fuzz::state, 200, 1 << 20),
    target("stderr", crate::observe::stream::fuzz::stderr, 500, 4 << 20),
    target("template", crate::child::template::fuzz::template, 200, 64 << 10),
    target("units", crate::ctl::convert::fuzz::units, 1500, 1 << 20),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Bytes of all that is kept, which everybody who clones the repository has to take.
    const MOST: u64 = 1 << 20;

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let all = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
        all.map(|entry| entry.unwrap().path()).collect()
    }

    /// Names the input that a target fails with.
    struct Named<'a>(&'a Path);

    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("with the input {}", self.0.display());
            }
        }
    }

    fn replay(folder: &Path, target: &Target) -> usize {
        let files = files(folder);
        for path in &files {
            let _named = Named(path);
            let bytes = fs::read(path).unwrap();
            assert!(
                bytes.len() <= target.longest,
                "{} bytes, and {} takes {}",
                bytes.len(),
                target.name,
                target.longest
            );
            (target.enter)(&bytes);
        }
        files.len()
    }

    /// Without libFuzzer, and without its coverage: what was found once stays found.
    #[test]
    fn what_the_fuzzer_has_kept_is_replayed() {
        for target in &TARGETS {
            let kept = replay(&folder("corpus").join(target.name), target);
            assert!(
                (10..=400).contains(&kept),
                "{} has {kept} inputs: fuzz/run.sh --merge makes them few",
                target.name
            );
        }
        for folder in files(&folder("regressions")).into_iter().filter(|path| path.is_dir()) {
            let name = folder.file_name().unwrap();
            let target = TARGETS.iter().find(|target| target.name == name);
            replay(&folder, target.unwrap_or_else(|| panic!("{}: no such target", folder.display())));
        }
    }

    #[test]
    fn each_target_has_a_corpus_and_a_line_in_its_table() {
        let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        let readme = fs::read_to_string(folder("README.md")).unwrap();
        let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<_>>(), names);
        let folders = files(&folder("corpus"));
        let size: u64 =
            folders.iter().flat_map(|folder| files(folder)).map(|path| path.metadata().unwrap().len()).sum();
        assert!(size <= MOST, "{size} bytes are more than {MOST}: fuzz/run.sh --merge makes them fewer");
        let folders = folders.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        assert_eq!(folders.collect::<BTreeSet<_>>(), names);
    }
}
