#!/usr/bin/env bash
# Makes the client and the example, and rides:
#
#     examples/go/run.sh [URL]         # else $TAXI_URL, else http://127.0.0.1:8088
#     examples/go/run.sh --prepare     # makes them, and does not ride
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

"$here/../../tools/clients.sh" --need go
go -C "$here" build -buildvcs=false -o target/ride .
if [ "${1:-}" = --prepare ]; then exit; fi
"$here/../../tools/answers.sh" "$@"

exec "$here/target/ride" "$@"
