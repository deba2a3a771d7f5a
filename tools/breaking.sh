#!/usr/bin/env bash
# Says no when a proto changes in a way that a client of before does not understand. Compared with
# main; on main itself with the commit before. $BREAKING_BASE names another base.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

head=$(git rev-parse --verify -q HEAD) || { echo 'buf breaking: no commit yet' >&2; exit 0; }
base=
for candidate in "${BREAKING_BASE:-}" origin/main main HEAD HEAD^; do
    [ -n "$candidate" ] || continue
    commit=$(git rev-parse --verify -q "$candidate^{commit}") || continue
    # A commit is no base for itself, only for protos that are changed and not yet committed.
    if [ "$commit" = "$head" ] && [ -z "$(git status --porcelain -- proto)" ]; then continue; fi
    base=$commit
    break
done
if [ -z "$base" ] || ! git cat-file -e "$base:proto" 2> /dev/null; then
    echo 'buf breaking: there is no base with protos to compare with' >&2
    exit 0
fi
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$base" proto buf.yaml | tar -x -C "$before"
.tools/bin/buf breaking --against "$before"
echo "buf breaking: compatible with ${base:0:12}" >&2
