#!/usr/bin/env bash
# Rides with the Python client of the release before this one: what an application that was not
# updated does. The client is generated from that release's protos, into target/previous-client.
#
#     tools/previous-client.sh URL
#     tools/previous-client.sh --prepare     # all but the ride
#
# The ride is that release's own examples/python, or ours when it had none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${1:?a URL, or --prepare}"

readonly to=${CARGO_TARGET_DIR:-target}/previous-client

example() {
    local theirs=$to/release/examples/python
    if [ -f "$theirs/ride.py" ]; then printf '%s' "$theirs"; else printf 'examples/python'; fi
}

why=$(tools/clients.sh --lacks python)
[ -z "$why" ] || { printf 'python: %s\n' "$why" >&2; exit 69; }
made="$(tools/previous.sh) $(cat tools/setup.sh tools/clients.sh buf.gen.yaml examples/python/requirements.txt | sha256sum)"
if [ "$(cat "$to/made" 2> /dev/null)" != "$made" ]; then
    rm -rf "$to"
    tools/previous.sh "$to/release" proto buf.yaml examples > /dev/null
    tools/setup.sh buf clients-python
    .tools/bin/buf generate "$to/release" --path "$to/release/proto/taxi" \
        --template "$(tools/clients.sh --template python)" --output "$to"
    cp clients/python/pyproject.toml clients/python/README.md "$to/clients/python/"
    python3 -m venv "$to/venv"
    "$to/venv/bin/pip" install -q --disable-pip-version-check \
        -r "$(example)/requirements.txt" "$to/clients/python"
    printf '%s' "$made" > "$to/made"
fi
if [ "$1" = --prepare ]; then exit; fi

export no_proxy=127.0.0.1,localhost${no_proxy:+,$no_proxy}
exec "$to/venv/bin/python" "$(example)/ride.py" "$1"
