#!/bin/sh
# Compares what an rpm or a pacman package installs with what the .deb does: the same files but for those that
# packaging/differences explains, with the same modes and the same owner, and the same in them. Programs are compared as they are
# in memory: what a distribution strips from them differs.
#
#   packaging/compare.sh PACKAGE DEB      needs bsdtar, dpkg-deb, strip; as root, who alone can unpack owners
set -eu
[ $# = 2 ] || { echo "usage: packaging/compare.sh PACKAGE DEB" >&2; exit 2; }
package=$1 deb=$2
differences=$(cd "$(dirname "$0")" && pwd)/differences
case $package in
    *.rpm) kind=rpm ;;
    *.pkg.tar*) kind=pacman ;;
    *) echo "compare.sh: $package is neither .rpm nor .pkg.tar*" >&2; exit 2 ;;
esac
dir=$(mktemp -d)
trap 'rm -rf -- "$dir"' EXIT
mkdir "$dir/theirs" "$dir/debian"
# Without what pacman has beside the files, and the links by which debuggers find what an rpm's programs are built from.
bsdtar -xpf "$package" -C "$dir/theirs" --exclude '.[A-Z]*' --exclude '*/lib/.build-id'
dpkg-deb -x "$deb" "$dir/debian"

# TREE: its files, and the directories that have none.
list() { (cd "$1" && find . \( ! -type d -o -empty \) -printf '%P\t%y %m %U:%G\n' | sed 's,^,/,' | LC_ALL=C sort); }
list "$dir/theirs" >"$dir/theirs.list"

# Of each line: the .deb's path, the path that it comes to, what it is.
list "$dir/debian" | awk -v kind=$kind -v by="$differences" '
    BEGIN {
        FS = OFS = "\t"
        while ((getline line < by) > 0) {
            if (line ~ /^#/ || split(line, word, / +/) < 4 || (word[1] != kind && word[1] != "both")) continue
            n++; from[n] = word[2]; to[n] = word[3]
        }
    }
    {
        # A link, into which Debian 12 still installs units.
        path = was = ($1 ~ "^/lib/" ? "/usr" : "") $1
        for (i = 1; i <= n; i++) if (index(was, from[i]) == 1) {
            used[i] = 1
            path = to[i] == "-" ? "-" : to[i] substr(was, length(from[i]) + 1)
        }
        if (path != "-") print $1, path, $2
    }
    END {
        for (i = 1; i <= n; i++) {
            if (from[i] == "-") print "-", to[i], "f 644 0:0"
            else if (!used[i]) print "the .deb has no " from[i] ": a line too many in packaging/differences" > "/dev/stderr"
        }
    }' >"$dir/pairs" 2>"$dir/unused"
fault=
[ ! -s "$dir/unused" ] || { cat "$dir/unused" >&2; fault=1; }
cut -f 2,3 "$dir/pairs" | LC_ALL=C sort | diff -u --label "as of the .deb" --label "$(basename "$package")" - "$dir/theirs.list" >&2 || fault=1

# FILE: what of it counts.
content() {
    case $1 in
        *.gz) gzip -dc "$1" ;;
        */bin/*) strip --strip-all --remove-section=.comment --remove-section=.note --remove-section=.gnu_debuglink -o "$dir/stripped" "$1" && cat "$dir/stripped" ;;
        *) cat "$1" ;;
    esac
}
same=0
while IFS="$(printf '\t')" read -r old new kind_of; do
    case $kind_of in f*) ;; *) continue ;; esac
    # Added, or missing and told of above.
    if [ "$old" = - ] || [ ! -e "$dir/theirs$new" ]; then continue; fi
    content "$dir/debian$old" >"$dir/one"
    content "$dir/theirs$new" >"$dir/two"
    if cmp -s "$dir/one" "$dir/two"; then
        same=$((same + 1))
    else
        echo "compare.sh: $new is not what the .deb has in $old" >&2
        fault=1
    fi
done <"$dir/pairs"
[ -z "$fault" ] || { echo "compare.sh: $(basename "$package") differs from $(basename "$deb") by more than packaging/differences explains" >&2; exit 1; }
echo "compare.sh: $(basename "$package"): $same files as in $(basename "$deb"), programs and units among them"
