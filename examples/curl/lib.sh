# What the examples share: tokens, requests that are tried again, and patience. It is sourced.

base=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
base=${base%/}
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT

# How many seconds one attempt may take, and how often a request is sent.
readonly deadline=10 attempts=8

die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

for program in curl jq; do
    command -v "$program" > /dev/null || die "needs $program: tools/setup.sh examples gets it"
done

# token ROLE SUBJECT : a token of the development issuer, good for an hour. A real identity provider
# has its own ways.
token() {
    curl -sS --fail-with-body --max-time "$deadline" "$base/oauth2/token" \
        -d grant_type=client_credentials -d client_secret=dev -d scope="$1" -d client_id="$2" |
        jq -er .access_token || die "no token from $base/oauth2/token"
}

# new_key : a header for a new wish. The old one only repeats the old wish: the server does it once,
# even when its first answer was lost.
new_key() { printf 'Idempotency-Key: %s' "$(cat /proc/sys/kernel/random/uuid)"; }

# send TOKEN METHOD PATH [CURL-OPTION..] : leaves $status, $files/headers and $files/body. The request
# is the same each time it is sent, its key included.
send() {
    local token=$1 method=$2 path=$3 attempt
    shift 3
    [[ $method = GET || $* = *Idempotency-Key:* ]] || set -- -H "$(new_key)" "$@"
    for attempt in $(seq "$attempts"); do
        printf '{}' | tee "$files/headers" > "$files/body"
        status=$(curl -sS --max-time "$deadline" -o "$files/body" -D "$files/headers" \
            -w '%{http_code}' -X "$method" -H "Authorization: Bearer $token" "$@" "$base$path") ||
            status=000
        case $status in
            429 | 503 | 504 | 000) pause "$attempt" "${status/000/no answer}" ;;
            *) return 0 ;;
        esac
    done
    die "$method $path: $status after $attempts attempts: $(cat "$files/body")"
}

# pause ATTEMPT WHY : waits for as long as the last answer asks for (RetryInfo; in whole seconds it is
# also the header Retry-After), longer each time, and not all clients alike.
pause() {
    local asked seconds
    asked=$(answer '[.details[]?.retryDelay | values | rtrimstr("s")][0] // 0')
    seconds=$(jq -n "([${asked:-0}, 0.1 * pow(2; $1)] | max) * (1 + $RANDOM / 65536)")
    printf '%s: again in %.1f s\n' "$2" "$seconds" >&2
    sleep "$seconds"
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
