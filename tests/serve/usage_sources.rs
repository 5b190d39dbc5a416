//! Mistakes in the limits on sources and what belongs to them: one line, exit 2; and what their variables hold.

use super::usage::{checked, mistake, says, with};
use crate::common::*;

/// `--max-per-source` and what belongs to it: what is meant must be clear, and what limits nobody is a mistake.
#[test]
fn limits_on_sources_that_cannot_be_meant() {
    let prefixed = "expected N@PREFIX with a prefix from 0 to 128, as in 40@48 or 40@24,48";
    let prefixes = "expected the bits of an IPv4 and of an IPv6 prefix, as in 32,64";
    let invalid = |value: &str, option: &str, why: &str| format!("invalid value '{value}' for '{option}': {why}");
    for (bad, why) in [("3@", prefixed), ("3@129", prefixed), ("3@x", prefixed), ("3@33,64", prefixes)] {
        says(with(&["--max-per-source", bad]), &invalid(bad, "--max-per-source <N|N@PREFIX>", why));
        says(with(&[]).env("SOCKCAP_MAX_PER_SOURCE", bad), &format!("SOCKCAP_MAX_PER_SOURCE={bad}: {why}"));
    }
    for bad in ["", "32", "33,64", "32,129", "32,64,128", "a,b"] {
        mistake(&[&format!("--source-prefix={bad}")], "--source-prefix");
    }
    // The same network has one limit, of one family or of both.
    for (one, other, twice) in
        [("10", "20", "32,64"), ("10", "20@32", "32"), ("10@24,64", "20", "64"), ("10@48", "0@24,48", "48")]
    {
        let why = format!("there is another limit for the prefix {twice}: leave one out");
        let args = ["--max-per-source", one, "--max-per-source", other];
        says(with(&args), &invalid(other, "--max-per-source <N|N@PREFIX>", &why));
        let both = format!("{one} {other}");
        says(with(&[]).env("SOCKCAP_MAX_PER_SOURCE", &both), &format!("SOCKCAP_MAX_PER_SOURCE={other}: {why}"));
    }
    let network = "expected an address, a network such as 192.0.2.0/24 or 2001:db8::/32, uid=N or cid=N";
    for bad in ["localhost", "192.0.2.0/33", "2001:db8::/129", "uid=root", "uid=1/8", "cid=", "fe80::1%lo"] {
        says(with(&["--exempt", bad]), &invalid(bad, "--exempt <NETWORK>", network));
        let list = format!("::1 {bad}");
        says(with(&[]).env("SOCKCAP_EXEMPT", &list), &format!("SOCKCAP_EXEMPT={bad}: {network}"));
    }
}

/// Slots that nobody may take, or nobody but the exempt.
#[test]
fn reserved_slots_that_cannot_be_meant() {
    says(with(&["--reserved", "1"]), "--reserved needs --exempt: nobody else may take these slots");
    says(with(&[]).env("SOCKCAP_RESERVED", "1"), "SOCKCAP_RESERVED needs --exempt: nobody else may take these slots");
    let reserved = |max: &str, n: &str| with(&["--exempt", "::1", "--max-connections", max, "--reserved", n]);
    for n in ["3", "4", "4294967295"] {
        let line =
            format!("invalid value '{n}' for '--reserved <N>': expected a number below 3, which is --max-connections");
        says(reserved("3", n), &line);
    }
    let line = "there is no limit to reserve slots of (--max-connections is 0)";
    says(reserved("0", "1"), &format!("invalid value '1' for '--reserved <N>': {line}"));
    let text = checked(reserved("3", "2").args(&["--check"]));
    assert!(text.lines().any(|line| line.split_whitespace().eq(["reserved", "2"])), "{text}");
    let by_name = with(&["--exempt", "::1", "--max-connections", "3", "--check"]).env("SOCKCAP_RESERVED", "2");
    assert_eq!(checked(by_name), text);
    checked(reserved("0", "0").args(&["--check"]));
}

/// A variable holds all values of an option that may be given more than once, with blanks between them.
#[test]
fn a_variable_holds_several_limits_on_sources() {
    for (option, name, values) in [
        ("--max-per-source", "SOCKCAP_MAX_PER_SOURCE", ["10", "40@48", "90@16"]),
        ("--exempt", "SOCKCAP_EXEMPT", ["192.0.2.0/24", "2001:db8::/32", "uid=0"]),
    ] {
        let words: Vec<&str> = values.iter().flat_map(|value| [option, value]).chain(["--check"]).collect();
        let by_option = checked(with(&words));
        assert_eq!(by_option.lines().filter(|line| line.starts_with(&option[2..])).count(), 3, "{by_option}");
        let by_name = checked(with(&["--check"]).env(name, format!("  {} ", values.join(" \n"))));
        assert_eq!(by_name, by_option, "{name}");
    }
}

#[test]
fn a_dry_run_of_no_limit() {
    for bad in ["max-wait", "max-per-source,", "load"] {
        let line = with(&[&format!("--dry-run={bad}")]).output().mistake();
        let word = bad.rsplit(',').next().expect("a word");
        assert!(line.starts_with(&format!("sockcap: invalid value '{bad}' for '--dry-run")), "{line}");
        assert!(line.contains(&format!("'{word}' is no limit: expected some of ")), "{line}");
        assert!(line.contains("max-per-source"), "{line}");
        let line = with(&[]).env("SOCKCAP_DRY_RUN", bad).output().mistake();
        assert!(line.starts_with(&format!("sockcap: SOCKCAP_DRY_RUN={bad}: ")), "{line}");
    }
    let dry = |start: Start| {
        let text = checked(start);
        let line = text.lines().find(|line| line.starts_with("dry-run ")).unwrap_or_default();
        line.trim_start_matches("dry-run").trim().to_owned()
    };
    let all = dry(with(&["--check", "--dry-run"]));
    let names: Vec<&str> = all.split(',').collect();
    assert!(names.contains(&"max-per-source") && !names.contains(&"max-connections"), "{all}");
    assert_eq!(dry(with(&["--check"]).env("SOCKCAP_DRY_RUN", "yes")), all);
    assert_eq!(dry(with(&["--check"]).env("SOCKCAP_DRY_RUN", "no")), "");
    assert_eq!(dry(with(&["--check", "--dry-run=max-connections"])), "max-connections");
}
