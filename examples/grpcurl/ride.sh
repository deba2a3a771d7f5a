#!/usr/bin/env bash
# One ride by gRPC, as its rider and its driver see it. Methods and messages are found by reflection:
#
#     examples/grpcurl/ride.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
#
# Prints every call, and of its answer what matters.
set -euo pipefail

# How many seconds one attempt may take, and how often a call is tried.
readonly deadline=10 attempts=8
base=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
base=${base%/}
address=${base#*://}
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
PATH=$PATH:$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.tools/bin

die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

for program in curl jq grpcurl; do
    command -v "$program" > /dev/null || die "needs $program: tools/setup.sh examples gets it"
done

say() { printf '\n# %s\n' "$*"; }

# token ROLE SUBJECT : a token of the development issuer, good for an hour. A real identity provider
# has its own ways.
token() {
    curl -sS --fail-with-body --max-time "$deadline" "$base/oauth2/token" \
        -d grant_type=client_credentials -d client_secret=dev -d scope="$1" -d client_id="$2" |
        jq -er .access_token || die "no token from $base/oauth2/token"
}

# new_id : for a new wish. The old one only repeats the old wish: the server does it once, even when
# its first answer was lost.
new_id() { cat /proc/sys/kernel/random/uuid; }

# rpc WHO METHOD MESSAGE [OPTION..] : one attempt of a call, as grpcurl prints it; errors are JSON.
# A method such as driving.DrivingService/AcceptDriving is in the package taxi.driving.v1.
rpc() {
    exec grpcurl -plaintext -format-error -rpc-header "authorization: Bearer ${tokens[$1]}" \
        -d "$3" "${@:4}" "$address" "taxi.${2/./.v1.}"
}

# call WHO METHOD MESSAGE [OPTION..] : leaves the answer, or the error, and the metadata before it.
# The message is the same in each attempt, its request_id included.
call() {
    local attempt
    for attempt in $(seq "$attempts"); do
        if (rpc "$@" -v -max-time "$deadline") > "$files/said" 2> "$files/error"; then
            sed -n '/^{/,/^}/p' "$files/said" > "$files/answer"
            return
        fi
        pause "$attempt" || return
    done
    return 1
}

# pause ATTEMPT : waits for as long as the last error asks for (RetryInfo), longer each time, and not
# all clients alike. Fails when the same call will do no better later.
pause() {
    local code asked seconds
    # Nothing when there was no connection, or a stream has ended.
    code=$(jq -r .code "$files/error" 2> /dev/null) || code=
    case $code in
        4 | 8 | 14 | '') ;; # DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
        *) return 1 ;;
    esac
    asked='[.details[]?.retryDelay | values | rtrimstr("s")][0] // 0'
    asked=$(jq -r "$asked" "$files/error" 2> /dev/null) || asked=
    seconds=$(jq -n "([${asked:-0}, 0.1 * pow(2; $1)] | max) * (1 + $RANDOM / 65536)")
    printf '%s: again in %.1f s\n' "${code:+code }${code:-no answer}" "$seconds" >&2
    sleep "$seconds"
}

# show FILTER WHO METHOD MESSAGE [OPTION..] : calls, and shows call and answer.
show() {
    local filter=$1
    shift
    printf '%s: %s %s\n' "$1" "$2" "$3"
    call "$@" || die "$2: $(cat "$files/error")"
    printf '  %s\n' "$(jq -c "$filter" "$files/answer")"
}

# refused WHO METHOD MESSAGE : the same for a call that has to be refused.
refused() {
    printf '%s: %s %s\n' "$1" "$2" "$3"
    if call "$@"; then die "$2 should have been refused"; fi
    printf '  %s\n' "$(jq -c '{code, reason: [.details[] | .reason // empty][0], message}' "$files/error")"
}

# pages FILTER WHO METHOD MESSAGE : shows all pages of a list, and leaves them in $files/pages.
# Everything but the token has to stay as it was.
pages() {
    local message=$4 page_token
    : > "$files/pages"
    while show "$1" "$2" "$3" "$message"; do
        cat "$files/answer" >> "$files/pages"
        page_token=$(answer '.nextPageToken // ""')
        [ -n "$page_token" ] || break
        message=$(jq -c --arg token "$page_token" '.page_token = $token' <<< "$4")
    done
}

# watch CONDITION FILTER WHO METHOD MESSAGE : reads a stream until an answer meets the condition, and
# shows it. It begins behind the last answer shown of this method: changes that came since may be joined
# into one. A stream that breaks is opened again; one that died silently, too, after five minutes.
watch() {
    local condition=$1 filter=$2 who=$3 method=$4 message=$5 attempt stream
    printf '%s: %s %s\n' "$who" "$method" "$message"
    message=$(jq -c --arg token "${resume_tokens[$method]:-}" '.resume_token = $token' <<< "$message")
    for attempt in $(seq "$attempts"); do
        : > "$files/error"
        exec {stream}< <(rpc "$who" "$method" "$message" -max-time 300 2> "$files/error")
        jq -n "first(inputs | select($condition))" <&$stream > "$files/answer" || true
        # It is cut, as a tunnel does.
        kill $! 2> /dev/null || true
        exec {stream}<&-
        if [ -s "$files/answer" ]; then
            resume_tokens[$method]=$(answer .resumeToken)
            printf '  %s\n' "$(jq -c "$filter" "$files/answer")"
            return
        fi
        pause "$attempt" || break
    done
    die "$method: not $condition after $attempt attempts: $(cat "$files/error")"
}

# answer FILTER : what jq finds in the last answer.
answer() { jq -r "$1" "$files/answer"; }

# metadata NAME : a value of the last answer's metadata.
metadata() { sed -n "s/^$1: //p" "$files/said"; }

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

declare -A tokens resume_tokens
# Other people each time: a rider has one open ride at most, and data may be kept.
people=$$-$RANDOM
rider=rider-$people
tokens[rider]=$(token customer "$rider")
tokens[driver]=$(token driver "driver-$people")

say "A request that is not valid. The reason is for programs, the description for people."
refused rider allocation.AllocationService/RequestAllocation '{"allocation": {"destination": {"address": ""}}}'
jq -r '.details[].fieldViolations[]? | "  \(.field): \(.description)"' "$files/error"

say "The rider asks for a car. The id of the request makes it safe to ask again: it is the same ride."
wish='{"request_id": "'$(new_id)'", "allocation": {"destination": {"address": "Misa Station"}}}'
show '{name, state}' rider allocation.AllocationService/RequestAllocation "$wish" -H accept-language:en
allocation=$(answer .name)
show '{name, state}' rider allocation.AllocationService/RequestAllocation "$wish" -H accept-language:en
[ "$(answer .name)" = "$allocation" ] || die "the second answer is another ride"

say "The dashboard follows a moment later. With the token of what was written it waits for that."
written=$(metadata x-taxi-consistency-token)
info=drivingInfos/${allocation#allocations/}
show '{allocStatus}' rider dashboard.DashboardService/GetDrivingInfo \
    '{"name": "'"$info"'", "consistency_token": "'"$written"'"}'

say "A second car at the same time is refused: the reason is for programs, the message for people."
refused rider allocation.AllocationService/RequestAllocation \
    '{"allocation": {"destination": {"address": "Hanam"}}}'

say "The rider watches the ride. A driver finds it among the open ones, takes it, and drives."
watch '[.drivingInfo.timeline[].event] | contains(["DrivingOpened"])' \
    '[.drivingInfo.timeline[].event]' rider dashboard.DashboardService/WatchDrivingInfos '{}'
call driver driving.DrivingService/ListDrivings '{"states": ["STATE_REQUESTED"], "page_size": 1000}' ||
    die "no drivings: $(cat "$files/error")"
driving=$(answer ".drivings[] | select(.allocation == \"$allocation\").name")
# of_driving : what a new wish of the driver says.
of_driving() { printf '{"name": "%s", "request_id": "%s"}' "$driving" "$(new_id)"; }
show '{allocation, destination: .destination.address, state}' driver driving.DrivingService/GetDriving \
    '{"name": "'"$driving"'"}'
show '{state}' driver driving.DrivingService/AcceptDriving "$(of_driving)"
show '{state}' driver driving.DrivingService/StartDriving "$(of_driving)"
watch '.allocation.state == "STATE_DRIVING_STARTED"' .allocation.state rider \
    allocation.AllocationService/WatchAllocation '{"name": "'"$allocation"'"}'
refused rider allocation.AllocationService/CancelAllocation '{"name": "'"$allocation"'"}'
show '{state, fare: .fare.units, paymentState}' driver driving.DrivingService/FinishDriving "$(of_driving)"

say "The watch was cut meanwhile. It carries on where it was. Each context tells its own part."
watch '.drivingInfo.timeline | length == 7' \
    '[.drivingInfo.timeline[].event]' rider dashboard.DashboardService/WatchDrivingInfos '{}'
show '{allocStatus, drivingStatus, paymentStatus, fee: .fee.units}' rider \
    dashboard.DashboardService/GetDrivingInfo '{"name": "'"$info"'"}'

say "What the rider was told, by pages of two."
is_told() {
    call rider message.MessageService/ListMessages '{"parent": "customers/'"$rider"'"}'
    [ "$(answer '.messages | length')" = 5 ]
}
until_it_is "told of everything" is_told
pages '.messages | length' rider message.MessageService/ListMessages \
    '{"parent": "customers/'"$rider"'", "page_size": 2}'
# Newest first, but for two services that tell something at the same time.
jq -rs 'map(.messages[]) | sort_by(.template)[] | "  \(.text)"' "$files/pages"
