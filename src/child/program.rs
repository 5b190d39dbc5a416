//! Finding the program once, at start, so that a command that is not there is refused then.
#![forbid(unsafe_code)]

use crate::sys::exec::executable;
use crate::sys::plain;
use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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
    if word.as_bytes().contains(&b'/') {
        let path = text(Path::new(word))?;
        return executable(&path).map(|()| path).map_err(|error| format!("cannot run '{shown}': {}", plain(&error)));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut refused: Option<io::Error> = None;
    for folder in env::split_paths(&path) {
        let path = text(&folder.join(word))?;
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            Err(_) => {}
        }
    }
    let path = path.to_string_lossy();
    Err(match refused {
        Some(error) => format!("cannot run '{shown}': {} (found in PATH={path})", plain(&error)),
        None => format!("cannot run '{shown}': not found in PATH={path}"),
    })
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
    }
}
