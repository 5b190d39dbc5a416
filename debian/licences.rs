//! Writes THIRD-PARTY, the licences of what is linked into the programs, out of what the crates say of themselves:
//! `cargo run --example licences`. And it compares debian/copyright, which speaks of the source package, with the same.
//!
//! No part of the daemon; tests/licences.rs uses it, and fails as long as either file is stale.
#![forbid(unsafe_code)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, process};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a crate is linked for: the machines that Debian has a Rust for, and both C libraries.
const TARGETS: [&str; 9] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "i686-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "armv7-unknown-linux-gnueabihf",
    "riscv64gc-unknown-linux-gnu",
    "powerpc64le-unknown-linux-gnu",
    "s390x-unknown-linux-gnu",
    "loongarch64-unknown-linux-gnu",
];

const HEAD: &str = "\
Software of others in sockcap and sockcapctl

The programs contain code of these crates, each under the licence that its line names; the texts are below. Where a crate
offers a choice, it is used under the MIT licence. `cargo run --example licences` makes this list.

They also contain the parts that they use of the standard library of Rust, copyright the Rust Project contributors, under the
MIT licence or the Apache License 2.0; its own list comes with the compiler (share/doc/rust). A static program also contains
musl, copyright 2005-2020 Rich Felker, et al., under the MIT licence.
";

#[allow(dead_code, reason = "tests/licences.rs takes the functions alone")]
fn main() {
    let crates = crates();
    let path = Path::new(ROOT).join("THIRD-PARTY");
    let written = third_party(&crates, &linked()).and_then(|text| {
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let copyright = Path::new(ROOT).join("debian/copyright");
        let copyright = fs::read_to_string(&copyright).map_err(|e| format!("{}: {e}", copyright.display()))?;
        let faults = faults_of(&copyright, &crates);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    });
    if let Err(fault) = written {
        eprintln!("licences: {fault}");
        process::exit(1);
    }
}

/// A crate of the lock file, as its own manifest describes it.
pub struct Crate {
    name: String,
    version: String,
    /// An SPDX expression.
    licence: String,
    home: String,
    folder: PathBuf,
}

fn cargo(args: &[&str]) -> String {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(program).args(args).current_dir(ROOT).output().expect("cargo");
    assert!(out.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("cargo writes text")
}

/// All crates of the lock file but our own.
pub fn crates() -> Vec<Crate> {
    let metadata = cargo(&["metadata", "--locked", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let foreign = metadata["packages"].as_array().into_iter().flatten().filter(|package| !package["source"].is_null());
    foreign
        .map(|package| Crate {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: spdx(&text(&package["license"])),
            home: text(&package["repository"]),
            folder: Path::new(&text(&package["manifest_path"])).with_file_name(""),
        })
        .collect()
}

/// Names and versions of the crates that are linked into the programs: neither procedural macros nor what builds or tests.
pub fn linked() -> BTreeSet<(String, String)> {
    let mut linked = BTreeSet::new();
    for target in TARGETS {
        let tree = cargo(&[
            "tree",
            "--locked",
            "--edges=normal,no-proc-macro",
            "--prefix=none",
            "--format={p}",
            "--target",
            target,
        ]);
        // "nix v0.31.3", and for our own its folder after that; "(*)" where it stood before.
        let packages = tree.lines().skip(1).filter_map(|line| line.trim_end_matches(" (*)").split_once(" v"));
        linked.extend(packages.map(|(name, version)| (name.to_owned(), version.to_owned())));
    }
    linked
}

/// The text of THIRD-PARTY, or which crate has no licence to show.
pub fn third_party(crates: &[Crate], linked: &BTreeSet<(String, String)>) -> Result<String, String> {
    let linked = crates.iter().filter(|c| linked.contains(&(c.name.clone(), c.version.clone())));
    let mut list = HEAD.to_owned() + "\n";
    // Texts that differ in their line ends alone are one, with the crates that have it.
    let mut texts: Vec<(String, String, Vec<String>)> = Vec::new();
    for of_linked in linked {
        let Crate { name, version, licence, home, .. } = of_linked;
        writeln!(list, "{:<28}{licence:<30}{home}", format!("{name} {version}")).expect("memory");
        let text = of_linked.text()?;
        let key = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = format!("{name} {version}");
        match texts.iter_mut().find(|(known, ..)| *known == key) {
            Some((_, _, names)) => names.push(name),
            None => texts.push((key, text, vec![name])),
        }
    }
    for (_, text, names) in texts {
        write!(list, "\n{}\n\n{}\n\n{text}", "-".repeat(80), names.join(", ")).expect("memory");
    }
    Ok(list)
}

impl Crate {
    /// The licence in full that this crate is used under.
    fn text(&self) -> Result<String, String> {
        let fault = |what: &str| {
            format!("{} {} ({}): {what} in {}", self.name, self.version, self.licence, self.folder.display())
        };
        let entries = fs::read_dir(&self.folder).map_err(|error| fault(&error.to_string()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        files.retain(|name| {
            ["LICENSE", "LICENCE", "COPYING"].iter().any(|start| name.to_uppercase().starts_with(start))
        });
        files.sort();
        let texts: BTreeMap<_, _> =
            files.iter().filter_map(|name| Some((name, fs::read_to_string(self.folder.join(name)).ok()?))).collect();
        let is_mit = |text: &str| {
            text.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains("Permission is hereby granted, free of charge, to any person")
        };
        let text = match alternatives(&self.licence).contains("MIT") {
            true => texts.values().find(|text| is_mit(text)).ok_or_else(|| fault("no text of the MIT licence"))?,
            false if texts.len() == 1 => &texts[&files[0]],
            false => return Err(fault("not one text")),
        };
        let lines: Vec<_> = text.trim().lines().map(str::trim_end).collect();
        Ok(lines.join("\n") + "\n")
    }
}

/// What debian/copyright says that the crates do not, or the other way round.
pub fn faults_of(copyright: &str, crates: &[Crate]) -> Vec<String> {
    // Patterns and licence of each paragraph about files, and the names of those with a text.
    let (mut files, mut texts) = (Vec::new(), BTreeSet::new());
    for paragraph in copyright.split("\n\n") {
        let field = |name: &str| {
            let rest = paragraph
                .split(&format!("\n{name}:"))
                .nth(1)
                .or_else(|| paragraph.strip_prefix(&format!("{name}:")))?;
            let mut lines = rest.lines();
            let first = lines.next().unwrap_or_default();
            Some(
                lines
                    .take_while(|line| line.starts_with(' '))
                    .fold(first.to_owned(), |all, line| all + line)
                    .trim()
                    .to_owned(),
            )
        };
        match (field("Files"), paragraph.lines().find_map(|line| line.strip_prefix("License: "))) {
            (Some(patterns), Some(licence)) => files.push((patterns, licence)),
            (None, Some(name)) => _ = texts.insert(name.to_lowercase()),
            (_, None) => {}
        }
    }

    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for Crate { name, version, licence, .. } in crates {
        let directory = format!("vendor/{name}-{version}");
        let fits = |pattern: &&str| {
            pattern.strip_suffix('*').is_some_and(|start| !start.is_empty() && directory.starts_with(start))
        };
        // The last paragraph that fits is the one that counts.
        let mut found = None;
        for (patterns, said) in &files {
            for pattern in patterns.split_whitespace().filter(fits) {
                found = Some(said);
                used.insert(pattern);
            }
        }
        match found {
            None => faults.push(format!("debian/copyright has no paragraph for {directory}, which is under {licence}")),
            Some(said) if alternatives(&from_debian(said)) != alternatives(licence) => {
                faults.push(format!("debian/copyright has \"{said}\" for {directory}, which is under {licence}"));
            }
            Some(_) => {}
        }
    }
    for (patterns, said) in &files {
        for pattern in patterns.split_whitespace().filter(|pattern| *pattern != "*" && !used.contains(pattern)) {
            faults.push(format!("debian/copyright speaks of {pattern}, and there is no such crate"));
        }
        for name in said.split(['(', ')']).flat_map(|part| part.split(" or ")).flat_map(|part| part.split(" and ")) {
            if !name.trim().is_empty() && !texts.contains(&name.trim().to_lowercase()) {
                faults.push(format!("debian/copyright has no text of the licence {name}"));
            }
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// In Cargo's old notation a slash is OR.
fn spdx(licence: &str) -> String {
    licence.replace('/', " OR ")
}

/// A short name of Debian's format, in SPDX.
fn from_debian(licence: &str) -> String {
    let words =
        [("Expat", "MIT"), ("LGPL-2.1+", "LGPL-2.1-or-later"), (" with LLVM exception", " WITH LLVM-exception")];
    let licence = words.into_iter().fold(licence.to_owned(), |all, (debian, spdx)| all.replace(debian, spdx));
    licence.replace(" or ", " OR ").replace(" and ", " AND ")
}

/// What a licence lets one choose from, in whatever order it says so. One level of brackets is all that there is.
fn alternatives(licence: &str) -> BTreeSet<String> {
    let all: Vec<BTreeSet<&str>> = licence
        .split(" AND ")
        .map(|part| part.trim_matches(['(', ')']).split(" OR ").map(str::trim).collect())
        .collect();
    let [one] = &all[..] else {
        let mut parts: Vec<_> = all.iter().map(|part| part.iter().copied().collect::<Vec<_>>().join(" OR ")).collect();
        parts.sort();
        return BTreeSet::from([parts.join(" AND ")]);
    };
    one.iter().map(|name| (*name).to_owned()).collect()
}
