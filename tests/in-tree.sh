#!/bin/sh
# Runs `SCRIPT --in-tree ARGUMENT...` in a root tree with a Rust of Debian 13, and as nothing but what that tree has: /sockcap is SOURCE,
# and /out is OUT, where cargo's home and target are. The tree is not changed, and is built first where it is missing or old
# (tests/system/roots.sh).
#
#   tests/in-tree.sh TREE SOURCE OUT SCRIPT [ARGUMENT...]      TREE is musl or cross; SCRIPT is a path in SOURCE
#
# Needs root and mmdebstrap.
set -eu
[ $# -ge 4 ] || { echo "usage: tests/in-tree.sh TREE SOURCE OUT SCRIPT [ARGUMENT...]" >&2; exit 2; }
cd "$(dirname "$0")/.."
name=$1
mkdir -p "$3/target" "$3/cargo"
source=$(cd "$2" && pwd)
out=$(cd "$3" && pwd)
script=$4
shift 4

SOCKCAP_RIG_DIR=${SOCKCAP_RIG_DIR:-target/rig}
export SOCKCAP_RIG_DIR
tests/system/roots.sh "$name"
tree=$(cd "$SOCKCAP_RIG_DIR/$name" && pwd)
mkdir -p "$tree/sockcap" "$tree/out"
# Crates that this machine has need no download; cargo puts what it lacks into the copy.
for part in index cache; do
    from=${CARGO_HOME:-$HOME/.cargo}/registry/$part
    [ ! -d "$from" ] || { mkdir -p "$out/cargo/registry" && cp -R --update --reflink=auto "$from" "$out/cargo/registry/"; }
done
# Mounts of a process of its own, which end with it. This machine's names and certificates: it knows its mirrors.
# shellcheck disable=SC2016  # for that shell
exec unshare --mount --propagation private sh -euc 'tree=$1 source=$2 out=$3 script=$4
    shift 4
    # A mount of its own, so that tests can make theirs.
    mount --bind "$tree" "$tree"
    mount --bind "$source" "$tree/sockcap"
    mount --bind "$out" "$tree/out"
    mount --rbind /dev "$tree/dev"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount -t tmpfs tmpfs "$tree/tmp"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || mount --bind /etc/ssl/certs "$tree/etc/ssl/certs"
    [ ! -e /etc/resolv.conf ] || mount --bind /etc/resolv.conf "$tree/etc/resolv.conf"
    exec chroot "$tree" /usr/bin/env -i HOME=/out PATH=/usr/sbin:/usr/bin CARGO_HOME=/out/cargo CARGO_TARGET_DIR=/out/target \
        "/sockcap/$script" --in-tree "$@"' sh "$tree" "$source" "$out" "$script" "$@"
