#!/bin/sh
# Builds the root trees that tests/system.rs boots: bookworm (systemd 252) and trixie (systemd 257).
#
# They land in ${SOCKCAP_RIG_DIR:-target/rig}/SUITE, from whatever mirror mmdebstrap takes by default (environment and
# apt configuration of this machine). A tree whose stamp matches the package list is left alone, so this may run before
# every test run; a tree is put in place by one rename, so nobody ever sees half of one. Needs root and mmdebstrap.
#
#   tests/system/roots.sh [SUITE...]
set -eu

cd "$(dirname "$0")/../.."
dir=${SOCKCAP_RIG_DIR:-target/rig}
packages=systemd,systemd-sysv,dbus,rsync,netcat-openbsd,socat,iproute2,procps,util-linux
# The services of units/, and what makes a login a session.
packages=$packages,git,openssh-server,openssh-client,libpam-systemd
wanted="2 $packages"

[ $# -gt 0 ] || set -- bookworm trixie
[ "$(id -u)" = 0 ] || { echo "roots.sh: must be root" >&2; exit 1; }
command -v mmdebstrap >/dev/null || { echo "roots.sh: mmdebstrap is not installed" >&2; exit 1; }
mkdir -p "$dir"

for suite; do
    tree=$dir/$suite
    # The stamp is written last, and into the tree itself, so it can neither outlive nor outrun it.
    [ "$(cat "$tree/.rig-stamp" 2>/dev/null)" = "$wanted" ] && continue

    new=$(mktemp -d "$dir/.$suite.XXXXXX")
    trap 'rm -rf -- "$new"' EXIT
    # A tar first: mmdebstrap into a directory would leave its own mounts to clean up when it is interrupted.
    mmdebstrap --quiet --variant=minbase --include="$packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$new/root.tar"
    mkdir "$new/tree"
    tar -C "$new/tree" --numeric-owner -xf "$new/root.tar"
    # An empty machine id is filled in at boot, in memory; the timers would only wake things up during a test, and the
    # distribution's ssh would hold the port.
    : > "$new/tree/etc/machine-id"
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
        e2scrub_all.timer systemd-tmpfiles-clean.timer ssh.service ssh.socket; do
        ln -sf /dev/null "$new/tree/etc/systemd/system/$unit"
    done
    printf '%s\n' "$wanted" > "$new/tree/.rig-stamp"

    [ ! -e "$tree" ] || mv "$tree" "$new/old"
    mv "$new/tree" "$tree"
    rm -rf -- "$new"
    trap - EXIT
    echo "roots.sh: built $tree"
done
