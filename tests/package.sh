#!/bin/sh
# Builds the Debian package of HEAD without network, has lintian judge it, and lives its life (debian/tests/life) under
# systemd 252 and 257, in the root trees that tests/system/roots.sh builds.
#
#   tests/package.sh [DIR]      the packages are left in DIR, if one is named; those that are there already are taken
#
# Needs root, debhelper, lintian, mandoc's and fail2ban's packages, systemd-nspawn. Tests of the program are not run again:
# DEB_BUILD_OPTIONS= runs them in the package's build, too.
set -eu
cd "$(dirname "$0")/.."
rig=${SOCKCAP_RIG_DIR:-target/rig}
dir=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf -- "$dir"' EXIT
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

if ! ls "$dir"/sockcap_*.deb >/dev/null 2>&1; then
    debian/orig.sh "$dir"
    # -d: cargo may come from elsewhere than from a package.
    (cd "$dir"/sockcap-*/ && DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS-nocheck} unshare --net \
        sh -c 'ip link set lo up && exec dpkg-buildpackage -us -uc -d') \
        >"$dir/build.log" 2>&1 || {
        tail -n 40 "$dir/build.log"
        exit 1
    }
fi
deb=$(echo "$dir"/sockcap_*.deb)
lintian --allow-root -EviIL +pedantic --fail-on error,warning,info,pedantic,experimental --tag-display-limit 0 \
    "$dir"/sockcap_*.changes >"$dir/lintian.log" 2>&1 || {
    grep -E '^[EWIPX]: ' "$dir/lintian.log"
    exit 1
}
echo "package.sh: $(basename "$deb"), $(stat -c %s "$deb") bytes; lintian has nothing to say"

for suite in bookworm trixie; do
    tree=$rig/$suite
    [ -e "$tree/.rig-stamp" ] || { echo "package.sh: no root tree $tree; run tests/system/roots.sh" >&2; exit 1; }
    out=$dir/$suite
    rm -rf "$out"
    mkdir "$out"
    # The end of the test is the end of the machine, its exit status that of nspawn.
    cat >"$out/life.service" <<END
[Unit]
Requires=multi-user.target
After=multi-user.target
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
TimeoutStartSec=180
StandardOutput=file:/out/log
StandardError=file:/out/log
ExecStart=/debian/tests/life /out/sockcap.deb
END
    cp "$deb" "$out/sockcap.deb"
    # In a control group of its own; else several machines would share one.
    status=0
    name=sockcap-package-$suite-$$
    # shellcheck disable=SC2016  # for that shell
    name=$name sh -c 'for root in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
            [ ! -e $root/cgroup.procs ] || { mkdir $root/$name && echo 0 >$root/$name/cgroup.procs; }
        done
        exec systemd-nspawn "$@"' sh \
        --register=no --keep-unit --quiet --boot --private-network --volatile=overlay --console=pipe \
        --system-call-filter=bpf --link-journal=no --resolv-conf=off --timezone=off --machine="$name" \
        --setenv=LC_ALL=C.UTF-8 --directory="$tree" --bind="$out:/out" --bind-ro="$PWD/debian:/debian" \
        --bind-ro="$out/life.service:/etc/systemd/system/life.service" systemd.unit=life.service \
        </dev/null >"$out/console" 2>&1 || status=$?
    for root in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
        [ ! -e "$root/$name" ] || find "$root/$name" -depth -type d -exec rmdir {} +
    done
    sed "s/^/$suite: /" "$out/log"
    [ "$status" = 0 ] || { cat "$out/console"; exit 1; }
done
