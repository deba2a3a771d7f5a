#!/usr/bin/env bash
# Prints the commit of the release before this one, which everything new has to get on with: the
# newest tag v* below HEAD, and before the first tag the commit in tools/previous. With a directory,
# `tools/previous.sh DIR PATH..`, also puts that release's files (all, without a PATH) there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tag=$(git describe --tags --match 'v*' --abbrev=0 HEAD^ 2> /dev/null || true)
name=${tag:-$(cat tools/previous)}
commit=$(git rev-parse --verify -q "$name^{commit}") || {
    echo "previous: this clone does not have $name: get the whole history with \`git fetch --unshallow --tags\`" >&2
    exit 69
}
if [ $# -gt 0 ]; then
    directory=$1
    shift
    mkdir -p "$directory"
    git archive "$commit" "$@" | tar -x -C "$directory"
fi
echo "$commit"
