//! Help, README, docs/ and units name the same options, defaults and message ids.

#[path = "docs/metrics.rs"]
mod metrics;
#[path = "docs/stable.rs"]
mod stable;

use clap::CommandFactory;
use sockcap::cli::Args;
use sockcap::ctl;
use sockcap::policy::limit::LIMITS;
use sockcap::policy::reason::Reason;
use sockcap::reply::PRESETS;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn units() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("units");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (name(&p), fs::read_to_string(&p).unwrap()))
        .collect()
}

/// README.md, SECURITY.md, THREATS.md and what is in docs/, by path.
fn pages() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let paths =
        names.map(|name| format!("docs/{name}")).chain(["README.md", "SECURITY.md", "THREATS.md"].map(str::to_owned));
    paths.map(|path| (path.clone(), read(&path))).collect()
}

/// The option table, a row each.
fn table(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with("| `-")).collect()
}

#[test]
fn the_table_of_options_is_the_program_s() {
    let page = read("docs/options.md");
    let rows = table(&page);
    let command = Args::command();
    for option in command.get_opts() {
        let long = format!("--{}", option.get_long().unwrap());
        let short = option.get_short().map(|short| format!("-{short}"));
        let named = |row: &&str| {
            let cell = row.split('|').nth(1).unwrap();
            let mut words = cell.split(|c: char| !c.is_alphanumeric() && c != '-');
            words.any(|word| word == long || short.as_deref() == Some(word))
        };
        let row = rows.iter().find(|row| named(row)).unwrap_or_else(|| panic!("{long} is not in the page's table"));
        for alias in option.get_all_aliases().unwrap_or_default() {
            assert!(row.contains(&format!("`--{alias}`")), "{long}: alias --{alias} is not in its row");
        }
        if let [default] = option.get_default_values() {
            let default = default.to_str().unwrap();
            if !matches!(default, "false" | "true") {
                assert!(row.contains(default), "{long}: default {default} is not in its row");
            }
        }
    }
    for row in rows {
        for word in row.split('`').filter(|word| word.starts_with("--")) {
            let long = word[2..].split([' ', '=', '[']).next().unwrap();
            let known = command.get_opts().any(|option| {
                option.get_long() == Some(long) || option.get_all_aliases().unwrap_or_default().contains(&long)
            });
            assert!(known, "the page's --{long} is unknown to the program");
        }
    }
}

#[test]
fn the_page_of_sockcapctl_has_every_command() {
    let page = read("docs/sockcapctl.md");
    // What its output means is held by a test of `status`.
    let (before, rest) = page.split_once("## What `status` shows\n").unwrap();
    let page = format!("{before}{}", rest.split_once("\n## ").unwrap().1);
    let rows = |start: &str| page.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    let program = ctl::Args::command();
    let commands: Vec<_> = program.get_subcommands().collect();
    for command in &commands {
        let usage = ctl::usage(Some(command));
        let start = format!("| `{}` | ", usage.trim_start_matches("sockcapctl "));
        assert_eq!(rows(&start).len(), 1, "{start}");
    }
    for option in program.get_arguments() {
        let long = option.get_long().unwrap();
        assert!(page.contains(&format!("`--{long}`")), "--{long}");
    }
    for (exit, _) in ctl::Exit::ALL {
        assert_eq!(rows(&format!("| {} | ", exit as u8)).len(), 1, "{exit:?}");
    }
    assert_eq!(rows("| `").len(), commands.len(), "a row of a command that there is not");
}

/// With the tests on options, every limit is thus in the help, the manual and docs/options.md.
#[test]
fn every_limit_is_an_option() {
    let command = Args::command();
    let is_option = |long: &str| command.get_opts().any(|option| option.get_long() == Some(long));
    for kind in &LIMITS {
        let option = kind.info.option.unwrap_or_else(|| panic!("a limit without an option: {kind:?}"));
        assert!(is_option(option), "{option}");
    }
    assert!(Reason::ALL.iter().filter_map(|reason| reason.info().option).all(is_option));
}

#[test]
fn every_preset_is_in_the_table_and_in_help() {
    let page = read("docs/options.md");
    let row = table(&page).into_iter().find(|row| row.contains("--busy-reply")).unwrap();
    let help = sockcap::cli::help(true);
    for preset in &PRESETS {
        assert!(row.contains(&format!("`{}`", preset.name)), "docs/options.md: {}", preset.name);
        assert!(help.contains(&format!("\n  {:<12} {}\n", preset.name, preset.about)), "help: {}", preset.name);
    }
}

#[test]
fn every_variable_in_pages_and_units_is_an_option() {
    let command = Args::command();
    let known = |name: &str| command.get_opts().any(|o| o.get_env().is_some_and(|env| env == name));
    let fields = stable::fields(); // they share the prefix
    let mut texts = units();
    texts.extend(pages());
    for (file, text) in texts {
        for part in text.split("SOCKCAP_").skip(1) {
            let name: String =
                part.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_' || c.is_ascii_digit()).collect();
            let placeholder = name.is_empty(); // SOCKCAP_<OPTION>, SOCKCAP_*
            assert!(
                placeholder || known(&format!("SOCKCAP_{name}")) || fields.contains(&name),
                "{file}: SOCKCAP_{name}"
            );
        }
    }
}

#[test]
fn options_in_units_exist() {
    let (daemon, ctl) = (Args::command(), sockcap::ctl::Args::command());
    for (file, text) in units() {
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/sockcap")) {
            let mut ours = line.split(" -- ").next().unwrap().split(' ');
            let command = match ours.next() {
                Some("ctl") => ctl.find_subcommand(ours.next().unwrap()).unwrap_or_else(|| panic!("{file}: {line}")),
                _ => &daemon,
            };
            for word in ours.filter_map(|word| word.strip_prefix("--")) {
                let long = word.split('=').next().unwrap();
                assert!(command.get_opts().any(|option| option.get_long() == Some(long)), "{file}: --{long}");
            }
        }
    }
}

#[test]
fn coming_from_names_options_that_exist() {
    let page = read("docs/coming-from.md");
    let command = Args::command();
    let mut seen = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        // The right-hand cell; the other is somebody else's. `sh -c` is not ours either.
        let quoted = row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2).filter(|code| code.starts_with('-'));
        for word in quoted.flat_map(|code| code.split(' ')).filter(|word| word.starts_with('-')) {
            let known = command.get_opts().any(|option| match word.strip_prefix("--") {
                Some(long) => {
                    let long = long.split('=').next().unwrap();
                    option.get_long() == Some(long) || option.get_all_aliases().unwrap_or_default().contains(&long)
                }
                None => option.get_short().is_some_and(|short| word == format!("-{short}")),
            });
            assert!(known, "{word} in: {row}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// What is filled in becomes `...`, as the README writes it.
fn with_gaps(source: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        rest = match after.split_once('}') {
            Some((name, rest)) if name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_:.".contains(&c)) => {
                text.push_str("...");
                rest
            }
            _ => after,
        };
    }
    text + rest
}

#[test]
fn troubleshooting_quotes_what_is_said() {
    let page = read("docs/troubleshooting.md");
    let said = with_gaps(&read("src/observe/words.rs"));
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let message = row.split('`').nth(1).unwrap();
        assert!(said.contains(&format!("\"{message}")), "nobody says: {message}");
    }
}

#[test]
fn the_picture_is_the_readme_s() {
    let (readme, svg) = (read("README.md"), read("benches/burst.svg"));
    let about = svg.split("<desc id=\"about\">").nth(1).unwrap();
    // "24 clients in 0.55 s for `sleep 0.3`: 16 served in order, 8 refused within ..."
    let number = |what: &str| {
        let before = about.split(what).next().unwrap().trim_end();
        before.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let [clients, served, refused] = ["clients", "served in order", "refused within"].map(number);
    assert_eq!(clients, served + refused);
    assert_eq!(svg.matches("<use class=\"refused\"").count(), refused);
    let alt = readme.split("](benches/burst.svg)").next().unwrap().rsplit("![").next().unwrap();
    for words in [format!("{clients} clients"), format!("{served} are served"), format!("and {refused} that come")] {
        assert!(alt.contains(&words), "{words} is not in: {alt}");
    }
}

#[test]
fn every_reason_is_in_the_page() {
    let page = read("docs/watching.md");
    for reason in Reason::ALL {
        let start = format!("| `{}` | `{}` |", reason.slug(), reason.message_id());
        let row = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{start}"));
        if let Some(option) = reason.info().option {
            assert!(row.contains(&format!("`--{option}`")), "the option is not named: {row}");
        }
    }
}

#[test]
fn every_unit_is_in_the_readme() {
    let readme = read("README.md");
    for (file, _) in units() {
        let name = file.split('.').next().unwrap();
        let rows = [name, name.trim_end_matches('@')].map(|name| format!("\n| `{name}` | "));
        assert!(rows.iter().any(|row| readme.contains(row)), "{file}");
    }
}

/// sockcapctl finds every daemon that systemd has started.
#[test]
fn every_service_has_a_control_socket() {
    let hello = ("hello.service".to_owned(), read("debian/examples/hello.service"));
    let services =
        units().into_iter().chain([hello]).filter(|(_, text)| text.contains("\nExecStart=/usr/bin/sockcap "));
    let mut seen = 0;
    for (file, text) in services {
        assert!(text.contains("\nEnvironment=SOCKCAP_CONTROL=%t/sockcap/%N/control.sock\n"), "{file}");
        let folders = text.lines().find_map(|line| line.strip_prefix("RuntimeDirectory="));
        assert!(folders.is_some_and(|all| all.split(' ').any(|folder| folder == "sockcap/%N")), "{file}");
        seen += 1;
    }
    assert!(seen > 6, "{seen}");
}

/// `systemctl help UNIT` shows the manual, and what a command writes to stderr is not taken for sockcap's.
#[test]
fn every_unit_names_the_manual_and_its_commands_log() {
    let example = |name: &str| (name.to_owned(), read(&format!("debian/examples/{name}")));
    let all = units().into_iter().chain([example("hello.service"), example("hello.socket")]);
    for (file, text) in all {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        assert!(value("Documentation=").is_some_and(|pages| pages.starts_with("man:sockcap(8)")), "{file}");
        if file.ends_with(".service") {
            assert!(value("SyslogIdentifier=").is_some_and(|name| name != "sockcap"), "{file}");
        }
    }
}

/// A link to a file or a heading that is not there leads nowhere.
#[test]
fn links_lead_somewhere() {
    let heading = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    let mut seen = 0;
    for (path, text) in pages() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file =
                if file.is_empty() { Path::new(env!("CARGO_MANIFEST_DIR")).join(&path) } else { folder.join(file) };
            assert!(file.exists(), "{path}: {link}");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&file).unwrap();
                let found = there.lines().filter(|line| line.starts_with('#')).any(|line| heading(line) == anchor);
                assert!(found, "{path}: no heading for {link}");
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Whoever doubts what it says finds the test: each is named after the folder of its test program.
#[test]
fn threats_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let is_test = |code: &str| {
        let is_name = code.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        is_name && code.contains('_') && !code.starts_with('_')
    };
    let mut seen = 0;
    for row in read("THREATS.md").lines() {
        let mut folder = None;
        let mut parts = row.split('`');
        while let Some(text) = parts.next() {
            let named = text.split([' ', '(']).rfind(|word| !word.is_empty()).filter(|word| root.join(word).is_dir());
            folder = named.or(folder);
            let Some(test) = parts.next().filter(|code| is_test(code)) else { continue };
            let folder = folder.unwrap_or_else(|| panic!("{test} is of no folder: {row}"));
            let mut files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            let has = |path: std::path::PathBuf| {
                path.is_file() && fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("fn {test}(")))
            };
            assert!(files.any(has), "there is no test {test} in tests/{folder}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

/// The newcomer's map shows houses that stand.
#[test]
fn every_file_that_contributing_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = read("CONTRIBUTING.md");
    let quoted = text.split('`').skip(1).step_by(2).map(|code| code.split([' ', ':']).next().unwrap());
    let is_path =
        |code: &&str| code.contains('/') && code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let mut seen = 0;
    for path in quoted.filter(is_path) {
        // Below src/ the rooms are named without it, and files of one folder without the folder.
        let folders = ["", "src/", "src/policy/", "tests/"];
        assert!(folders.iter().any(|folder| root.join(folder).join(path).exists()), "{path}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}
