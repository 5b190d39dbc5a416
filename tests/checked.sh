#!/bin/sh
# Runs tests with builds that check more than those of users do.
#
#   tests/checked.sh [quick | asan | overflow | miri]...      quick alone without arguments; all of them before a release
#
#   quick      the programs in their release profile, with overflow checks, debug assertions and AddressSanitizer together, for
#              tests/seeds.rs and tests/control/
#   asan       unit tests and all programs of tests, under AddressSanitizer
#   overflow   all programs of tests, with the release profile, overflow checks and debug assertions
#   miri       the unit tests of what is pure, in Miri: policy/, reply/, PROXY headers and templates
#
# quick takes about a minute and a half with two processors, asan and overflow about ten minutes each, miri longer.
#
# AddressSanitizer is a part of rustup's toolchains, the stable ones too; Debian's Rust has none. Miri is a part of rustup's
# nightly alone (rustup component add --toolchain nightly miri rust-src). Where they are missing, what needs them is SKIPPED by
# name, even with CI=true: no package has them.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc --version --verbose | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}
# A script must not find the reports of an earlier run, nor of one beside it.
reports=$(mktemp -d)
# Commands and daemons of other users write theirs, too.
chmod 1777 "$reports"
trap 'rm -rf -- "$reports"' EXIT

# The programs of tests that start ours. Those under systemd and in machines are none of this.
programs='seeds control serve limits kernel trouble apart'

# A sanitizer's report of a daemon would go to a log that no test reads, and of a command to its client.
# A child shares the daemon's memory until it executes its command, on a stack of its own but beside the daemon (src/sys/exec.rs).
# The stack of copies that finds a use after a return is per thread, and both would use one: it stays off.
ASAN_OPTIONS=log_path=$reports/report:detect_stack_use_after_return=0
export ASAN_OPTIONS

has_asan() {
    ls "$(rustc --print sysroot)/lib/rustlib/$host/lib/"librustc*_rt.asan.a >/dev/null 2>&1
}

# An aborted program may be what its test waits for.
no_reports() {
    for report in "$reports"/*; do
        [ ! -e "$report" ] || { cat "$report"; echo "checked.sh: AddressSanitizer has found this" >&2; exit 1; }
    done
}

# with_programs DIR TEST...: the programs of DIR, and the usual builds of these tests.
with_programs() {
    built=$1
    shift
    for test; do
        # shellcheck disable=SC2086  # a list of words
        SOCKCAP_BIN=$built/sockcap SOCKCAPCTL_BIN=$built/sockcapctl cargo test --locked --quiet --test "$test" -- $skip
    done
}

[ $# -gt 0 ] || set -- quick
for part; do
    skip=
    case $part in
        quick)
            if has_asan; then
                RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$target/asan \
                    cargo build --locked --quiet --profile checked --target "$host" --bins
                with_programs "$target/asan/$host/checked" seeds control
            else
                echo "checked.sh: SKIPPED AddressSanitizer: this Rust has none (rustup's has); all else of quick is run" >&2
                cargo build --locked --quiet --profile checked --bins
                with_programs "$target/checked" seeds control
            fi
            no_reports
            ;;
        asan)
            has_asan || { echo "checked.sh: SKIPPED asan: this Rust has no AddressSanitizer (rustup's has)" >&2; continue; }
            # Without /proc AddressSanitizer itself has something to say, where the test wants one line.
            skip='--skip without_proc_a_closed_descriptor_is_named'
            tests=
            for test in $programs; do tests="$tests --test $test"; done
            # shellcheck disable=SC2086  # lists of words
            CARGO_PROFILE_DEV_DEBUG=line-tables-only RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$target/asan \
                cargo test --locked --quiet --target "$host" --lib --bins $tests -- $skip
            no_reports
            ;;
        overflow)
            cargo build --locked --quiet --profile checked --bins
            # shellcheck disable=SC2086  # a list of names
            with_programs "$target/checked" $programs
            ;;
        miri)
            cargo +nightly miri --version >/dev/null 2>&1 || {
                echo "checked.sh: SKIPPED miri: no nightly with it (rustup component add --toolchain nightly miri rust-src)" >&2
                continue
            }
            # It is an interpreter, and does not end with tests of properties, which take arguments.
            # shellcheck disable=SC2046  # a list of words
            MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=$target/miri \
                cargo +nightly miri test --locked --quiet --lib -- policy:: reply:: listen::proxy child::template \
                $(find src -name '*.rs' -exec awk '/#\[test\]/ { test = 1; next }
                    test && /fn / { if ($0 !~ /fn [a-z0-9_]+\(\)/) { sub(/.*fn /, ""); sub(/\(.*/, ""); print "--skip " $0 } test = 0 }' {} +)
            ;;
        *)
            echo "usage: tests/checked.sh [quick | asan | overflow | miri]..." >&2
            exit 2
            ;;
    esac
    echo "checked.sh: $part has found nothing"
done
