#!/usr/bin/env bash
# Says what to do when nobody listens at a gateway's address: `tools/answers.sh [URL]`, without one
# $TAXI_URL or the address of `make run`. Ends with 69 then, a service that is needed is not there.
set -euo pipefail

url=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
authority=${url#*://}
authority=${authority%%/*}
case $authority in
    *:*) port=${authority##*:} ;;
    *) port=443 && [[ $url = https:* ]] || port=80 ;;
esac
host=$(tr -d '[]' <<< "${authority%:"$port"}")
timeout 10 bash -c ': < "/dev/tcp/$1/$2"' answers "$host" "$port" 2> /dev/null || {
    echo "nothing answers at $url: start a mesh with \`make run\`, or give the address of another one" >&2
    exit 69
}
