//! The SOCKCAP_ variables: a name that is no option's is a mistake, and a mistake in a value names the variable.
#![forbid(unsafe_code)]

use crate::child::environment::MARK;
use clap::{Arg, Command};
use std::ffi::{OsStr, OsString};

/// Names that are no options: [`MARK`], with which sockcap may be a command of sockcap, and what the tests read.
const OTHERS: [&str; 5] = [MARK, "SOCKCAP_BIN", "SOCKCAP_RIG_DIR", "SOCKCAP_SOAK", "SOCKCAP_CHAOS_SEEDS"];
const PREFIX: &str = "SOCKCAP_";
/// How many letters a slip of the pen changes at most.
const SLIP: usize = 3;

/// The first variable that looks like an option and is none: a limit that is misspelt limits nothing.
///
/// # Errors
/// One line that says what to write.
pub(super) fn check(command: &Command, mut names: impl Iterator<Item = OsString>) -> Result<(), String> {
    let known = |name: &str| OTHERS.contains(&name) || options(command).any(|option| variable(option) == name);
    let unknown = names.find(|name| {
        let name = name.to_string_lossy();
        name.starts_with(PREFIX) && !known(&name)
    });
    let Some(name) = unknown else { return Ok(()) };
    let name = name.to_string_lossy();
    let alias = name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
    let of_alias = options(command).find(|option| has_alias(option, &alias));
    Err(match (of_alias, nearest(&name, PREFIX, options(command).map(variable))) {
        (Some(option), _) => format!("unknown variable {name}: --{alias} is read from {}", variable(option)),
        (None, Some(meant)) => format!("unknown variable {name}; did you mean {meant}?"),
        (None, None) => format!("unknown variable {name}; --help lists the options, each is also a variable"),
    })
}

fn has_alias(option: &Arg, name: &str) -> bool {
    option.get_all_aliases().unwrap_or_default().contains(&name)
}

/// Options that have a variable. Not clap's get_opts(): once it has parsed, that leaves out those without a value.
pub(super) fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|option| option.get_env().is_some())
}

/// The variable of an option.
pub(super) fn variable(option: &Arg) -> String {
    option.get_env().unwrap_or_default().to_string_lossy().into_owned()
}

/// The option that a long name, an alias or a single letter stands for, if it is one's.
pub(super) fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let (long, short) = (word.strip_prefix("--"), word.strip_prefix('-').and_then(|rest| rest.chars().next()));
    options(command).find(|option| match long {
        Some(long) => {
            let long = long.split('=').next().unwrap_or(long);
            option.get_long() == Some(long) || has_alias(option, long)
        }
        None => short.is_some() && option.get_short() == short,
    })
}

/// The variable that an option's value came from, unless it is on the command line.
pub(super) fn source(command: &Command, words: &[OsString], option: &Arg) -> Option<(String, String)> {
    let ours = words.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy());
    let typed = ours
        .into_iter()
        .any(|word| self::option(command, &word).is_some_and(|other| other.get_id() == option.get_id()));
    let name = variable(option);
    let value = std::env::var_os(&name).filter(|_| !typed)?;
    Some((name, value.to_string_lossy().into_owned()))
}

/// What to say of a value that came from a variable.
pub(super) fn mistake(name: &str, value: &str, why: &str) -> String {
    match value {
        "" => format!("{name} is set, but empty: give it a value, or unset it"),
        value => format!("{name}={value}: {why}"),
    }
}

/// The name that was meant: one that is near enough, or else the only one that begins so. All begin with `prefix`, which is
/// not to make them look alike.
pub(crate) fn nearest(name: &str, prefix: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let known: Vec<String> = known.collect();
    let own = name.len().saturating_sub(prefix.len());
    let near = known.iter().map(|known| (distance(name.as_bytes(), known.as_bytes()), known)).min();
    if let Some((_, meant)) = near.filter(|(distance, _)| *distance <= SLIP && 3 * distance <= own) {
        return Some(meant.clone());
    }
    let mut longer = known.iter().filter(|known| own >= SLIP && known.starts_with(name));
    longer.next().filter(|_| longer.next().is_none()).cloned()
}

/// Levenshtein's: letters that are added, missing or changed.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Whether a variable is set and says nothing.
pub(super) fn is_empty(option: &Arg) -> bool {
    std::env::var_os(variable(option)).as_deref() == Some(OsStr::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Args;
    use clap::CommandFactory;

    fn said(name: &str) -> Result<(), String> {
        check(&Args::command(), [OsString::from(name)].into_iter())
    }

    #[test]
    fn a_name_that_no_option_has_is_a_mistake() {
        let meant = |name: &str| said(name).unwrap_err();
        assert_eq!(
            meant("SOCKCAP_MAX_CONECTIONS"),
            "unknown variable SOCKCAP_MAX_CONECTIONS; did you mean SOCKCAP_MAX_CONNECTIONS?"
        );
        assert!(meant("SOCKCAP_WHENFULL").ends_with("did you mean SOCKCAP_WHEN_FULL?"));
        assert!(meant("SOCKCAP_max_connections").contains("--help"));
        assert!(meant("SOCKCAP_MAX_CONN").ends_with("did you mean SOCKCAP_MAX_CONNECTIONS?"));
        for far in ["SOCKCAP_PIGEONS", "SOCKCAP_HELP", "SOCKCAP_MAX", "SOCKCAP_PAX"] {
            assert!(meant(far).contains("--help"), "nothing is near {far}");
        }
        assert!(meant("SOCKCAP_").contains("unknown variable SOCKCAP_;"));
        assert_eq!(
            meant("SOCKCAP_MAXCLIENTS"),
            "unknown variable SOCKCAP_MAXCLIENTS: --maxclients is read from SOCKCAP_MAX_CONNECTIONS"
        );
    }

    #[test]
    fn what_is_no_option_of_ours_is_left_alone() {
        for name in ["PATH", "SOCKCAPX", "sockcap_max_connections", MARK, "SOCKCAP_BIN", "SOCKCAP_MAX_WAIT"] {
            assert_eq!(said(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "ac", 1), ("", "ab", 2), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
