#!/bin/sh
# Builds the image of Containerfile and runs it with podman, as docs/containers.md says: a user without privileges, a root that cannot be
# written to, no cgroups. Clients are served and refused, the probe answers, lines are plain, an orphan is reaped, and `podman stop` ends a
# command that does not listen within its ten seconds, by sockcap and not by SIGKILL. Then a socket is passed to it, as systemd does.
#
#   examples/container/check.sh [SOCKCAP SOCKCAPCTL]      programs; without them those in target/debug, which cargo builds
#
# Needs root, and podman, crun, busybox-static, iproute2, systemd (Debian packages of these names). Takes 15 seconds. Everything is in a
# folder and in namespaces of its own, and gone at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

skip() {
    echo "check.sh: skipped: $1" >&2
    [ "${CI-}" = true ] && exit 1
    exit 0
}
for tool in podman crun busybox ip unshare systemd-socket-activate; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (apt install podman crun busybox-static iproute2 systemd)"
done
[ "$(id -u)" = 0 ] || skip "only root can make the namespaces"

if [ "${1-}" != --inside ]; then
    if [ $# -eq 0 ]; then
        (cd "$here/../.." && cargo build --locked --quiet --bins)
        out=${CARGO_TARGET_DIR:-$here/../../target}/debug
        set -- "$out/sockcap" "$out/sockcapctl"
    fi
    set -- "$(realpath "$1")" "$(realpath "$2")"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    # Own mounts for a hierarchy of cgroups that crun takes, own network for the port, own processes so that none is left.
    unshare --mount --net --pid --fork --kill-child --mount-proc "$here/check.sh" --inside "$folder" "$@"
    exit
fi

folder=$2 sockcap=$3 sockcapctl=$4
[ "$(stat --file-system --format=%T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs tmpfs /run
ip link set lo up
log=$folder/log

fail() {
    echo "check.sh: $1" >&2
    cat "$log" >&2 2>/dev/null || true
    exit 1
}

# A program that is not static takes its libraries with it.
context=$folder/context
mkdir -p "$context/lib"
cp "$sockcap" "$context/sockcap"
cp "$sockcapctl" "$context/sockcapctl"
cp "$(command -v busybox)" "$context/busybox"
cp "$here/Containerfile" "$context/Containerfile"
libraries=$(ldd "$sockcap" "$context/busybox" 2>/dev/null | grep -o '/[^ ]*[^: ]$\|/[^ ]* (' | tr -d ' (' | sort -u) || libraries=
if [ -n "$libraries" ]; then
    for library in $libraries; do
        mkdir -p "$context/root/$(dirname "$library")"
        cp -L "$library" "$context/root/$library"
    done
    sed -i 's/^FROM scratch$/&\nCOPY root \//' "$context/Containerfile"
fi

cat >"$folder/pod" <<END
#!/bin/sh
exec podman --root "$folder/root" --runroot "$folder/run" --storage-driver=vfs --cgroup-manager=cgroupfs --runtime=crun --events-backend=none "\$@"
END
chmod +x "$folder/pod"
pod() {
    "$folder/pod" "$@"
}
pod build --quiet --format=docker --isolation=chroot --network=host -t echo-capped "$context" >/dev/null || fail "cannot build the image"

# Limits no higher than ours, which root without CAP_SYS_RESOURCE cannot raise.
limits=$(awk '/^Max open files/ { print "--ulimit=nofile=" $4 ":" $5 } /^Max processes/ { print "--ulimit=nproc=" $3 ":" $4 }' /proc/self/limits |
    sed 's/unlimited/-1/g')

# Waits until a command succeeds: podman tells nobody of its progress. The number of tries is a fuse.
until_true() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "never: $*"
        sleep 0.1
    done
}

# The image's own command is replaced by one that leaves an orphan behind, says so, and does not end at SIGTERM.
# shellcheck disable=SC2016,SC2086  # $line is for that shell, and limits are words
pod run --name capped --rm --read-only --tmpfs=/run --cap-drop=all --security-opt=no-new-privileges --cgroups=disabled --network=host $limits \
    --env SOCKCAP_MAX_CONNECTIONS=1 --env SOCKCAP_DRAIN_TIMEOUT=1s --env SOCKCAP_KILL_GRACE=1s echo-capped \
    /bin/busybox sh -c 'trap "" TERM; (/bin/busybox setsid /bin/busybox sleep 1 </dev/null >/dev/null 2>&1 &); echo hello; while read -r line; do echo "$line"; done' \
    2>"$log" &
run=$!
until_true grep -q '^ready: at most 1 connection at once' "$log"
! grep -q '^<' "$log" || fail "lines have priorities in front"
pod exec capped /usr/bin/sockcapctl ready /run/control.sock || fail "not ready"
pod healthcheck run capped || fail "the health check says no"

# One client that stays, by a pipe that is open until we close it; the next one is refused.
mkfifo "$folder/says"
busybox nc 127.0.0.1 2007 <"$folder/says" >"$folder/first" &
first=$!
exec 3>"$folder/says"
until_true grep -qx hello "$folder/first"
[ "$(busybox nc 127.0.0.1 2007 </dev/null)" = "server at capacity" ] || fail "the second client was not refused"
until_true grep -q '^rejected connection: at capacity (1/1): 127.0.0.1 ' "$log"
! pod exec capped /usr/bin/sockcapctl ready /run/control.sock 2>/dev/null || fail "ready, although it is full"
pod exec capped /usr/bin/sockcapctl status /run/control.sock | grep -q '1/1' || fail "no status"

# The orphan sleeps for a second, and then there are three processes: sockcap, the command, and who looks.
# shellcheck disable=SC2016  # for that shell
until_true pod exec capped /bin/busybox sh -c 'cd /proc && set -- [0-9]*; n=0; for p; do [ ! -r $p/stat ] || n=$((n + 1)); done; grep -h "^State:.*zombie" */status && exit 1; [ $n -le 3 ]'

pod stop capped >/dev/null 2>&1 || fail "cannot stop it"
status=0
wait "$run" || status=$?
[ "$status" = 0 ] || fail "exit status $status, not 0: SIGKILL is 137"
grep -q '^SIGTERM: accepting no more connections, waiting up to 1.0 s for 1 command$' "$log" || fail "no line of the stop"
grep -q '^stopped: 2 accepted, 1 served, 1 refused' "$log" || fail "no totals"
exec 3>&-
wait "$first" || true

# A socket that somebody else has opened, as systemd does: podman passes it, and so nobody finds the port closed.
# shellcheck disable=SC2086  # words
systemd-socket-activate --listen=127.0.0.1:2008 "$folder/pod" run --name passed --rm --read-only --tmpfs=/run --cap-drop=all \
    --cgroups=disabled --network=host $limits --unsetenv=SOCKCAP_LISTEN echo-capped /bin/busybox echo hello 2>"$log" &
run=$!
until_true grep -q '^Listening on 127.0.0.1:2008' "$log"
[ "$(busybox nc 127.0.0.1 2008 </dev/null)" = hello ] || fail "no client was served at a passed socket"
pod stop passed >/dev/null 2>&1 || fail "cannot stop it"
wait "$run" || fail "exit status $?"
until_true grep -q '^stopped: 1 accepted, 1 served' "$log"
echo "check.sh: $(podman --version): served, refused, probed, reaped, stopped in good order, and given a socket"
