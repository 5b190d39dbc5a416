//! Finding the program once, at start, so that a command that cannot run is refused then; and why one could not, if that shows
//! later.
#![forbid(unsafe_code)]

use super::rlimit::name_of;
use crate::sys::attributes::Step;
use crate::sys::exec::{HEAD, executable};
use crate::sys::{errno_words, plain};
use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Resolves a command's first word: with a slash it is a path, else it is looked for in PATH (execvp(3)).
///
/// # Errors
/// One line that names the word and what was wrong with it.
pub fn find(word: &OsStr) -> Result<CString, String> {
    let shown = word.to_string_lossy();
    let text = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        CString::new(absolute.into_os_string().into_vec())
            .map_err(|_| format!("cannot run '{shown}': it contains a NUL"))
    };
    if word.is_empty() {
        return Err("cannot run '': no command was given".into());
    }
    let fit = |path: CString| match unfit(&path) {
        Some(why) => Err(format!("cannot run '{shown}': {why}")),
        None => Ok(path),
    };
    if word.as_bytes().contains(&b'/') {
        let path = text(Path::new(word))?;
        executable(&path).map_err(|error| format!("cannot run '{shown}': {}", refusal(&path, &error)))?;
        return fit(path);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut refused = None;
    for folder in env::split_paths(&path) {
        let path = text(&folder.join(word))?;
        match executable(&path) {
            Ok(()) => return fit(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused = Some(refusal(&path, &error));
            }
            Err(_) => {}
        }
    }
    let path = path.to_string_lossy();
    Err(match refused {
        Some(why) => format!("cannot run '{shown}': {why} (found in PATH={path})"),
        None => format!("cannot run '{shown}': not found in PATH={path}"),
    })
}

/// Why [`executable`] refuses a file. `EACCES` has many reasons; those that the file itself shows are named.
fn refusal(path: &CStr, error: &io::Error) -> String {
    let file = Path::new(OsStr::from_bytes(path.to_bytes()));
    match std::fs::metadata(file) {
        Ok(about) if about.is_dir() => "is a directory".into(),
        Ok(about) if !about.is_file() => "is not a regular file".into(),
        Ok(about) if about.permissions().mode() & 0o111 == 0 => {
            format!("is not executable: chmod +x {}", file.display())
        }
        _ => plain(error),
    }
}

/// What the `#!` line of a script names.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    // As the kernel reads it (fs/binfmt_script.c).
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let words = line.split(blank).filter(|word| !word.is_empty());
    Some(words.into_iter().next().unwrap_or_default())
}

/// Why a command could not be started, whose child failed at this step.
pub fn why_not_started(step: Step, errno: i32, head: Option<&[u8]>) -> String {
    let what = match step {
        Step::Exec => return why(errno, head),
        Step::Session => "cannot make its session".to_owned(),
        Step::Cgroup => "cannot enter its cgroup".to_owned(),
        Step::Connection => "cannot take its connection".to_owned(),
        Step::Stderr => "cannot set its standard error".to_owned(),
        Step::Limit(resource) => format!("cannot set its limit {} (--limit)", name_of(resource)),
        Step::Nice => "cannot set its nice value (--nice)".to_owned(),
        Step::User(number) => format!("cannot become user and group {number} (--uid-pool)"),
        Step::Directory => "cannot enter its working directory (--chdir)".to_owned(),
        Step::Domain => "cannot be kept apart by Landlock (--isolate=signals)".to_owned(),
    };
    format!("{what}: {}", errno_words(errno))
}

/// Why execve(2) fails with `errno` for a program that begins so; `head` is `None` if it cannot be read.
pub fn why(errno: i32, head: Option<&[u8]>) -> String {
    let words = errno_words(errno);
    let Some(head) = head else { return words };
    let of_script = |name: &[u8]| match name.strip_suffix(b"\r") {
        Some(_) => "its '#!' line ends with a carriage return; save the file with UNIX line ends".into(),
        None => format!("the interpreter '{}' of its '#!' line", name.escape_ascii()),
    };
    let is_elf = head.starts_with(b"\x7fELF");
    let more = match (errno, interpreter(head)) {
        (libc::ENOEXEC, _) if head.is_empty() => "the file is empty".into(),
        (libc::ENOEXEC, Some([])) => "its '#!' line names no interpreter".into(),
        (libc::ENOEXEC, None) if is_elf => "it is built for another kind of machine, or damaged".into(),
        (libc::ENOEXEC, None) => "a script must begin with a line such as #!/bin/sh".into(),
        (libc::ENOENT | libc::EACCES | libc::ENOTDIR | libc::ELOOP, Some(name)) => of_script(name),
        (libc::ENOENT, None) if is_elf => "its dynamic loader is missing (readelf -l names it)".into(),
        _ => return words,
    };
    format!("{words}: {more}")
}

/// Why the kernel will not execute this file, as far as that can be told beforehand.
fn unfit(path: &CStr) -> Option<String> {
    let mut head = Vec::new();
    let file = File::open(OsStr::from_bytes(path.to_bytes())).ok()?;
    file.take(HEAD as u64).read_to_end(&mut head).ok()?;
    let errno = match interpreter(&head) {
        Some([]) => libc::ENOEXEC,
        Some(name) => executable(&CString::new(name).ok()?).err()?.raw_os_error()?,
        // Other formats can be registered (binfmt_misc); plain text is hardly ever one of them.
        None if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
            && !registers_formats() =>
        {
            libc::ENOEXEC
        }
        None => return None,
    };
    Some(why(errno, Some(&head)))
}

fn registers_formats() -> bool {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name != "register" && name != "status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_name_and_by_path_or_named_in_the_error() {
        assert!(find("sh".as_ref()).unwrap().to_bytes().ends_with(b"/sh"));
        assert_eq!(find("/bin/sh".as_ref()).unwrap().to_bytes(), b"/bin/sh");
        for bad in ["", "/", "/nowhere/x", "no-such-program-here", "/etc/passwd"] {
            let error = find(bad.as_ref()).unwrap_err();
            assert!(error.contains(&format!("'{bad}'")), "{error}");
        }
        for (unfit, error) in [
            ("/etc", "cannot run '/etc': is a directory"),
            ("/dev/null", "cannot run '/dev/null': is not a regular file"),
            ("/etc/passwd", "cannot run '/etc/passwd': is not executable: chmod +x /etc/passwd"),
        ] {
            assert_eq!(find(unfit.as_ref()), Err(error.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_that_is_there() {
        let of = |errno, head: &[u8]| why(errno, Some(head));
        assert_eq!(why(libc::ENOENT, None), errno_words(libc::ENOENT));
        assert_eq!(of(libc::ENOMEM, b"#!/bin/sh\n"), errno_words(libc::ENOMEM));
        for (errno, head, says) in [
            (libc::ENOENT, &b"#! /no/sh -e\n"[..], "the interpreter '/no/sh' of"),
            (libc::ENOENT, b"#!/no/sh", "the interpreter '/no/sh' of"),
            (libc::EACCES, b"#!/etc/passwd\n", "the interpreter '/etc/passwd' of"),
            (libc::ENOENT, b"#!/bin/sh\r\n", "carriage return"),
            (libc::ENOENT, b"\x7fELF\x02", "dynamic loader"),
            (libc::ENOEXEC, b"\x7fELF\x02", "another kind of machine"),
            (libc::ENOEXEC, b"echo\n", "#!/bin/sh"),
            (libc::ENOEXEC, b"#! \n", "names no interpreter"),
            (libc::ENOEXEC, b"", "empty"),
        ] {
            let (said, begins) = (of(errno, head), format!("{}: ", errno_words(errno)));
            assert!(said.starts_with(&begins) && said.contains(says), "{said}");
        }
    }
}
