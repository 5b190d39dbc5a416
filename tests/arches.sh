#!/bin/sh
# Builds sockcap and sockcapctl for other architectures, with Debian 13's Rust 1.85 and without a warning of this crate, and
# has the tests of the programs judge those of i386, which need no machine of their own.
#
#   tests/arches.sh [armhf | arm64 | i386 | riscv64]...      all four without arguments
#
# Needs root and mmdebstrap on amd64, for a tree of Debian 13 with what builds for the others (tests/system/roots.sh); that takes
# 3 GB and ten minutes the first time. The tree is not changed: cargo builds outside. Run it before a release.
#
# The programs are in target/arches/target/TARGET/release. They are larger than a package's: LTO would take most of the time.
#
# Tests that run for i386: those of the programs, against static ones in the profile `checked`, which notices what 32 bits do not hold.
# A kernel without 32-bit programs SKIPS them; that is an error with CI=true. Not run: what is built for the other three; serve and apart.
set -eu
cd "$(dirname "$0")/.."

# know ARCH: what cargo, gcc and readelf call an architecture of Debian.
know() {
    case $1 in
        armhf) target=armv7-unknown-linux-gnueabihf gcc=arm-linux-gnueabihf-gcc machine=ARM ;;
        arm64) target=aarch64-unknown-linux-gnu gcc=aarch64-linux-gnu-gcc machine=AArch64 ;;
        i386) target=i686-unknown-linux-gnu gcc=i686-linux-gnu-gcc machine='Intel 80386' ;;
        riscv64) target=riscv64gc-unknown-linux-gnu gcc=riscv64-linux-gnu-gcc machine=RISC-V ;;
        *)
            echo "arches.sh: unknown architecture '$1'; usage: tests/arches.sh [armhf | arm64 | i386 | riscv64]..." >&2
            exit 2
            ;;
    esac
}

# In the tree: called by the rest of this script.
if [ "${1-}" = --in-tree ]; then
    shift
    rustc --version
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    for arch; do
        know "$arch"
        # Warnings of dependencies are none of ours; cargo caps them.
        export RUSTFLAGS="-D warnings -C linker=$gcc"
        cargo build --locked --release --target "$target"
        [ "$arch" != i386 ] || RUSTFLAGS="$RUSTFLAGS -C target-feature=+crt-static" CARGO_TARGET_DIR=/out/static \
            cargo build --locked --profile checked --target "$target" --bins
    done
    exit
fi

[ $# -gt 0 ] || set -- armhf arm64 i386 riscv64
for arch; do know "$arch"; done
[ "$(uname -m)" = x86_64 ] || { echo "arches.sh: this machine is $(uname -m); the tree to build in is for amd64" >&2; exit 1; }
command -v readelf >/dev/null || { echo "arches.sh: readelf is not installed (apt install binutils)" >&2; exit 1; }

out=${CARGO_TARGET_DIR:-$PWD/target}/arches
tests/in-tree.sh cross . "$out" tests/arches.sh "$@"
tree=${SOCKCAP_RIG_DIR:-target/rig}/cross

for arch; do
    know "$arch"
    sizes=
    for name in sockcap sockcapctl; do
        program=$out/target/$target/release/$name
        told=$(LC_ALL=C readelf --file-header "$program" | sed -n 's/^ *Machine: *//p')
        [ "$told" = "$machine" ] || { echo "arches.sh: $program is for '$told', not for '$machine'" >&2; exit 1; }
        sizes="$sizes, $name $(stat -c %s "$program") bytes"
    done
    echo "arches.sh: $arch: $machine$sizes"
done

case " $* " in *' i386 '*) ;; *) exit ;; esac
know i386
# A program of 32 bits that is not ours.
if ! "$tree/usr/lib/i386-linux-gnu/ld-linux.so.2" --version >/dev/null 2>&1; then
    echo "arches.sh: SKIPPED the tests of i386: this kernel does not run 32-bit programs" >&2
    [ "${CI-}" != true ] || exit 1
    exit 0
fi
built=$out/static/$target/checked
tests='seeds control limits kernel trouble'
# shellcheck disable=SC2046,SC2086  # lists of names
SOCKCAP_BIN=$built/sockcap SOCKCAPCTL_BIN=$built/sockcapctl \
    cargo test --locked --quiet $(printf -- '--test %s ' $tests)
echo "arches.sh: i386: $tests pass"
