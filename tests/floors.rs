//! The shape of the house: imports go down only, rooms on one floor do not import each other, unsafe code
//! lives in `src/sys` alone, and the pure rooms read no clock and do no I/O.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and their floors.
const FLOORS: [(&str, u8); 11] = [
    ("main", 4),
    ("cli", 4),
    ("daemon", 3),
    ("listen", 2),
    ("child", 2),
    ("observe", 2),
    ("peer", 1),
    ("policy", 0),
    ("reply", 0),
    ("poll", 0),
    ("sys", 0),
];

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let room = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    files.into_iter().map(|path| (room(&path), path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

#[test]
fn imports_go_down_only() {
    for (room, path, text) in sources() {
        let Some(from) = floor(&room) else { continue };
        for line in text.lines() {
            for prefix in ["crate::", "sockcap::"] {
                for (at, _) in line.match_indices(prefix) {
                    let target: String =
                        line[at + prefix.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let Some(to) = floor(&target) else { continue };
                    assert!(
                        target == room || to < from || (room == "main" && target == "cli"),
                        "{}: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn unsafe_code_has_one_floor() {
    for (room, path, text) in sources() {
        if room == "sys" {
            continue;
        }
        let module_list_only = text.lines().all(|line| !line.contains("fn "));
        assert!(
            text.contains("#![forbid(unsafe_code)]") || module_list_only,
            "{}: no forbid(unsafe_code)",
            path.display()
        );
    }
}

#[test]
fn the_pure_rooms_are_pure() {
    for (room, path, text) in sources() {
        if !matches!(room.as_str(), "policy" | "reply") || path.ends_with("tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["Instant::now", "SystemTime", "std::fs", "std::env", "std::net::Tcp", "println!", "crate::sys"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}
