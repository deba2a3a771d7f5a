#!/usr/bin/env bash
# Makes the client and the example, and rides:
#
#     examples/java/run.sh [URL]         # else $TAXI_URL, else http://127.0.0.1:8088
#     examples/java/run.sh --prepare     # makes them, and does not ride
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..

"$root/tools/clients.sh" --need java
# Made anew when the client or the example is another one: Maven takes seconds to find that out.
made=$(cat "$root/clients/java/.made" "$here/pom.xml" "$here"/src/main/java/dev/taxi/examples/*.java | sha256sum)
if [ "$(cat "$here/target/made" 2> /dev/null)" != "$made" ]; then
    rm -rf "$here/target"
    mvn --quiet --batch-mode -Dmaven.repo.local="$root/.tools/m2" -f "$here/pom.xml" process-classes >&2
    printf '%s' "$made" > "$here/target/made"
fi
if [ "${1:-}" = --prepare ]; then exit; fi
"$here/../../tools/answers.sh" "$@"

exec java -cp "$here/target/classes:$here/target/dependency/*" dev.taxi.examples.Ride "$@"
