#!/bin/sh
# Installs what has been built into the tree of a package: programs, units, manual pages, completions, messages for the journal,
# fail2ban's rules, documentation. Nothing is enabled.
#
#   packaging/install.sh DESTDIR [NAME=DIRECTORY]...
#
# Needs `cargo build --release` and `cargo run --release --example pages target/pages`, or both under CARGO_TARGET_DIR. A NAME is
# one of those below; PRESETDIR has no default, and without it there is no preset.
set -eu
umask 022
[ $# -ge 1 ] || { echo "usage: packaging/install.sh DESTDIR [NAME=DIRECTORY]..." >&2; exit 2; }
dest=$1
shift

BINDIR=/usr/bin
SYSCONFDIR=/etc
MANDIR=/usr/share/man
DOCDIR=/usr/share/doc/sockcap
UNITDIR=/usr/lib/systemd/system
CATALOGDIR=/usr/lib/systemd/catalog
BASHDIR=/usr/share/bash-completion/completions
ZSHDIR=/usr/share/zsh/site-functions
FISHDIR=/usr/share/fish/vendor_completions.d
PRESETDIR=
for setting; do
    case $setting in
        [A-Z]*DIR=/*) ;;
        *) echo "install.sh: '$setting' is not NAME=/DIRECTORY" >&2; exit 2 ;;
    esac
    name=${setting%%=*}
    eval "[ -n \"\${$name+set}\" ]" || { echo "install.sh: there is no $name; see packaging/install.sh" >&2; exit 2; }
    eval "$name=\${setting#*=}"
done

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
[ -e "$target/pages/sockcap.8" ] || { echo "install.sh: there is no $target/pages: build it first, see packaging/install.sh" >&2; exit 1; }

# MODE FILE DIRECTORY [NAME]
put() { install -D -p -m "$1" "$2" "$dest$3/${4:-$(basename "$2")}"; }

for program in sockcap sockcapctl; do
    put 755 "$target/release/$program" "$BINDIR"
    put 644 "$target/pages/$program.8" "$MANDIR/man8"
    put 644 "$target/pages/$program.bash" "$BASHDIR" $program
    put 644 "$target/pages/_$program" "$ZSHDIR"
    put 644 "$target/pages/$program.fish" "$FISHDIR"
done
for unit in units/*; do put 644 "$unit" "$UNITDIR"; done
put 644 debian/sockcap.catalog "$CATALOGDIR"
if [ -n "$PRESETDIR" ]; then
    install -d -m 755 "$dest$PRESETDIR"
    (cd units && printf 'disable %s\n' *) >"$dest$PRESETDIR/90-sockcap.preset"
fi
install -d -m 755 "$dest$SYSCONFDIR/sockcap"
for part in filter.d jail.d; do put 644 debian/fail2ban/$part/sockcap.conf "$SYSCONFDIR/fail2ban/$part"; done

# As the links between these pages want it; what is a licence is not among them.
# shellcheck disable=SC2046  # a list of paths
find CHANGELOG.md benches/README.md benches/*.svg $(grep -vx THIRD-PARTY debian/sockcap.docs) -type f |
    while read -r file; do put 644 "$file" "$DOCDIR/$(dirname "$file")"; done
# shellcheck disable=SC2013  # a list of patterns
for example in $(cat debian/sockcap.examples); do
    find "$example" -type f | while read -r file; do
        if [ -x "$file" ]; then mode=755; else mode=644; fi
        put $mode "$file" "$DOCDIR/examples/$(dirname "$(basename "$example")${file#"$example"}")"
    done
done
