#!/bin/sh
# Builds the root trees that tests/system.rs and tests/package.sh boot: bookworm (systemd 252), trixie (257), and forky, with
# the newest systemd that Debian's next release has so far (262). And, if asked for, two with a Rust of trixie, which are not booted:
# `musl`, that tests/static.sh builds with, and `cross`, that tests/arches.sh builds for other architectures with, on amd64 (3 GB).
#
# They land in ${SOCKCAP_RIG_DIR:-target/rig}/SUITE, from whatever mirror mmdebstrap takes by default (environment and
# apt configuration of this machine). A tree whose stamp matches the package list is left alone, so this may run before
# every test run; a tree is put in place by one rename, so nobody ever sees half of one. Needs root and mmdebstrap.
#
# forky is not released: packages come and go, and a mirror may hold a moment at which they do not fit together. No tree of it
# is no error, then: what would run there is skipped, and says so.
#
#   tests/system/roots.sh [bookworm] [trixie] [forky] [musl] [cross]
set -eu

cd "$(dirname "$0")/../.."
dir=${SOCKCAP_RIG_DIR:-target/rig}
booted=systemd,systemd-sysv,dbus,rsync,netcat-openbsd,socat,iproute2,procps,util-linux
# The services of units/, and what makes a login a session.
booted=$booted,git,openssh-server,openssh-client,libpam-systemd
# What debian/tests/control asks for, and what autopkgtest itself does: the machine has no network to get it from.
booted=$booted,apt-utils,fail2ban,python3-systemd
# The compiler, the source of its standard library, and the C library that goes into a static program.
compiler=cargo,rustc,rust-src,musl-tools,ca-certificates
# For each architecture the standard library, and what links with its C library.
foreign=armhf,arm64,i386,riscv64
cross=cargo,rustc,gcc,libc6-dev,ca-certificates
for arch in armhf:arm-linux-gnueabihf arm64:aarch64-linux-gnu i386:i686-linux-gnu riscv64:riscv64-linux-gnu; do
    cross=$cross,libstd-rust-dev:${arch%:*},libc6-dev-${arch%:*}-cross,gcc-${arch#*:}
done

[ $# -gt 0 ] || set -- bookworm trixie forky
[ "$(id -u)" = 0 ] || { echo "roots.sh: must be root" >&2; exit 1; }
command -v mmdebstrap >/dev/null || { echo "roots.sh: mmdebstrap is not installed" >&2; exit 1; }
mkdir -p "$dir"

for suite; do
    tree=$dir/$suite
    packages=$booted
    architectures=
    case $suite in
        musl) suite=trixie packages=$compiler ;;
        cross) suite=trixie packages=$cross architectures=amd64,$foreign ;;
    esac
    # Which reads the metrics of sockcap-report.socket; older releases have none.
    [ "$suite" != forky ] || packages=$booted,systemd-report
    wanted="3 $packages"
    # The stamp is written last, and into the tree itself, so it can neither outlive nor outrun it.
    [ "$(cat "$tree/.rig-stamp" 2>/dev/null)" = "$wanted" ] && continue

    new=$(mktemp -d "$dir/.$suite.XXXXXX")
    trap 'rm -rf -- "$new"' EXIT
    # An unreleased suite's index expires within days, and a mirror may be older. Signatures count all the same.
    expired=
    # shellcheck disable=SC2089  # it is apt that reads the quotes
    [ "$suite" != forky ] || expired='Acquire::Check-Valid-Until "false"'
    # Packages of several architectures go together in one version only. That holds in a release: its updates, security's too,
    # come to one architecture before another.
    # shellcheck disable=SC2016  # mmdebstrap's shell has the folder
    release_only='sed -i "/ trixie-/d" "$1/etc/apt/sources.list"'
    # A tar first: mmdebstrap into a directory would leave its own mounts to clean up when it is interrupted.
    # shellcheck disable=SC2090
    mmdebstrap --quiet --variant=minbase --include="$packages" ${expired:+--aptopt="$expired"} \
        ${architectures:+--architectures="$architectures" --setup-hook="$release_only"} \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/src/rustc-*' \
        --dpkgopt='path-include=/usr/src/rustc-*/library/*' \
        "$suite" "$new/root.tar" || {
        [ "$suite" = forky ] || exit 1
        rm -rf -- "$new" "$tree"
        trap - EXIT
        echo "roots.sh: WARNING: no tree of $suite; tests under the newest systemd will be SKIPPED" >&2
        continue
    }
    mkdir "$new/tree"
    tar -C "$new/tree" --numeric-owner -xf "$new/root.tar"
    mkdir -p "$new/tree/etc/systemd/system"
    # That list was for building the tree; what a test installs there is to be whole.
    rm -f "$new/tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    # An empty machine id is filled in at boot, in memory; the timers would only wake things up during a test, and the
    # distribution's ssh would hold the port.
    : > "$new/tree/etc/machine-id"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
        e2scrub_all.timer systemd-tmpfiles-clean.timer ssh.service ssh.socket; do
        ln -sf /dev/null "$new/tree/etc/systemd/system/$unit"
    done
    # For its own test to start.
    rm -f "$new/tree/etc/systemd/system/multi-user.target.wants/fail2ban.service"
    printf '%s\n' "$wanted" > "$new/tree/.rig-stamp"

    [ ! -e "$tree" ] || mv "$tree" "$new/old"
    mv "$new/tree" "$tree"
    rm -rf -- "$new"
    trap - EXIT
    echo "roots.sh: built $tree"
done
