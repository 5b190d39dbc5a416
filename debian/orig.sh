#!/bin/sh
# Makes what a source package is built from, out of a commit: sockcap_VERSION.orig.tar.xz, the commit's tree;
# sockcap_VERSION.orig-vendor.tar.xz, the crates of Cargo.lock; and sockcap-VERSION/, both unpacked, in which
# `dpkg-buildpackage` needs no network any more. The same commit makes the same tarballs.
#
#   debian/orig.sh DIR [COMMIT]
#
# Crates that only other systems need stay as manifests without code: cargo wants to see them, Debian does not.
set -eu
LC_ALL=C
export LC_ALL

[ $# -ge 1 ] || { echo "usage: debian/orig.sh DIR [COMMIT]" >&2; exit 2; }
cd "$(dirname "$0")/.."
mkdir -p "$1"
dir=$(cd "$1" && pwd)
commit=${2:-HEAD}
version=$(git show "$commit:debian/changelog" | sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p')
stamp=$(git log -1 --format=%ct "$commit")
name=sockcap-$version
tree=$dir/$name
[ ! -e "$tree" ] || { echo "orig.sh: $tree is there already" >&2; exit 1; }
for tool in cargo git xz; do
    command -v "$tool" >/dev/null || { echo "orig.sh: $tool is not installed" >&2; exit 1; }
done
# Half a tree would only be in the way of the next try.
trap 'rm -rf -- "$tree" "$dir/tree.tar"' EXIT

git archive --format=tar --prefix="$name/" "$commit" >"$dir/tree.tar"
tar -C "$dir" -xf "$dir/tree.tar"
xz -T1 -6 <"$dir/tree.tar" >"$dir/sockcap_$version.orig.tar.xz"
rm "$dir/tree.tar"

cd "$tree"
cargo vendor --locked --quiet --versioned-dirs vendor >/dev/null

# Every Linux that Debian has a Rust for.
for machine in x86_64 i686 aarch64 armv7 riscv64gc powerpc64le s390x loongarch64; do
    case $machine in armv7) abi=gnueabihf ;; *) abi=gnu ;; esac
    cargo tree --locked --edges all --prefix none --target "$machine-unknown-linux-$abi" --format '{p}'
done | sed 's/^\([^ ]*\) v\([^ ]*\).*/\1-\2/' | sort -u >needed

for crate in vendor/*/; do
    crate=${crate%/}
    if ! grep -qxF "${crate#vendor/}" needed; then
        find "$crate" -type f ! -path "$crate/Cargo.toml" ! -path "$crate/.cargo-checksum.json" \
            ! -iname 'licen[sc]e*' ! -iname 'copy*' -delete
        # The files that the manifest speaks of, empty.
        sed -n 's/^\(path\|build\) = "\(.*\.rs\)"$/\2/p' "$crate/Cargo.toml" | while read -r file; do
            mkdir -p "$crate/$(dirname "$file")"
            : >"$crate/$file"
        done
    fi
    # Without sums of single files, or cargo would miss what Debian's tools take for left-overs of patch(1), as Cargo.toml.orig;
    # the sum of the whole stays, and is that of Cargo.lock.
    rm -f "$crate/Cargo.toml.orig"
    sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
done
find vendor -depth -type d -empty -delete
rm needed

tar --create --sort=name --mtime="@$stamp" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=gnu vendor |
    xz -T1 -6 >"$dir/sockcap_$version.orig-vendor.tar.xz"
trap - EXIT
