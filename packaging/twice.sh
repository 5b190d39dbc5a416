#!/bin/sh
# Builds the Debian package a second time, from the same sources, and says whether it is the same, byte for byte: in another
# directory, as another user, on one processor, and as on another machine (packaging/elsewhere.sh), in whose time zone it mostly is
# another day. Too slow for each change: run it before a release.
#
#   packaging/twice.sh DIR      DIR is what tests/package.sh has left: the first .deb, and the sources
#
# Needs root, debhelper, iproute2. Two minutes with 2 CPUs.
set -eu
cd "$(dirname "$0")/.."
[ $# = 1 ] || { echo "usage: packaging/twice.sh DIR" >&2; exit 2; }
dir=$(cd "$1" && pwd)
first=$(find "$dir" -maxdepth 1 -name 'sockcap*.deb')
[ -n "$first" ] || { echo "twice.sh: there is no .deb in $dir: run tests/package.sh $dir first" >&2; exit 1; }
home=$(mktemp -d)
trap 'rm -rf -- "$home"' EXIT
mkdir -p "$home/another/place"
cp "$dir"/sockcap_*.orig*.tar.xz "$home/"
chmod -R a+rX "$home"
# shellcheck disable=SC2016  # for the inner shell
packaging/elsewhere.sh "$home/another/place" sh -euc '
    for tarball in ../../*.orig.tar.xz; do tar -xf "$tarball"; done
    cd sockcap-*/
    for tarball in ../../../*.orig-vendor.tar.xz; do tar -xf "$tarball"; done
    DEB_BUILD_OPTIONS="nocheck parallel=1" dpkg-buildpackage -us -uc -d -b
' >"$home/log" 2>&1 || {
    tail -n 40 "$home/log" >&2
    exit 1
}
for deb in $first; do
    cmp "$deb" "$home/another/place/$(basename "$deb")" || {
        echo "twice.sh: $(basename "$deb") differs; diffoscope tells how" >&2
        cp "$home/another/place/$(basename "$deb")" "$dir/second_$(basename "$deb")"
        exit 1
    }
    echo "twice.sh: $(basename "$deb") is the same, byte for byte"
done
