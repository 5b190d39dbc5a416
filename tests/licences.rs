//! THIRD-PARTY and debian/copyright say what the crates of the lock file say, which are asked for it.

#[path = "../debian/licences.rs"]
mod licences;

use licences::{crates, faults_of, linked, third_party};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn third_party_is_what_is_linked() {
    let made = third_party(&crates(), &linked()).unwrap();
    let kept = read("THIRD-PARTY");
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "THIRD-PARTY is stale, at {differs:?}: run `cargo run --example licences`");
}

#[test]
fn debian_copyright_has_each_crate_with_its_licence() {
    assert_eq!(faults_of(&read("debian/copyright"), &crates()), [""; 0]);
}

#[test]
fn what_debian_copyright_lacks_is_named() {
    let copyright = read("debian/copyright");
    let faults = |from: &str, to: &str| {
        assert!(copyright.contains(from), "{from}");
        faults_of(&copyright.replacen(from, to, 1), &crates()).join("\n")
    };
    let other = faults(
        "vendor/subtle-*\nCopyright:\n",
        "vendor/subtle-*\nCopyright: x\nLicense: Expat\n\nFiles: no\nCopyright:\n",
    );
    assert!(other.contains("has \"Expat\" for vendor/subtle-") && other.contains("under BSD-3-Clause"), "{other}");
    let none = faults("vendor/slab-*", "vendor/slap-*");
    assert!(none.contains("no paragraph for vendor/slab-0") && none.contains("speaks of vendor/slap-*"), "{none}");
    let text = faults("\nLicense: Unlicense\n", "\nLicense: Unlicence\n");
    assert!(text.contains("no text of the licence Unlicense"), "{text}");
}

/// Neither what builds nor what tests is in a program; what both C libraries and all machines need, is.
#[test]
fn linked_is_what_is_in_the_programs() {
    let linked = linked();
    let has = |name: &str| linked.iter().any(|(linked, _)| linked == name);
    for name in ["libc", "clap_builder", "serde_core", "cpufeatures", "subtle"] {
        assert!(has(name), "{name}");
    }
    for name in ["sockcap", "clap_derive", "serde_derive", "syn", "proptest", "clap_complete", "autocfg", "r-efi"] {
        assert!(!has(name), "{name}");
    }
}
