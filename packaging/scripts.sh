#!/bin/sh
# Runs the scripts of an rpm or of a pacman package as at an installation, an upgrade and a removal, with a systemctl that only
# takes down how it is called, and says what they must not do: an upgrade leaves sockets and timers alone and stops nothing, but
# has everything that serves clients restarted, instances of templates too; a removal stops the sockets before the services, and
# all of them; nothing is ever enabled or started.
#
#   packaging/scripts.sh PACKAGE      needs rpm or bsdtar, and sh or bash, which run the scripts
set -eu
[ $# = 1 ] || { echo "usage: packaging/scripts.sh PACKAGE" >&2; exit 2; }
package=$(realpath -e "$1")
cd "$(dirname "$0")/../units"
stub=$(mktemp -d)
trap 'rm -rf -- "$stub"' EXIT
export CALLS="$stub/calls"
cat >"$stub/systemctl" <<'END'
#!/bin/sh
echo "$*" >>"$CALLS"
# One instance runs, and one of the others.
case $1 in list-units) printf '%s loaded active running Text\n' sockcap@one.service rsync-capped.service ;; esac
END
chmod 755 "$stub/systemctl"
fail() {
    echo "scripts.sh: $(basename "$package"): $*:" >&2
    cat "$CALLS" >&2
    exit 1
}
# Where systemd runs: on this machine it may not.
here() { sed "s,/run/systemd/system,$stub,g"; }

case $package in
    *.rpm)
        kind=rpm
        # SCRIPT HOW-MANY-ARE-LEFT: of rpm, which passes that number.
        run() {
            rpm -qp --qf "%{$1}" "$package" >"$stub/packed" || fail "rpm cannot read it"
            here <"$stub/packed" >"$stub/script"
            grep -qx '(none)' "$stub/script" || PATH="$stub:$PATH" sh "$stub/script" "$2" || fail "$1 $2 failed"
        }
        install() { run PREIN 1; run POSTIN 1; }
        # The new package's, then the old one's.
        upgrade() { run PREIN 2; run POSTIN 2; run PREUN 1; run POSTUN 1; }
        remove() { run PREUN 0; run POSTUN 0; }
        ;;
    *.pkg.tar*)
        kind=pacman
        bsdtar -xOf "$package" .INSTALL >"$stub/packed"
        here <"$stub/packed" >"$stub/script"
        # FUNCTION...: of .INSTALL, as far as they are there.
        run() {
            for name; do
                # shellcheck disable=SC2016  # for bash
                PATH="$stub:$PATH" bash -euc '. "$1"; ! declare -F "$2" >/dev/null || "$2" 2-1 1-1' bash "$stub/script" "$name" || fail "$name failed"
            done
        }
        install() { run pre_install post_install; }
        upgrade() { run pre_upgrade post_upgrade; }
        remove() { run pre_remove post_remove; }
        ;;
    *) echo "scripts.sh: $package is neither .rpm nor .pkg.tar*" >&2; exit 2 ;;
esac
# What serves clients, of templates the instance that runs, and all that can be stopped.
daemons=$(grep -l '^RestartKillSignal=' -- *.service)
every=$(echo * | tr ' ' '\n' | grep -v '^sockcap-report@')

: >"$CALLS"
install
# `preset` does what the distribution has decided.
! grep -Ev '^--no-reload preset ' "$CALLS" >/dev/null || fail "an installation does more than to ask for presets"
if [ $kind = rpm ]; then
    for unit in *; do grep -qw -- "$unit" "$CALLS" || fail "an installation asks for no preset of $unit"; done
fi

: >"$CALLS"
upgrade
! grep -E '(^| )(enable|disable|preset|start|stop|restart|kill|reload-or-restart)( |$)|\.(socket|timer)' "$CALLS" >/dev/null || fail "an upgrade touches sockets or stops something"
# Of rpm all that may run are marked by name; pacman's asks which of them do, and marks these.
for unit in $daemons; do
    case $unit in *@.service) unit=${unit%.service}\*.service ;; esac
    grep -qwF -- "$unit" "$CALLS" || fail "an upgrade does not ask for $unit"
done
for unit in sockcap@one.service rsync-capped.service; do
    grep -qxF "set-property $unit Markers=+needs-restart" "$CALLS" || fail "an upgrade does not have $unit restarted"
done

: >"$CALLS"
remove
! grep -E '(^| )(enable|start|restart|set-property)( |$)' "$CALLS" >/dev/null || fail "a removal starts something"
stops=$(grep -E '(^| )(stop|disable --now) ' "$CALLS" | tr ' ' '\n')
for unit in $every; do
    case $unit in *@.*) unit=$(echo "$unit" | sed 's/@/@*/') ;; esac
    echo "$stops" | grep -qxF -- "$unit" || fail "a removal does not stop $unit"
done
for service in $daemons; do
    case $service in *@.service) service=$(echo "$service" | sed 's/@/@*/') ;; esac
    socket=${service%.service}.socket
    [ "$(echo "$stops" | grep -xFn -- "$socket" | head -n 1 | cut -d : -f 1)" -lt "$(echo "$stops" | grep -xFn -- "$service" | head -n 1 | cut -d : -f 1)" ] ||
        fail "a removal stops $service before $socket"
done
echo "scripts.sh: $(basename "$package"): an upgrade leaves sockets alone and restarts what serves, a removal stops all, nothing is enabled"
