#!/usr/bin/env bash
# Compiles what was generated, into dist.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
npm run --silent build
