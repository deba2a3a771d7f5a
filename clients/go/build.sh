#!/usr/bin/env bash
# Compiles what was generated, and fetches what it needs for that.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
go build ./...
