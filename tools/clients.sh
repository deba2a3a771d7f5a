#!/usr/bin/env bash
# Makes the clients in other languages: generates them from proto/ into clients/<language>, and builds
# them there.
#
#     tools/clients.sh [LANGUAGE..]        # all, without one
#     tools/clients.sh --lacks LANGUAGE    # prints what this machine lacks for it, or nothing
#     tools/clients.sh --template LANGUAGE # prints buf.gen.yaml without the other languages
#     tools/clients.sh --need LANGUAGE     # makes it without a word, or ends with 69 if it lacks that
#
# A language without its toolchain is skipped and named; one that does not build is an error. Running
# it again costs nothing. What a language consists of:
#   buf.gen.yaml             its plugins: the paragraphs with `out: clients/<language>/..`
#   tools/setup.sh           clients_<language>, if its plugins are not there by themselves
#   `needs` below            the programs that have to be in PATH, and the oldest version of them
#   `manifest` below         the file that names the version, which has to be the workspace's
#   clients/<language>/build.sh   builds what was generated, with nothing left to fetch afterwards
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly languages=(python typescript go java)
readonly -A needs=([python]='python3:3.10' [typescript]='node:20 npm' [go]='go:1.24' [java]='javac:17 mvn:3.6')
readonly -A manifest=([python]=pyproject.toml [typescript]=package.json [java]=pom.xml)
# What is generated beside taxi's own protos, for a language that has no package of it.
readonly -A vendored=([typescript]=proto/vendor/google/rpc)

say() { printf '%s\n' "$*"; }
die() { printf 'clients: %s\n' "$*" >&2; exit 1; }

# lacks LANGUAGE : why it has to be skipped, in words.
lacks() {
    local need program oldest version
    for need in ${needs[$1]}; do
        program=${need%%:*}
        oldest=${need#"$program"}
        type -P "$program" > /dev/null || { say "there is no $program in PATH"; return; }
        [ -n "$oldest" ] || continue
        # Those of long ago answer to neither: then there is none.
        version=$({ "$program" --version || "$program" version; } 2> /dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1) || true
        [ "$(printf '%s\n%s\n' "$version" "${oldest#:}" | sort -V | head -n 1)" = "${oldest#:}" ] ||
            { say "$program is ${version:-too old}, and has to be ${oldest#:} or newer"; return; }
    done
    [ "$1" != python ] || python3 -c 'import ensurepip, venv' 2> /dev/null ||
        say "this Python has no venv: install python3-venv"
}

# The version that all clients have: the workspace's.
workspace_version() { sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

check_version() {
    local file=clients/$1/${manifest[$1]:-} version
    [ -n "${manifest[$1]:-}" ] || return 0
    version=$(workspace_version)
    grep -qE "^ *(\"version\": \"|version = \"|<version>)${version//./\\.}(\"|</version>)" "$file" ||
        die "$file does not have the version of Cargo.toml, $version"
}

# Everything that a client is made of, in one word.
fingerprint() {
    {
        cat buf.gen.yaml buf.yaml tools/clients.sh tools/setup.sh tools/protoc-gen-*
        find proto -type f -name '*.proto' -print0 | sort -z | xargs -0 cat
        find "clients/$1" -maxdepth 1 -type f ! -name .made -print0 | sort -z | xargs -0 cat
    } | sha256sum | cut -d ' ' -f 1
}

# template LANGUAGE : buf.gen.yaml without the plugins of the other languages.
template() {
    awk -v RS= -v ORS='\n\n' -v mine="\n *out: clients/$1(/|\n|$)" \
        '!/\n *out: clients\// || $0 ~ mine' buf.gen.yaml
}

make_client() {
    local language=$1 print paths=(--path proto/taxi) stamp=clients/$1/.made
    print=$(fingerprint "$language")
    if [ "$(cat "$stamp" 2> /dev/null)" = "$print" ]; then return; fi
    rm -f "$stamp"
    check_version "$language"
    tools/setup.sh buf "clients-$language"
    [ -z "${vendored[$language]:-}" ] || paths+=(--path "${vendored[$language]}")
    .tools/bin/buf generate "${paths[@]}" --template "$(template "$language")"
    [ ! -x "clients/$language/build.sh" ] || "clients/$language/build.sh"
    printf '%s' "$print" > "$stamp"
}

case ${1:-} in
    --lacks | --template) "${1#--}" "${2:?a language}"; exit ;;
esac
if [ "${1:-}" = --need ]; then
    why=$(lacks "${2:?a language}")
    [ -z "$why" ] || { printf '%s: %s\n' "$2" "$why" >&2; exit 69; }
    shift
    exec > /dev/null
fi
[ $# -gt 0 ] || set -- "${languages[@]}"
mkdir -p .tools
# Two who make the same client at once would each find the other's half.
exec 9> .tools/clients.lock
if type -P flock > /dev/null; then flock 9; fi
for language in "$@"; do
    [ -n "${needs[$language]:-}" ] || die "no such language: $language. There are ${languages[*]}"
    why=$(lacks "$language")
    if [ -n "$why" ]; then
        say "$language: skipped, $why"
    else
        make_client "$language"
        say "$language: clients/$language"
    fi
done
