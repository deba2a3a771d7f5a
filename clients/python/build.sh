#!/usr/bin/env bash
# Tells type checkers that there are types. pip builds the package when somebody installs it.
set -euo pipefail
touch "$(dirname "${BASH_SOURCE[0]}")/src/taxi/py.typed"
