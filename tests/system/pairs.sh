#!/bin/sh
# Fetches Debian packages that ship a service with Accept=yes, for tests/system/convert.rs: real pairs, with the programs and
# libraries that they need and the root trees of tests/system/roots.sh lack. A tar for each suite, SUITE.pairs.tar beside its
# tree, which a container unpacks over its own files. No maintainer script is run.
#
# An archive whose stamp matches the list is left alone. Needs a tree of the suite; without one there is nothing to do.
#
#   tests/system/pairs.sh [bookworm] [trixie] [forky]
set -eu

cd "$(dirname "$0")/../.."
dir=${SOCKCAP_RIG_DIR:-target/rig}
packages="approx gophernicus leafnode micro-httpd oidentd proftpd-core sane-utils tang tang-common tinysshd uucp"
# What these link to, by the names of three releases. apt knows more (saned would bring poppler and GnuPG), which none of them
# needs to answer a client.
libraries='^lib(1305-1|25519-1|avahi-client3|avahi-common3|hashkit.*|hiredis.*|http-parser.*|icu.*|ieee1284-.*|jansson4|jose0|jpeg62-turbo'
libraries=$libraries'|llhttp.*|memcached.*|netfilter-conntrack3|nfnetlink0|ntruprime1|pcre2-posix3|png16-.*|randombytes1|sane1|usb-1.0-0|xml2.*)$'

[ $# -gt 0 ] || set -- bookworm trixie forky
for suite; do
    tree=$(realpath "$dir")/$suite
    archive=$(realpath "$dir")/$suite.pairs.tar
    wanted="1 $packages $libraries"
    [ -e "$tree/.rig-stamp" ] || continue
    [ "$(cat "$archive.stamp" 2>/dev/null)" = "$wanted" ] && [ -e "$archive" ] && continue

    new=$(mktemp -d "$dir/.pairs.XXXXXX")
    new=$(realpath "$new")
    trap 'rm -rf -- "$new"' EXIT
    mkdir -p "$new/lists/partial" "$new/cache/archives/partial" "$new/debs" "$new/files/usr/bin" "$new/files/usr/sbin" "$new/files/usr/lib"
    grep " $suite main" "$tree/etc/apt/sources.list" | head -n 1 > "$new/sources.list"
    # What is missing in the tree is what apt would install there.
    in_tree() {
        tool=$1
        shift
        "$tool" -o Dir::State="$new" -o Dir::State::status="$tree/var/lib/dpkg/status" -o Dir::Cache="$new/cache" \
            -o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts=- \
            -o Dir::Etc::trustedparts="$tree/etc/apt/trusted.gpg.d" -o Acquire::Check-Valid-Until=false \
            -o Acquire::Languages=none -o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
    }
    in_tree apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    missing=$(in_tree apt-get -s install $packages | awk '$1 == "Inst" { print $2 }' | grep -E "$libraries" || :)
    # shellcheck disable=SC2086
    (cd "$new/debs" && in_tree apt-get download -qq $packages $missing)
    # As in the trees.
    ln -s usr/bin usr/sbin usr/lib "$new/files"
    for package in "$new"/debs/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$new/files" --keep-directory-symlink \
            --exclude './usr/share/doc' --exclude './usr/share/man' --exclude './usr/share/locale'
    done
    rm "$new/files/bin" "$new/files/sbin" "$new/files/lib"
    (cd "$new/files" && find . ! -type d) | while read -r file; do
        [ ! -e "$tree/$file" ] || rm -- "$new/files/$file"
    done
    tar -C "$new/files" --numeric-owner -cf "$new/pairs.tar" .
    mv "$new/pairs.tar" "$archive"
    printf '%s\n' "$wanted" > "$archive.stamp"
    rm -rf -- "$new"
    trap - EXIT
    echo "pairs.sh: built $archive"
done
