#!/usr/bin/env bash
# Compiles what was generated, and puts the jar where the examples find it, in place of any before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly repository=$PWD/../../.tools/m2
rm -rf "$repository/dev/taxi/taxi-client"
mvn --quiet --batch-mode -Dmaven.repo.local="$repository" install >&2
