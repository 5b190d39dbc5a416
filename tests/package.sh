#!/bin/sh
# Builds the Debian package of HEAD without network, has lintian judge it, and has autopkgtest run debian/tests under systemd
# 252, 257 and the newest, in the root trees that tests/system/roots.sh builds.
#
#   tests/package.sh [DIR]      the packages are left in DIR, if one is named; those that are there already are taken
#
# Needs root, debhelper, lintian, autopkgtest, systemd-nspawn. Only the newest systemd's tree may be missing. Tests of the program
# are not run again: DEB_BUILD_OPTIONS= runs them in the package's build, too.
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
# Letters of machine code are a misspelt word in one build ("wTH"), and in the next one not: an override would be unused there.
lintian --allow-root -EviIL +pedantic --fail-on error,warning,info,pedantic,experimental --tag-display-limit 0 \
    --suppress-tags spelling-error-in-binary \
    "$dir"/sockcap_*.changes >"$dir/lintian.log" 2>&1 || {
    grep -E '^[EWIPX]: ' "$dir/lintian.log"
    exit 1
}
echo "package.sh: $(basename "$deb"), $(stat -c %s "$deb") bytes; lintian has nothing to say"

# A tree of the tests alone, which that file makes a built one.
rm -rf "$dir/tests"
mkdir "$dir/tests"
cp -a debian "$dir/tests/"
: >"$dir/tests/debian/files"
for suite in bookworm trixie forky; do
    tree=$rig/$suite
    [ -e "$tree/.rig-stamp" ] || {
        echo "package.sh: no root tree $tree; run tests/system/roots.sh" >&2
        [ "$suite" = forky ] || exit 1
        echo "package.sh: SKIPPED under the newest systemd" >&2
        continue
    }
    rm -rf "${dir:?}/$suite"
    # A test that was skipped is a failure, too.
    autopkgtest --output-dir "$dir/$suite" "$deb" "$dir/tests/" -- tests/system/autopkgtest-virt-container "$tree" \
        >"$dir/$suite.log" 2>&1 || {
        cat "$dir/$suite.log"
        exit 1
    }
    sed "s/^/$suite: /" "$dir/$suite/summary"
done
