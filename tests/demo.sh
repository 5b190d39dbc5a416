#!/bin/sh
# The main job on a plain machine, without systemd: a cap of 2, four clients, what each of them sees, and the log.
set -eu
cd "$(dirname "$0")/.."
# Silence for as long as that would look like a hang.
[ -x target/release/sockcap ] || echo "demo.sh: building sockcap for the first time takes one to two minutes" >&2
cargo build --release --locked --quiet

log=$(mktemp)
# Each connection is one `sh` that greets, and keeps its slot until its client hangs up.
# shellcheck disable=SC2016  # for the command's shell, not for ours
target/release/sockcap --listen 127.0.0.1:0 --max-connections 2 -- \
    /bin/sh -c 'echo "hello $REMOTE_ADDR, you are served by process $$"; cat >/dev/null' 2>"$log" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" || true; rm -f "$log"' EXIT
# Reads the log until it says "ready".
tail -n +1 -f --pid="$daemon" "$log" | sed '/ready:/q' >/dev/null
port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$log")

# bash has TCP clients built in; so does every machine that builds Rust programs.
bash -c '
    for n in 1 2 3 4; do
        exec {client}<>"/dev/tcp/127.0.0.1/$0"
        read -r line <&"$client"
        echo "client $n: $line"
    done' "$port"

kill "$daemon"
wait "$daemon"
sed 's/^/log: /' "$log"
