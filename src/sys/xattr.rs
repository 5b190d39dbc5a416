//! Extended attributes of files (xattr(7)).

use std::ffi::{CStr, CString};
use std::io;

/// Longer than any that is asked for.
const MAX: usize = 256;

/// The value of an attribute of the file at this path.
///
/// # Errors
/// getxattr(2)'s: `ENODATA` if it has none of this name, `ERANGE` beyond 256 bytes, `EOPNOTSUPP`.
pub fn get(path: &str, name: &CStr) -> io::Result<Vec<u8>> {
    let path = CString::new(path)?;
    let mut value = vec![0; MAX];
    // SAFETY: two strings and a buffer that live across the call, and its length.
    let got = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    value.truncate(got);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_not_is_an_error() {
        assert!(get("/proc/self/stat", c"user.nothing").is_err());
        assert!(get("/nowhere", c"user.nothing").is_err());
    }
}
