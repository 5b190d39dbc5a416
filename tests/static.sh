#!/bin/sh
# Builds sockcap and sockcapctl, each as one static file, with musl for their C library, which run on any Linux of this
# machine's kind; and has the tests of the programs judge them.
#
#   tests/static.sh [DIR]      the files are left in DIR, if one is named, with the licences of what is in them
#
# With rustup's target (`rustup target add x86_64-unknown-linux-musl`) that is one call of cargo. Without it the standard
# library is built, too, from the source that comes with the compiler: by this machine's Rust if it has that and musl-gcc
# (Debian 13: apt install cargo rust-src musl-tools), else by the Rust in a tree of Debian 13 (as root, with mmdebstrap).
# In the tree the same commit makes the same bytes, wherever that is.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-musl

# What cannot be had from a stable compiler is the standard library in our profile: no code that we do not use, and none
# that unwinds. A program that ends at a panic has no use for it, but std wants to be able to print a stack.
with_std() {
    mkdir -p "$out/unwind"
    printf 'int _Unwind_Backtrace(void *f, void *a) { return 5; } /* end of stack */\nunsigned long _Unwind_GetIP(void *c) { return 0; }\n' |
        musl-gcc -O2 -c -x c -o "$out/unwind/none.o" -
    ar rcsD "$out/unwind/libunwind.a" "$out/unwind/none.o"
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C linker=musl-gcc -C link-self-contained=no -L $out/unwind" \
        cargo build --release --locked --target "$target" -Zbuild-std=std,panic_abort -Zbuild-std-features=
}

# In the tree: called by the rest of this script.
if [ "${1-}" = --in-tree ]; then
    out=$CARGO_TARGET_DIR
    with_std
    exit
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
out=$CARGO_TARGET_DIR/static
built=$CARGO_TARGET_DIR/$target/release
sysroot=$(rustc --print sysroot)
if [ -d "$sysroot/lib/rustlib/$target/lib" ]; then
    cargo build --release --locked --target "$target"
elif [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] && command -v musl-gcc >/dev/null; then
    with_std
else
    tests/in-tree.sh musl . "$out" tests/static.sh
    built=$out/target/$target/release
fi

# They ask for no loader and no library.
for name in sockcap sockcapctl; do
    if readelf --program-headers --dynamic "$built/$name" | grep -E 'INTERP|NEEDED'; then
        echo "static.sh: $built/$name is not static" >&2
        exit 1
    fi
done
SOCKCAP_BIN=$built/sockcap SOCKCAPCTL_BIN=$built/sockcapctl \
    cargo test --locked --quiet --test control --test kernel --test limits --test serve --test trouble
for name in sockcap sockcapctl; do
    program=$built/$name
    version=$("$program" --version)
    echo "static.sh: $version, static, $(stat -c %s "$program") bytes, sha256 $(sha256sum "$program" | cut -d ' ' -f 1)"
    [ $# -eq 0 ] || install -D -m 755 "$program" "$1/$name-${version##* }-$(uname -m)-linux"
done
[ $# -eq 0 ] || install -D -m 644 THIRD-PARTY LICENSE -t "$1"
