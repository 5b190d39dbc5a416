//! The shape of the house: imports go down only, rooms on one floor do not import each other and no files do in a circle,
//! unsafe code lives in `src/sys` alone, and the pure rooms read no clock and do no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and their floors.
const FLOORS: [(&str, u8); 13] = [
    ("bin", 5),
    ("ctl", 5),
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
                        target == room
                            || to < from
                            || matches!((&room[..], &target[..]), ("main", "cli") | ("bin", "ctl")),
                        "{}: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}

/// The paths of a `use`, with its braces written out.
fn paths(of_use: &str) -> Vec<String> {
    let Some((before, list)) = of_use.trim().split_once('{') else { return vec![of_use.trim().to_owned()] };
    let list = list.strip_suffix('}').unwrap();
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| paths(&format!("{before}{}", part.trim()))).collect()
}

/// The code of a file: no comments, and nothing that is for tests alone.
fn code(text: &str) -> String {
    let (mut code, mut lines) = (String::new(), text.lines());
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // As rustfmt lays it out, the item ends on its first line or with a brace that stands below the attribute.
            let end = line.replace("#[cfg(test)]", "}");
            let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with("#["));
            if item.next().is_some_and(|first| !first.ends_with([';', '}'])) {
                item.find(|line| *line == end);
            }
        } else {
            code.push_str(line.split("//").next().unwrap());
            code.push(' ');
        }
    }
    code
}

/// Which files each file names in its paths, in `use` or elsewhere, by module. Every file counts for itself: a module that uses
/// what is in a file below it imports that file, which `mod` alone does not, and `super::` is an import of the file above.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let module = |path: &Path| {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let inside = inside.to_str().unwrap().replace('/', "::");
        inside.strip_suffix("::mod").map_or(inside.clone(), str::to_owned)
    };
    let files: BTreeMap<String, String> = sources().into_iter().map(|(_, path, text)| (module(&path), text)).collect();
    let imports = |(from, text): (&String, &String)| {
        let code = code(text);
        let uses = code.split(" use ").skip(1).filter_map(|rest| rest.split(';').next()).flat_map(paths);
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        let others = code.split(|c| !is_path(c)).filter(|path| path.contains("::")).map(str::to_owned);
        let absolute = uses.chain(others).filter_map(|path| {
            let (mut base, mut rest) = (from.as_str(), path.as_str());
            if let Some(path) = rest.strip_prefix("crate::") {
                return Some(path.to_owned());
            }
            rest = rest.strip_prefix("self::").unwrap_or(rest);
            while let Some(path) = rest.strip_prefix("super::") {
                (base, rest) = (base.rsplit_once("::").map_or("", |(parent, _)| parent), path);
            }
            let is_below = files.contains_key(&format!("{base}::{}", rest.split("::").next().unwrap()));
            (base != from || is_below).then(|| format!("{base}::{rest}").trim_start_matches(':').to_owned())
        });
        let file_of = |path: String| {
            let mut path = path.as_str();
            while !files.contains_key(path) {
                path = path.rsplit_once("::")?.0;
            }
            Some(path.to_owned())
        };
        (from.clone(), absolute.filter_map(file_of).filter(|to| to != from).collect())
    };
    files.iter().filter(|(module, _)| !module.split("::").any(|part| part == "tests")).map(imports).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imports();
    assert!(
        left["policy::gate::limits"].contains("policy::limit")
            && left["listen::path"].contains("sys::socket")
            && left["policy::limit"].contains("policy::limit::load")
            && left["cli"].contains("cli::mistakes"),
        "{left:#?}"
    );
    // What imports nothing that is left, or is imported by nothing that is left, is in no circle.
    loop {
        let before = left.len();
        let imported: BTreeSet<String> = left.values().flatten().cloned().collect();
        left.retain(|module, _| imported.contains(module));
        let all: BTreeSet<String> = left.keys().cloned().collect();
        left.values_mut().for_each(|imports| imports.retain(|to| all.contains(to)));
        left.retain(|_, imports| !imports.is_empty());
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these import each other: {left:#?}");
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
        if !matches!(room.as_str(), "policy" | "reply")
            || path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
        {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["Instant::now", "SystemTime", "std::fs", "std::env", "std::net::Tcp", "println!", "crate::sys"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}

/// What belongs to one room is another's only through `daemon`, and what belongs to `daemon` is nobody else's.
#[test]
fn the_daemon_is_a_few_private_fields() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/daemon/run.rs");
    let text = fs::read_to_string(run).unwrap();
    let (_, after) = text.split_once("struct Daemon {\n").unwrap();
    let (fields, _) = after.split_once("\n}\n").unwrap();
    let fields: Vec<&str> = fields.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    assert!(fields.iter().all(|field| !field.starts_with("pub")), "{fields:#?}");
    assert!(fields.len() <= 15, "{} fields: does one of them belong to a room? {fields:#?}", fields.len());
}

/// A room returns what has happened. None holds another, and none holds the poll set.
#[test]
fn rooms_do_not_hold_each_other() {
    let rooms = ["Gate", "Listeners", "Waiting", "Commands", "Refusals", "Report", "Notify", "Phase", "Poll"];
    let mut found = 0;
    for (room, path, text) in sources() {
        // What may be asked of a daemon is plain data, with names of its own.
        if matches!(room.as_str(), "daemon" | "poll")
            || path.ends_with("observe/snapshot.rs")
            || path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
        {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (at, _) in code.match_indices("struct ") {
            let Some((name, rest)) = code[at + "struct ".len()..].split_once(" {\n") else { continue };
            let Some((fields, _)) = rest.split_once("\n}\n").filter(|_| !name.contains('\n')) else { continue };
            found += usize::from(rooms.contains(&name));
            let types = fields.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, of)| of);
            for of in types {
                let words: Vec<&str> = of.split(|c: char| !c.is_alphanumeric()).collect();
                let held = rooms.iter().find(|other| words.contains(other));
                assert_eq!(held, None, "{}: {name} holds it: {of}", path.display());
            }
        }
    }
    assert!(found >= rooms.len() - 1, "only {found} of these rooms were found");
}

/// Longer than that, a file holds more than one thing.
#[test]
fn no_file_is_long() {
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 400, "{}: {lines} lines", path.display());
    }
}

/// `if let A = a && b` needs Rust 1.88, and the program is to be built with that of Cargo.toml. Compilers since then take it without a word.
#[test]
fn no_condition_chains_a_let() {
    for (_, path, text) in sources() {
        let code = code(&text);
        assert!(!code.contains("&& let "), "{}", path.display());
        for (at, _) in code.match_indices("if let ").chain(code.match_indices("while let ")) {
            let condition = condition(&code[at..]);
            assert!(!condition.contains("&&"), "{}: {condition}", path.display());
        }
    }
}

/// What is behind the pattern of a `let`, up to its block, without what is in brackets.
fn condition(code: &str) -> String {
    let (mut depth, mut is_behind, mut is_text, mut out, mut before) = (0, false, false, String::new(), ' ');
    for (letter, next) in code.chars().zip(code.chars().skip(1)) {
        is_text ^= letter == '"' && before != '\\' && before != '\'';
        match letter {
            _ if is_text || before == '\'' && next == '\'' => {} // what is quoted
            '{' if depth == 0 && is_behind => break,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '=' if depth == 0 && before == ' ' && next == ' ' => is_behind = true,
            _ if depth == 0 && is_behind => out.push(letter),
            _ => {}
        }
        before = letter;
    }
    out
}
