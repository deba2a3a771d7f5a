#!/usr/bin/env bash
# One ride by gRPC, as its rider and its driver see it. Methods and messages are found by reflection:
#
#     examples/grpcurl/ride.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
#
# Prints every call, and of its answer what matters.
set -euo pipefail

base=${1:-${TAXI_URL:-http://127.0.0.1:8088}}
address=${base#*://}
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
PATH=$PATH:$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/.tools/bin

die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

for program in curl jq grpcurl; do
    command -v "$program" > /dev/null || die "needs $program: tools/setup.sh examples gets it"
done

say() { printf '\n# %s\n' "$*"; }

# token ROLE SUBJECT : a token of the development issuer. A real identity provider has its own ways.
token() {
    curl -sS --fail-with-body "$base/oauth2/token" \
        -d grant_type=client_credentials -d client_secret=dev -d scope="$1" -d client_id="$2" |
        jq -er .access_token || die "no token from $base/oauth2/token"
}

# call WHO METHOD MESSAGE [OPTION..] : leaves the answer, or the error, and the metadata before it.
# A method such as driving.DrivingService/AcceptDriving is in the package taxi.driving.v1.
call() {
    local who=$1 method=taxi.${2/./.v1.} message=$3
    shift 3
    grpcurl -plaintext -v -format-error -H "authorization: Bearer ${tokens[$who]}" -d "$message" \
        "$@" "$address" "$method" > "$files/said" 2> "$files/error" || return
    sed -n '/^{/,/^}/p' "$files/said" > "$files/answer"
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
    printf '  %s\n' "$(jq -c '{code, reason: .details[0].reason, message}' "$files/error")"
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

declare -A tokens
# Other people each time: a rider has one open ride at most, and data may be kept.
people=$$-$RANDOM
rider=rider-$people
tokens[rider]=$(token customer "$rider")
tokens[driver]=$(token driver "driver-$people")

say "The rider asks for a car. The id of the request makes it safe to ask again: it is the same ride."
id=$(cat /proc/sys/kernel/random/uuid)
wish='{"request_id": "'$id'", "allocation": {"destination": {"address": "Misa Station"}}}'
show '{name, state}' rider allocation.AllocationService/RequestAllocation "$wish" -H accept-language:en
allocation=$(answer .name)
show '{name, state}' rider allocation.AllocationService/RequestAllocation "$wish"
[ "$(answer .name)" = "$allocation" ] || die "the second answer is another ride"

say "The dashboard follows a moment later. With the token of what was written it waits for that."
written=$(metadata x-taxi-consistency-token)
info=drivingInfos/${allocation#allocations/}
show '{allocStatus}' rider dashboard.DashboardService/GetDrivingInfo \
    '{"name": "'"$info"'", "consistency_token": "'"$written"'"}'

say "A second car at the same time is refused: the reason is for programs, the message for people."
refused rider allocation.AllocationService/RequestAllocation \
    '{"allocation": {"destination": {"address": "Hanam"}}}'

say "A driver sees it among the open ones, takes it, and drives."
is_open() {
    call driver driving.DrivingService/ListDrivings '{"states": ["STATE_REQUESTED"], "page_size": 1000}'
    driving=$(answer "[.drivings[]? | select(.allocation == \"$allocation\").name][0] // \"\"")
    [ -n "$driving" ]
}
until_it_is "open to drivers" is_open
of_driving='{"name": "'$driving'"}'
show '{allocation, destination: .destination.address, state}' driver driving.DrivingService/GetDriving "$of_driving"
show '{state}' driver driving.DrivingService/AcceptDriving "$of_driving"
show '{state}' driver driving.DrivingService/StartDriving "$of_driving"
is_driving() {
    call rider allocation.AllocationService/GetAllocation '{"name": "'"$allocation"'"}'
    [ "$(answer .state)" = STATE_DRIVING_STARTED ]
}
until_it_is "driving, as the rider sees it" is_driving
refused rider allocation.AllocationService/CancelAllocation '{"name": "'"$allocation"'"}'
show '{state, fare: .fare.units, paymentState}' driver driving.DrivingService/FinishDriving "$of_driving"

say "The rider has paid, and has been told what happened."
# Each context tells its own part, when it gets to it.
is_whole() {
    call rider dashboard.DashboardService/GetDrivingInfo '{"name": "'"$info"'"}'
    [ "$(answer '.timeline | length')" = 7 ]
}
until_it_is "told as a whole" is_whole
show '{allocStatus, drivingStatus, paymentStatus, fee: .fee.units}' rider \
    dashboard.DashboardService/GetDrivingInfo '{"name": "'"$info"'"}'
thanks='.messages[]? | select(.template == "TEMPLATE_PAYMENT_APPROVED") | .text'
is_told() {
    call rider message.MessageService/ListMessages '{"parent": "customers/'"$rider"'"}'
    [ -n "$(answer "$thanks")" ]
}
until_it_is "told of the payment" is_told
show "$thanks" rider message.MessageService/ListMessages '{"parent": "customers/'"$rider"'"}'
