# What the examples share: tokens, and requests that are shown with their answers. It is sourced.

base=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
base=${base%/}
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT

die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

for program in curl jq; do
    command -v "$program" > /dev/null || die "needs $program: tools/setup.sh examples gets it"
done

# token ROLE SUBJECT : a token of the development issuer. A real identity provider has its own ways.
token() {
    curl -sS --fail-with-body "$base/oauth2/token" \
        -d grant_type=client_credentials -d client_secret=dev -d scope="$1" -d client_id="$2" |
        jq -er .access_token || die "no token from $base/oauth2/token"
}

# send TOKEN METHOD PATH [CURL-OPTION..] : leaves $status, $files/headers and $files/body.
send() {
    local token=$1 method=$2 path=$3
    shift 3
    status=$(curl -sS -o "$files/body" -D "$files/headers" -w '%{http_code}' \
        -X "$method" -H "Authorization: Bearer $token" "$@" "$base$path") ||
        die "$method $path: no answer"
}

# answer FILTER : what jq finds in the last answer.
answer() { jq -r "$1" "$files/body"; }

# header NAME : a header of the last answer.
header() { sed -n "s/^$1: \(.*\)\r\$/\1/Ip" "$files/headers"; }

# until_it_is WHAT COMMAND.. : tries until it succeeds, for half a minute.
until_it_is() {
    local what=$1 try
    shift
    for try in $(seq 150); do
        if "$@"; then return; fi
        sleep 0.2
    done
    die "not $what after $try tries"
}
