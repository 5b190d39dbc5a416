#!/bin/sh
# Runs a command as it would run on another machine: as the user nobody, without network, under another host name, in another
# time zone and locale, with another umask, and with nothing of this environment but a way to the Rust toolchain.
#
#   packaging/elsewhere.sh HOME COMMAND [ARGUMENT]...
#
# HOME, which must be there, is given to that user, whose home it is; the command starts in it. Needs root, util-linux, iproute2.
set -eu
[ $# -ge 2 ] || { echo "usage: packaging/elsewhere.sh HOME COMMAND [ARGUMENT]..." >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "elsewhere.sh: needs root" >&2; exit 1; }
for tool in unshare setpriv mount ip hostname; do
    command -v "$tool" >/dev/null || { echo "elsewhere.sh: $tool is not installed" >&2; exit 1; }
done
home=$(cd "$1" && pwd)
shift
chown nobody "$home"

# rustup keeps its toolchains in the home of its user, which others cannot enter, and its cargo would look for them in theirs.
toolchain=$(rustc --print sysroot)
mkdir -p "$home/toolchain"
# shellcheck disable=SC2016  # for the inner shell
exec unshare --net --uts --mount sh -euc '
    home=$1 toolchain=$2
    shift 2
    ip link set lo up
    hostname elsewhere
    mount --bind "$toolchain" "$home/toolchain"
    cd "$home"
    umask 077
    exec setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups env -i \
        HOME="$home" USER=nobody LOGNAME=nobody SHELL=/bin/sh PATH="$home/toolchain/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
        LC_ALL=C.UTF-8 TZ=Pacific/Kiritimati "$@"
' sh "$home" "$toolchain" "$@"
