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

SOCKCAP_RIG_DIR=${SOCKCAP_RIG_DIR:-target/rig}
export SOCKCAP_RIG_DIR
tests/system/roots.sh musl
tree=$(cd "$SOCKCAP_RIG_DIR/musl" && pwd)
out=${CARGO_TARGET_DIR:-$PWD/target}/oldest
rm -rf "$out/source"
mkdir -p "$out/source" "$out/target" "$out/cargo" "$tree/sockcap" "$tree/out"
# What a commit would have, without the lock file.
tar -c --exclude=./target --exclude='./*/target' --exclude=./.git . | tar -C "$out/source" -x
# Crates that this machine has need no download; cargo puts what it lacks into the copy.
for part in index cache; do
    from=${CARGO_HOME:-$HOME/.cargo}/registry/$part
    [ ! -d "$from" ] || { mkdir -p "$out/cargo/registry" && cp -R --update --reflink=auto "$from" "$out/cargo/registry/"; }
done
# Mounts of a process of its own, which end with it. This machine's names and certificates: it knows its mirrors.
# shellcheck disable=SC2016  # for that shell
unshare --mount --propagation private sh -euc 'tree=$1 out=$2
    shift 2
    # A mount of its own, so that the tests can make theirs.
    mount --bind "$tree" "$tree"
    mount --bind "$out/source" "$tree/sockcap"
    mount --bind "$out" "$tree/out"
    mount --rbind /dev "$tree/dev"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount -t tmpfs tmpfs "$tree/tmp"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || mount --bind /etc/ssl/certs "$tree/etc/ssl/certs"
    [ ! -e /etc/resolv.conf ] || mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"
    exec chroot "$tree" /usr/bin/env -i HOME=/out PATH=/usr/sbin:/usr/bin CARGO_HOME=/out/cargo CARGO_TARGET_DIR=/out/target \
        /sockcap/tests/oldest.sh --in-tree "$@"' sh "$tree" "$out" "$@"
echo "oldest.sh: Rust 1.85 and the oldest direct dependencies build and pass"
