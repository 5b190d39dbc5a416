#!/bin/sh
# Installs what the tests need, builds the root trees for the tests under systemd and the disks of the machines that have a
# kernel of their own, and runs every test.
#
# Without root or apt it runs what it can: tests that need more say SKIPPED and why. With CI=true a skip is a failure.
set -eu
cd "$(dirname "$0")/.."

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
# The clients of tests/serve/clients.rs. None of these packages starts a daemon, and their names are those of Debian 12 and 13.
need curl curl
need git git
need haproxy haproxy # its service, where there is systemd, listens nowhere
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
# For tests/serve/metrics.rs; its service is masked below, since only the programs are wanted.
need prometheus prometheus
# For tests/package.rs.
need journalctl systemd
need mandoc mandoc
need fail2ban-regex fail2ban
need zsh zsh
need fish fish
# for tests/package.sh
need dpkg-buildpackage dpkg-dev
need dh debhelper
need lintian lintian
need autopkgtest autopkgtest

if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    case $missing in *" prometheus"*) [ ! -d /run/systemd/system ] || systemctl mask --quiet prometheus.service ;; esac
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
elif [ -n "$missing" ]; then
    echo "run.sh: not installed, and not root on Debian:$missing" >&2
fi
command -v cargo >/dev/null || {
    echo "run.sh: cargo 1.85 or later is needed (Debian 13: apt install cargo; else rustup)" >&2
    exit 1
}

if [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then
    tests/system/roots.sh
    # Beside the build, which takes longer.
    { tests/system/pairs.sh && tests/machine/images.sh; } &
    cargo test --locked --no-run "$@"
    wait $!
fi
exec cargo test --locked "$@"
