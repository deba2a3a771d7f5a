#!/usr/bin/env bash
# Builds the `taxi` of the release before this one (tools/previous.sh) from that release's own files
# and Cargo.lock, and prints where it is. Once it is there, nothing is built.
#
# It is built apart: in `target/apart`, where other copies of the repository are built too. So none of
# them undoes the work of the build here, and what they have in common is built once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

commit=$(tools/previous.sh)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
previous=$target/previous
source=$previous/src-$commit
binary=$previous/taxi-$commit

# Builds it and takes a copy.
build() {
    (
        cd "$source"
        export CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$target/apart TAXI_REVISION=$commit
        cargo build --locked -p taxi >&2
    )
    cp "$target/apart/debug/taxi" "$binary.new"
}

is_ours() { grep -qF "$commit" "$binary.new"; }

mkdir -p "$previous"
# Tests ask at the same time.
exec 9> "$previous/lock"
flock 9
if [ ! -x "$binary" ]; then
    echo "previous: building taxi at $commit, once" >&2
    # Those of releases before that one.
    rm -rf "$previous"/src-* "$previous"/taxi-*
    tools/previous.sh "$source" > /dev/null
    build
    # It knows its commit. What was copied may be another build, of just that moment.
    is_ours || build
    is_ours || {
        echo "previous: other builds in $target/apart are in the way: try again" >&2
        exit 75
    }
    mv "$binary.new" "$binary"
    rm -rf "$source"
fi
echo "$binary"
