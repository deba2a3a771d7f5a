#!/usr/bin/env bash
# Makes the client, gets the packages beside it, compiles, and rides:
#
#     examples/typescript/run.sh [URL]         # else $TAXI_URL, else http://127.0.0.1:8088
#     examples/typescript/run.sh --prepare     # all but the ride
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

"$here/../../tools/clients.sh" --need typescript
# Got anew when the client or what else it needs is another one.
made=$(cat "$here/../../clients/typescript/.made" "$here/package-lock.json")
if [ "$(cat "$here/node_modules/made" 2> /dev/null)" != "$made" ]; then
    npm --prefix "$here" ci --silent --no-audit --no-fund --ignore-scripts >&2
    printf '%s' "$made" > "$here/node_modules/made"
fi
if [ ! "$here/dist/ride.js" -nt "$here/ride.ts" ] || [ "$here/node_modules/made" -nt "$here/dist/ride.js" ]; then
    npm --prefix "$here" run --silent build
fi
if [ "${1:-}" = --prepare ]; then exit; fi
"$here/../../tools/answers.sh" "$@"

# This machine is no business of a proxy.
export no_proxy=127.0.0.1,localhost${no_proxy:+,$no_proxy}
exec node "$here/dist/ride.js" "$@"
