//! ManageSieve: BYE with the code TRYLATER instead of the capabilities (RFC 5804 section 1.3).
//!
//! The text is a quoted string (section 4), in which `"` and `\` have a backslash before them.
#![forbid(unsafe_code)]

use super::preset::{Notice, Preset};
use std::io::Write;

pub(super) const PRESET: Preset = Preset::server("managesieve", "BYE, try later", render);

fn render(notice: &Notice, out: &mut Vec<u8>) {
    let text = notice.with_retry_hint().replace('\\', "\\\\").replace('"', "\\\"");
    // Writing to a Vec cannot fail.
    let _ = write!(out, "BYE (TRYLATER) \"{text}\"\r\n");
}

#[cfg(test)]
mod tests {
    use crate::reply::tests::{told, unavailable};

    #[test]
    fn golden() {
        let told_ = |message| String::from_utf8(told("managesieve", message, b"")).unwrap();
        assert_eq!(told_(None), "BYE (TRYLATER) \"server at capacity, try again later\"\r\n");
        assert_eq!(told_(Some(r#"so "full" \o/"#)), "BYE (TRYLATER) \"so \\\"full\\\" \\\\o/\"\r\n");
        let text = b"BYE (TRYLATER) \"service unavailable, try again later\"\r\n";
        assert_eq!(unavailable("managesieve", b""), text);
    }
}
