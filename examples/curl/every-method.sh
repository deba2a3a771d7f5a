#!/usr/bin/env bash
# Asks for every REST method once, in the course of a ride, and prints method, path and status:
#
#     examples/curl/every-method.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
#
# Ends with 1 when a status is not the one that it should be.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wrong=0

# try STATUS WHO METHOD PATH [CURL-OPTION..]
try() {
    local wanted=$1 who=$2
    shift 2
    send "${!who}" "$@"
    local line="$status $1 $2"
    if [ "$status" != "$wanted" ]; then
        wrong=$((wrong + 1))
        line+="    instead of $wanted: $(head -c 500 "$files/body")"
    fi
    printf '%s\n' "$line"
}

# Asks for a car, and leaves the names of the $allocation and, when drivers see it, of the $driving.
ask() {
    try 200 rider POST /v1/allocations "${json[@]}" -d '{"destination": {"address": "Misa Station"}}'
    allocation=$(answer .name)
    until_it_is "open to drivers" is_open
}
is_open() {
    send "$driver" GET '/v1/drivings?states=STATE_REQUESTED&pageSize=1000'
    driving=$(answer "[.drivings[] | select(.allocation == \"$allocation\").name][0] // \"\"")
    [ -n "$driving" ]
}
is_paid() {
    send "$rider" GET '/v1/payments?states=STATE_APPROVED'
    payment=$(answer '.payments[0].name // ""')
    [ -n "$payment" ]
}
has_message() {
    send "$rider" GET "/v1/customers/$customer/messages"
    message=$(answer '.messages[0].name // ""')
    [ -n "$message" ]
}

json=(-H 'Content-Type: application/json')
# A stream has no end of its own.
briefly=(-H 'Grpc-Timeout: 1S')
customer=rider-$$-$RANDOM
rider=$(token customer "$customer")
driver=$(token driver "driver-$customer")
other=$(token driver "other-$customer")
operator=$(token operator operator-1)

ask
try 200 rider GET "/v1/$allocation"
try 200 rider GET '/v1/allocations?pageSize=1'
try 200 rider GET "/v1/$allocation:watch" "${briefly[@]}"
try 200 driver GET "/v1/$driving"
try 200 driver GET '/v1/drivings?pageSize=1'
try 200 driver GET /v1/drivings:watch "${briefly[@]}"
try 200 other POST "/v1/$driving:decline" "${json[@]}" -d '{"reason": "It is too far away."}'
try 200 driver POST "/v1/$driving:accept"
try 200 driver POST "/v1/$driving:start"
try 200 driver POST "/v1/$driving:finish"

until_it_is "paid" is_paid
try 200 rider GET "/v1/$payment"
try 200 rider GET '/v1/payments?pageSize=1'
# There is nothing left to pay.
try 400 rider POST "/v1/$payment:settle"
try 200 operator POST "/v1/$payment:refund" "${json[@]}" \
    -d '{"amount": {"currencyCode": "KRW", "units": "400"}, "reason": "The driver took a detour."}'

info=drivingInfos/${allocation#allocations/}
try 200 rider GET "/v1/$info"
try 200 rider GET '/v1/drivingInfos?pageSize=1'
try 200 rider GET /v1/drivingInfos:watch "${briefly[@]}"
try 200 operator GET /v1/drivingInfos:summary

until_it_is "told anything" has_message
try 200 rider GET "/v1/customers/$customer/messages?pageSize=1"
try 200 rider GET "/v1/customers/$customer/messages:watch" "${briefly[@]}"
try 200 rider GET "/v1/$message"

ask
try 200 rider POST "/v1/$allocation:cancel" "${json[@]}" -d '{"reason": "My plans have changed."}'

for page in /openapi.json /docs/ /livez /readyz /metrics; do
    try 200 rider GET "$page"
done

[ "$wrong" = 0 ] || die "$wrong answers are not as they should be"
