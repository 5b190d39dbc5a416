#!/bin/sh
# Builds and tests sockcap with the oldest that Cargo.toml allows: Rust 1.85, and the lowest version of each direct dependency.
#
#   tests/oldest.sh [TEST...]      the unit tests, those in tests/seeds.rs, and of which other program a test is named (limits, ...)
#
# Needs root and mmdebstrap, for the Rust of Debian 13 in a tree of its own (tests/system/roots.sh), whatever Rust this machine
# has. That tree is not changed: what it builds from is a copy, and it builds outside.
set -eu
cd "$(dirname "$0")/.."

# In the tree: called by the rest of this script.
if [ "${1-}" = --in-tree ]; then
    shift
    rustc --version
    # The choice is cargo's, and not yet stable. Those that direct dependencies ask for are the newest that Rust 1.85 builds.
    rm -f Cargo.lock
    RUSTC_BOOTSTRAP=1 cargo generate-lockfile --quiet -Zdirect-minimal-versions
    cargo tree --locked --depth 1 --prefix none --format '{p}' --edges normal,build,dev
    export CARGO_PROFILE_DEV_DEBUG=0
    set -- seeds "$@"
    for test; do
        set -- "$@" --test "$test"
        shift
    done
    # That one needs socat.
    cargo test --locked --quiet --lib --bins "$@" -- --skip another_user_may_ask_and_not_change
    exit
fi

out=${CARGO_TARGET_DIR:-$PWD/target}/oldest
rm -rf "$out/source"
mkdir -p "$out/source"
# What a commit would have, without the lock file.
tar -c --exclude=./target --exclude='./*/target' --exclude=./.git . | tar -C "$out/source" -x
tests/in-tree.sh musl "$out/source" "$out" tests/oldest.sh "$@"
echo "oldest.sh: Rust 1.85 and the oldest direct dependencies build and pass"
