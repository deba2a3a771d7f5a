#!/usr/bin/env bash
# Runs the example of every language, and says of each how it went:
#
#     tools/examples.sh [URL]        # without one: the mesh at $TAXI_URL or http://127.0.0.1:8088 if
#                                    # one runs there, else one of its own, which leaves nothing behind
#     tools/examples.sh --prepare    # fetches and builds what they need, and runs none
#
# Ends with 1 when one has failed. A language without its toolchain is skipped and named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly languages=(curl grpcurl python typescript go java)
# Nothing of what follows is meant for a proxy.
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
scratch=$(mktemp -d)
mesh=

die() { printf 'examples: %s\n' "$*" >&2; exit 1; }

leave() {
    if [ -n "$mesh" ]; then
        kill -INT "$mesh" 2> /dev/null || true
        wait "$mesh" 2> /dev/null || true
    fi
    rm -rf "$scratch"
}
trap leave EXIT

# script LANGUAGE : what runs its example. Those of curl and grpcurl need nothing to be made first.
script() { ls "examples/$1/run.sh" "examples/$1/ride.sh" 2> /dev/null | head -n 1; }

# lacks LANGUAGE : why it has to be skipped, in words.
lacks() {
    case $1 in
        curl | grpcurl) ;;
        *) tools/clients.sh --lacks "$1" ;;
    esac
}

answers() { curl -sf -o /dev/null --max-time 5 "$1/livez"; }

# Leaves the gateway's address in $url.
start_mesh() {
    local ready=$scratch/ready
    cargo build -q -p taxi
    "${CARGO_TARGET_DIR:-target}/debug/taxi" dev --ephemeral --random-ports --ready-file "$ready" \
        > "$scratch/mesh" 2>&1 &
    mesh=$!
    until [ -s "$ready" ]; do
        kill -0 "$mesh" 2> /dev/null || { cat "$scratch/mesh" >&2; die "the mesh has ended"; }
        sleep 0.1
    done
    url=$(jq -r .gateway "$ready")
}

run() {
    local language=$1 why log=$scratch/$1
    [ -n "$(script "$language")" ] || return 0
    why=$(lacks "$language")
    if [ -n "$why" ]; then
        printf '%s: skipped, %s\n' "$language" "$why"
    elif "$(script "$language")" "$url" > "$log" 2>&1; then
        printf '%s: ok\n' "$language"
    else
        failed+=("$language")
        printf '%s: failed\n' "$language"
        cat "$log" >&2
    fi
}

prepare() {
    local language=$1 why
    [ -x "examples/$language/run.sh" ] || return 0
    why=$(lacks "$language")
    if [ -n "$why" ]; then
        printf '%s: skipped, %s\n' "$language" "$why"
    else
        "examples/$language/run.sh" --prepare
    fi
}

if [ "${1:-}" = --prepare ]; then
    for language in "${languages[@]}"; do prepare "$language"; done
    exit
fi
url=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
if ! answers "$url"; then
    [ $# = 0 ] || die "nothing answers at $url"
    start_mesh
fi
failed=()
for language in "${languages[@]}"; do run "$language"; done
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
