#!/bin/sh
# Builds the rpm and the pacman package of HEAD without network, as another user and as on another machine, and judges them:
# rpmlint, the files, the scripts that run at an installation, an upgrade and a removal, the licences. What is in them is compared
# with what is in the .deb; that the programs are the same, byte for byte, also says that another build of them is.
#
#   packaging/check.sh [DIR]      DIR is what tests/package.sh has left: the .deb and the sources. The packages are left in it.
#
# The program is compiled once for both: PKGBUILD's build() finds what the spec's %build has made, in the same directory. Tests of
# the program are not run: CHECK=1 runs them too, twice.
#
# Needs root and Debian's packages rpm, rpmlint, makepkg, libarchive-tools, fakeroot, iproute2. About two minutes with 2 CPUs.
set -eu
cd "$(dirname "$0")/.."
fail() { echo "check.sh: $*" >&2; exit 1; }
say() { echo "check.sh: $*"; }
[ $# -le 1 ] || { echo "usage: packaging/check.sh [DIR]" >&2; exit 2; }
for need in rpmbuild:rpm rpmlint:rpmlint makepkg:makepkg bsdtar:libarchive-tools fakeroot:fakeroot ip:iproute2 cargo:cargo git:git; do
    command -v "${need%%:*}" >/dev/null || fail "${need%%:*} is not installed: apt install ${need#*:}"
done

home=$(mktemp -d)
trap 'rm -rf -- "$home"' EXIT
dir=${1:-$home/out}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
packaging/sources.sh "$dir"
version=$(sed -n 's/^Version: *//p' "$dir/sockcap.spec")
mkdir -p "$home/sources" "$home/sockcap" "$home/out"
cp "$dir"/sockcap-"$version"*.tar.xz "$dir/sockcap.spec" "$dir/sockcap.install" "$dir/PKGBUILD" packaging/macros.debian "$home/sources/"
chmod 755 "$home"
chmod -R a+rX "$home/sources"
chown -R nobody "$home/out" "$home/sockcap" "$home/sources"

# What debian/rules has, for the directory where the spec's %build finds itself.
# shellcheck disable=SC2016  # for that shell
flags=$(sed -n 's/^export RUSTFLAGS = //p' debian/rules | sed 's,\$(CURDIR),$PWD,')
[ -n "$flags" ] || fail "debian/rules exports no RUSTFLAGS"
epoch=$(git show HEAD:debian/changelog | sed -n 's/^ -- .*>  //p' | sed -n 1p | xargs -0 -I D date -d D +%s)
# COMMAND...: what it says goes to a file, which is shown if it fails.
elsewhere() {
    packaging/elsewhere.sh "$home" env CARGO_TARGET_DIR="$home/target" SOURCE_DATE_EPOCH="$epoch" "$@" >"$home/log" 2>&1 || {
        tail -n 40 "$home/log" >&2
        fail "failed: $*"
    }
}

# ARGUMENT...: --nodeps, since rpm has no list of what is installed here.
build_rpm() {
    elsewhere rpmbuild --nodeps --noclean --load "$home/sources/macros.debian" --define "_topdir $home/rpm" \
        --define "_sourcedir $home/sources" --define "build_rustflags $flags -C strip=none" "$@" "$home/sources/sockcap.spec"
}
if [ -n "${CHECK:-}" ]; then build_rpm -ba; else build_rpm -ba --without check; fi
rpm=$(find "$home/rpm/RPMS" -name '*.rpm')
[ "$(echo "$rpm" | wc -l)" = 1 ] || fail "not one rpm: $rpm"
cp "$rpm" "$home"/rpm/SRPMS/*.rpm "$dir/"
# The same files with the scripts that openSUSE gets.
build_rpm -bb --short-circuit --define 'suse_version 1600' --define "_rpmdir $home/suse"
find "$home/suse" -name '*.rpm' -exec cp {} "$home/opensuse.rpm" \;
tree=$(find "$home/rpm/BUILD" -maxdepth 2 -type d -name "sockcap-$version")
# What is linked into the programs, as the spec and PKGBUILD tell.
licences=$(cd "$tree" && cargo tree --locked --offline --edges no-build,no-dev,no-proc-macro --no-dedupe --prefix none --format '{l}' |
    sed 's,/, OR ,; s/^Apache-2.0 OR MIT$/MIT OR Apache-2.0/; s/^.* OR .*$/(&)/' | LC_ALL=C sort -u)

# makepkg builds in the same directory, by another name.
rm -rf "$tree"
ln -s "${tree%/*}" "$home/sockcap/src"
chown -h nobody "$home/sockcap/src"
cat >"$home/makepkg.conf" <<END
. /etc/makepkg.conf
RUSTFLAGS='$(echo "$flags" | sed "s,\$PWD,$tree,")'
BUILDDIR=$home
PKGDEST=$home/out
LOGDEST=$home/out
PKGEXT=.pkg.tar.zst
END
without=
[ -n "${CHECK:-}" ] || without=--nocheck
# shellcheck disable=SC2016  # for the inner shell
elsewhere sh -euc 'cd sources && exec makepkg --config "$@" --nodeps --force' sh "$home/makepkg.conf" ${without:+"$without"}
[ -n "${CHECK:-}" ] || ! grep -q Compiling "$home/log" || fail "makepkg has compiled anew: $(grep Compiling "$home/log")"
pacman=$(find "$home/out" -name '*.pkg.tar.zst')
cp "$pacman" "$dir/"
pacman=$dir/${pacman##*/}
rpm=$dir/${rpm##*/}

rpmlint --strict --ignore-unused-rpmlintrc --config packaging/rpmlint.toml --rpmlintrc packaging/sockcap.rpmlintrc "$dir/sockcap.spec" "$rpm" "$dir"/sockcap-"$version"-*.src.rpm >"$home/log" 2>&1 || {
    cat "$home/log" >&2
    fail "rpmlint has something to say"
}
say "$(basename "$rpm"), $(stat -c %s "$rpm") bytes; rpmlint has nothing to say"
say "$(basename "$pacman"), $(stat -c %s "$pacman") bytes; built without compiling anything anew"

for package in "$rpm" "$home/opensuse.rpm" "$pacman"; do packaging/scripts.sh "$package"; done

told=$(sed -n 's/^License: *//p' "$dir/sockcap.spec")
[ "$(echo "$told" | sed 's/ AND /\n/g' | LC_ALL=C sort)" = "$licences" ] || fail "the spec's licences are '$told', those of the crates: $licences"
grep -qF "license=('$told')" "$dir/PKGBUILD" || fail "the licences of PKGBUILD are not those of the spec"
say "licences as the crates tell them: $told"

deb=$(find "$dir" -maxdepth 1 -name 'sockcap_*.deb')
if [ -n "$deb" ]; then
    for package in "$rpm" "$pacman"; do packaging/compare.sh "$package" "$deb"; done
elif [ "${CI:-}" = true ]; then
    fail "there is no .deb to compare with in $dir: run tests/package.sh $dir first"
else
    say "SKIPPED: there is no .deb to compare with in $dir; tests/package.sh DIR makes one"
fi
