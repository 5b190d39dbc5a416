#!/bin/sh
# Makes what the rpm and the pacman package are built from, out of a commit: sockcap-VERSION.tar.xz, the commit's tree;
# sockcap-VERSION-vendor.tar.xz, the crates of Cargo.lock; sockcap.spec; PKGBUILD, with the sums of both, and sockcap.install.
# Nothing more is fetched when they are built.
#
#   packaging/sources.sh DIR [COMMIT]
#
# Both tarballs are those of debian/orig.sh; where DIR has them, they are taken. Needs cargo, git, xz.
set -eu
[ $# -ge 1 ] || { echo "usage: packaging/sources.sh DIR [COMMIT]" >&2; exit 2; }
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir=$(cd "$1" && pwd)
commit=${2:-HEAD}
version=$(git show "$commit:Cargo.toml" | sed -n 's/^version = "\(.*\)"$/\1/p')
name=sockcap-$version

if [ ! -e "$dir/sockcap_$version.orig-vendor.tar.xz" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf -- "$scratch"' EXIT
    debian/orig.sh "$scratch" "$commit"
    mv "$scratch"/*.tar.xz "$dir/"
fi
ln -f "$dir/sockcap_$version.orig.tar.xz" "$dir/$name.tar.xz"
ln -f "$dir/sockcap_$version.orig-vendor.tar.xz" "$dir/$name-vendor.tar.xz"

for file in sockcap.spec sockcap.install; do git show "$commit:packaging/$file" >"$dir/$file"; done
# shellcheck disable=SC2046  # two sums
set -- $(cd "$dir" && sha256sum "$name.tar.xz" "$name-vendor.tar.xz" | cut -d ' ' -f 1)
git show "$commit:packaging/PKGBUILD" | sed "s/^sha256sums=.*/sha256sums=($1\n            $2)/" >"$dir/PKGBUILD"
