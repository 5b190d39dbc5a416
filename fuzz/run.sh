#!/bin/sh
# Fuzzes what reads bytes from outside: builds the fuzzer and has it enter each target for some seconds, two targets at a time, beginning
# with what is kept in corpus/ and regressions/. Promises a line for each target and exit code 0 if all have kept what they promise, or 1 and
# for each input that breaks one its file, and how to enter it again. Nothing in the repository is changed.
#
#   fuzz/run.sh [-t SECONDS] [TARGET...]   20 seconds each, if nothing else is said
#   fuzz/run.sh --replay [TARGET...]       what is kept, and nothing new
#   fuzz/run.sh --merge [TARGET...]        adds what was found to corpus/, leaving out what adds nothing: to be committed
#   fuzz/run.sh --list                     the targets, and how many bytes each takes
#
# Needs cargo with any rustc since 1.85, a C++ compiler (Debian: g++), and at its first run crates.io. Takes one to two minutes to build with
# two processors. What was found is in fuzz/target/found/TARGET, what has failed in fuzz/target/failed.
set -eu
cd "$(dirname "$0")"

# Of one input: seconds, and of the whole process: MiB. Each target has a bound of its own on memory, too (src/fuzzing.rs).
TIMEOUT=30
MEMORY=512
AT_ONCE=2

say() { echo "fuzz/run.sh: $*"; }
fail() {
    echo "fuzz/run.sh: $1" >&2
    exit "${2-2}"
}

seconds=20
mode=fuzz
while [ $# -gt 0 ]; do
    case $1 in
    -t)
        seconds=${2-}
        case $seconds in '' | *[!0-9]*) fail "-t $seconds: expected a number of seconds" ;; esac
        shift 2
        ;;
    --replay | --merge | --list)
        mode=${1#--}
        shift
        ;;
    -*) fail "unknown option $1: see the head of fuzz/run.sh" ;;
    *) break ;;
    esac
done

for tool in cargo c++; do
    command -v "$tool" >/dev/null || fail "$tool is not installed (Debian: cargo, g++)"
done
CARGO_TARGET_DIR=$PWD/target RUSTC_WRAPPER=$PWD/rustc cargo build --release --locked --quiet
fuzzer=$PWD/target/release/sockcap-fuzz
all=$(FUZZ_TARGET=list "$fuzzer" 2>/dev/null)
if [ "$mode" = list ]; then
    echo "$all"
    exit
fi
[ $# -gt 0 ] || {
    # One word each.
    # shellcheck disable=SC2046
    set -- $(echo "$all" | cut -d' ' -f1)
}
for target in "$@"; do
    echo "$all" | grep -q "^$target " || fail "there is no target $target: fuzz/run.sh --list prints all"
    mkdir -p "target/found/$target" "corpus/$target" "regressions/$target"
done
mkdir -p target/failed

# Options of one target.
options() {
    longest=$(echo "$all" | sed -n "s/^$1 //p")
    echo "-max_len=$longest -timeout=$TIMEOUT -rss_limit_mb=$MEMORY -print_final_stats=1 -artifact_prefix=target/failed/$1-"
}

# Where CI=true the way is as far as it can be the same each time: what a change has not broken is no failure of that change. By hand
# it is another one each time.
seed=''
same=''
if [ "${CI-}" = true ]; then
    seed=-seed=1
    ! setarch -R true 2>/dev/null || same='setarch -R'
fi

# The line of a target that has kept its promises, from what libFuzzer has told.
line() {
    awk -v target="$1" -v kept="$2" '
        / cov: [0-9]+ / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corpus = $(i + 1) } }
        /^stat::number_of_executed_units:/ { runs = $2 }
        /^stat::average_exec_per_sec:/ { rate = $2 }
        /^stat::peak_rss_mb:/ { memory = $2 }
        END {
            sub("/.*", "", corpus)
            printf "fuzz/run.sh: %-9s %9d runs %7d/s  %5d edges  %4d inputs of %4d kept  %4d MiB\n",
                target, runs, rate, cov, corpus, kept, memory
        }' "$3"
}

one() {
    target=$1
    log=target/failed/$target.log
    kept=$(find "corpus/$target" "regressions/$target" -type f | wc -l)
    case $mode in
    fuzz) how="$seed -max_total_time=$seconds target/found/$target" ;;
    replay) how=-runs=0 ;;
    esac
    # Options and folders are words of their own.
    # shellcheck disable=SC2046,SC2086
    if FUZZ_TARGET=$target $same "$fuzzer" $(options "$target") $how "corpus/$target" "regressions/$target" >"$log" 2>&1; then
        line "$target" "$kept" "$log"
        return
    fi
    # In one piece, since another target may say something, too.
    echo "fuzz/run.sh: $target FAILED: $(grep -a -A1 -m1 -E 'panicked at|ERROR: libFuzzer' "$log" | tr '\n' ' ')
  $(sed -n 's/.*Test unit written to \(.*\)/fuzz\/\1/p' "$log")
  once more: FUZZ_TARGET=$target fuzz/target/release/sockcap-fuzz FILE; all that was said is in fuzz/$log"
    return 1
}

# What runs the same code, only more often, is left out, too: it would be thousands of inputs.
merge() {
    target=$1
    new=target/merged/$target
    rm -rf "$new"
    mkdir -p "$new"
    # shellcheck disable=SC2046
    FUZZ_TARGET=$target "$fuzzer" $(options "$target") -merge=1 -use_counters=0 "$new" "corpus/$target" "target/found/$target" \
        >"target/failed/$target.log" 2>&1 || fail "cannot merge $target: fuzz/target/failed/$target.log says why" 1
    rm -rf "corpus/$target" "target/found/$target"
    mv "$new" "corpus/$target"
    say "$target: $(find "corpus/$target" -type f | wc -l) inputs, $(du -bs "corpus/$target" | cut -f1) bytes"
}

if [ "$mode" = merge ]; then
    for target in "$@"; do merge "$target"; done
    exit
fi
rounds=$((($# + AT_ONCE - 1) / AT_ONCE))
[ "$mode" = replay ] || say "$# targets, $seconds s each, $AT_ONCE at a time: $((rounds * seconds)) s"
result=0
while [ $# -gt 0 ]; do
    one "$1" &
    first=$!
    second=
    shift
    if [ $# -gt 0 ]; then
        one "$1" &
        second=$!
        shift
    fi
    for process in $first $second; do wait "$process" || result=1; done
done
[ "$result" = 0 ] || fail "not all targets keep what they promise" 1
