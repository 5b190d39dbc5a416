#!/bin/sh
# Changes the program in one place after the other, and names each change that no unit test notices: a comparison that becomes
# another one, a function that returns something fixed, an arm of a match that is gone.
#
#   tests/mutants.sh [PATH...]      files or folders of src; policy and reply without arguments
#
# What it names has no test, has one only in tests/, or changes nothing that matters: for that tests/mutants.toml wants a pattern and a
# reason. Fails if it names any.
#
# A change takes seconds, src/policy and src/reply about 1100 of them hours: try one file after a change in it. Leaves its report in
# target/mutants.out. Needs cargo-mutants: cargo install --locked cargo-mutants.
set -eu
cd "$(dirname "$0")/.."
cargo mutants --version >/dev/null 2>&1 || {
    echo "mutants.sh: no cargo-mutants here; cargo install --locked cargo-mutants" >&2
    exit 1
}
[ $# -gt 0 ] || set -- src/policy src/reply
for path; do
    shift
    [ ! -d "$path" ] || path="$path/**"
    set -- "$@" --file "$path"
done
mkdir -p target
# Variables take half the time of a build, and a mutant that is noticed needs no backtrace.
CARGO_PROFILE_DEV_DEBUG=0 RUST_BACKTRACE=0 exec cargo mutants --config tests/mutants.toml --gitignore true --output target "$@"
