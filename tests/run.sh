#!/bin/sh
# Installs what the tests need, builds the root trees for the tests under systemd and the disks of the machines that have a
# kernel of their own, and runs every test. Says before each step what it is and how long it takes with two processors.
#
#   tests/run.sh [ARGUMENT...]      with arguments: `cargo test ARGUMENT...` in their place
#
# Without root or apt it runs what it can: tests that need more say SKIPPED and why. With CI=true a skip is a failure.
set -eu
cd "$(dirname "$0")/.."
started=$(date +%s)
say() { echo "run.sh: $(($(date +%s) - started)) s: $*" >&2; }

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc gcc
need nc.openbsd netcat-openbsd # whichever netcat is called nc
need socat socat
need ip iproute2
need prlimit util-linux
need ps procps
need strace strace
need systemd-nspawn systemd-container
need systemd-analyze systemd
need mmdebstrap mmdebstrap
# For tests/machine/.
need qemu-system-x86_64 qemu-system-x86
need mke2fs e2fsprogs
need strip binutils
# The clients of tests/serve/clients.rs. Their names are those of Debian 12 and 13.
need curl curl
need git git
need haproxy haproxy
need ii ii
need ldapsearch ldap-utils
need mariadb mariadb-client-core
need mbsync isync
need memccapable libmemcached-tools
need mosquitto_pub mosquitto-clients
need mpop mpop
need openssl openssl
need psql postgresql-client
need redis-cli redis-tools
need rsync rsync
need sieve-connect sieve-connect
need ssh openssh-client
need swaks swaks
need telnet inetutils-telnet
need testhost suck
need vncsnapshot vncsnapshot
# For tests/serve/metrics.rs.
need prometheus prometheus
# For tests/package.rs.
need journalctl systemd
need mandoc mandoc
need fail2ban-regex fail2ban
need zsh zsh
need fish fish
# For examples/container/check.sh.
need podman podman
need crun crun
need busybox busybox-static
# For fuzz/run.sh.
need c++ g++
# For tests/package.sh.
need dpkg-buildpackage dpkg-dev
need dh debhelper
need lintian lintian
need autopkgtest autopkgtest

if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing (about two minutes if all are missing):$missing"
    apt-get update -qq
    # Only the programs are wanted. A service that such a package brings stays masked until somebody wants it, too.
    if [ -d /run/systemd/system ]; then
        for service in prometheus fail2ban haproxy; do
            case "$missing " in *" $service "*)
                systemctl mask --quiet "$service.service"
                say "masked $service.service, which is not needed; \`systemctl unmask $service\` undoes that"
                ;;
            esac
        done
    fi
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
elif [ -n "$missing" ]; then
    say "not installed, and not root on Debian:$missing"
fi
command -v cargo >/dev/null || {
    echo "run.sh: cargo 1.85 or later is needed (Debian 13: apt install cargo; else rustup)" >&2
    exit 1
}

say "building the tests; beside that, once, root trees of three Debian releases and disks for machines (about three minutes)"
trees=
if [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then
    { tests/system/roots.sh && tests/system/pairs.sh && tests/machine/images.sh; } &
    trees=$!
fi
cargo test --locked --no-run "$@"
[ -z "$trees" ] || wait "$trees"
if [ $# -gt 0 ]; then
    exec cargo test --locked "$@"
fi

# The containers of the tests under systemd wait much, and so they run beside all other tests.
others=
for test in tests/*.rs tests/*/main.rs; do
    test=${test#tests/} test=${test%/main.rs} test=${test%.rs}
    [ "$test" = system ] || others="$others --test $test"
done
output=$(mktemp)
# In a session of its own, so that all of it can be ended when this is.
# Its own number of threads: three containers, and for each somebody who waits for it.
setsid cargo test --locked --test system -- --test-threads 6 >"$output" 2>&1 &
system=$!
trap 'kill -- "-$system" 2>/dev/null || :; rm -f -- "$output"' EXIT
trap 'exit 130' INT TERM
say "all tests; those under systemd beside the others, and shown after them (about ten minutes)"
failed=0
# shellcheck disable=SC2086  # a list of names
cargo test --locked --no-fail-fast --lib --bins --examples $others || failed=1
cargo test --locked --quiet --doc || failed=1
say "the others are done; waiting for the tests under systemd"
wait "$system" || failed=1
cat "$output"
if [ "$failed" = 0 ]; then
    say "all tests passed"
else
    say "FAILED; the names are in the lists above"
fi
exit "$failed"
