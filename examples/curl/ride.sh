#!/usr/bin/env bash
# One ride by REST, as its rider and its driver see it:
#
#     examples/curl/ride.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
#
# Prints every request, and of its answer what matters.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say() { printf '\n# %s\n' "$*"; }

# show STATUS FILTER WHO METHOD PATH [CURL-OPTION..] : sends a request and shows it; the answer must
# have this status.
show() {
    local wanted=$1 filter=$2 who=$3 method=$4 path=$5
    shift 3
    printf '%s: %s %s\n' "$who" "$method" "$path"
    send "${tokens[$who]}" "$@"
    [ "$status" = "$wanted" ] || die "$method $path: $status instead of $wanted: $(answer .)"
    printf '  %s %s\n' "$status" "$(jq -c "$filter" "$files/body")"
}

declare -A tokens
# Other people each time: a rider has one open ride at most, and data may be kept.
people=$$-$RANDOM
rider=rider-$people
tokens[rider]=$(token customer "$rider")
tokens[driver]=$(token driver "driver-$people")

say "The rider asks for a car. The key makes it safe to ask again: it is the same ride."
wish=(-H 'Content-Type: application/json' -H 'Accept-Language: en' \
    -H "Idempotency-Key: $(cat /proc/sys/kernel/random/uuid)" \
    -d '{"destination": {"address": "Misa Station"}}')
show 200 '{name, state}' rider POST /v1/allocations "${wish[@]}"
allocation=$(answer .name)
show 200 '{name, state}' rider POST /v1/allocations "${wish[@]}"
[ "$(answer .name)" = "$allocation" ] || die "the second answer is another ride"

say "The dashboard follows a moment later. With the token of what was written it waits for that."
written=$(header x-taxi-consistency-token)
info=/v1/drivingInfos/${allocation#allocations/}
show 200 '{allocStatus}' rider GET "$info?consistencyToken=$written"

say "A second car at the same time is refused: the reason is for programs, the message for people."
show 400 '{reason: .details[0].reason, message}' rider POST /v1/allocations \
    -H 'Content-Type: application/json' -d '{"destination": {"address": "Hanam"}}'

say "A driver sees it among the open ones, takes it, and drives."
is_open() {
    send "${tokens[driver]}" GET '/v1/drivings?states=STATE_REQUESTED&pageSize=1000'
    driving=$(answer "[.drivings[] | select(.allocation == \"$allocation\").name][0] // \"\"")
    [ -n "$driving" ]
}
until_it_is "open to drivers" is_open
show 200 '{allocation, destination: .destination.address, state}' driver GET "/v1/$driving"
show 200 '{state}' driver POST "/v1/$driving:accept"
show 200 '{state}' driver POST "/v1/$driving:start"
is_driving() {
    send "${tokens[rider]}" GET "/v1/$allocation"
    [ "$(answer .state)" = STATE_DRIVING_STARTED ]
}
until_it_is "driving, as the rider sees it" is_driving
show 400 '{reason: .details[0].reason}' rider POST "/v1/$allocation:cancel"
show 200 '{state, fare: .fare.units, paymentState}' driver POST "/v1/$driving:finish"

say "The rider has paid, and has been told what happened."
# Each context tells its own part, when it gets to it.
is_whole() {
    send "${tokens[rider]}" GET "$info"
    [ "$(answer '.timeline | length')" = 7 ]
}
until_it_is "told as a whole" is_whole
show 200 '{allocStatus, drivingStatus, paymentStatus, fee: .fee.units}' rider GET "$info"
show 200 '[.timeline[].event]' rider GET "$info"
thanks='.messages[] | select(.template == "TEMPLATE_PAYMENT_APPROVED") | .text'
is_told() {
    send "${tokens[rider]}" GET "/v1/customers/$rider/messages"
    [ -n "$(answer "$thanks")" ]
}
until_it_is "told of the payment" is_told
show 200 "$thanks" rider GET "/v1/customers/$rider/messages"
