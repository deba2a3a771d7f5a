#!/usr/bin/env bash
# Makes the client and a virtual environment that has it, and rides:
#
#     examples/python/run.sh [URL]         # else $TAXI_URL, else http://127.0.0.1:8088
#     examples/python/run.sh --prepare     # makes them, and does not ride
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
client=$here/../../clients/python

"$here/../../tools/clients.sh" --need python
# Made anew when the client or what else it needs is another one.
made=$(cat "$client/.made" "$here/requirements.txt")
if [ "$(cat "$here/.venv/made" 2> /dev/null)" != "$made" ]; then
    python3 -m venv --clear "$here/.venv"
    "$here/.venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" "$client"
    printf '%s' "$made" > "$here/.venv/made"
fi
if [ "${1:-}" = --prepare ]; then exit; fi
"$here/../../tools/answers.sh" "$@"

# This machine is no business of a proxy.
export no_proxy=127.0.0.1,localhost${no_proxy:+,$no_proxy}
exec "$here/.venv/bin/python" "$here/ride.py" "$@"
