#!/usr/bin/env bash
# One ride by REST, as its rider and its driver see it:
#
#     examples/curl/ride.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
#
# Prints every request, and of its answer what matters. lib.sh has deadlines and trying again.
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

# pages FILTER WHO PATH [CURL-OPTION..] : shows all pages of a list, and leaves them in $files/pages.
# Everything but the token has to stay as it was.
pages() {
    local page_token=
    : > "$files/pages"
    while show 200 "$1" "$2" GET "${@:3}" -G --data-urlencode "pageToken=$page_token"; do
        cat "$files/body" >> "$files/pages"
        page_token=$(answer .nextPageToken)
        [ -n "$page_token" ] || break
    done
}

# watch CONDITION FILTER WHO PATH : reads a stream until an element meets the condition, and shows it.
# It begins behind the last element shown of this path: changes that came since may be joined into one.
# A stream that breaks is opened again; one that died silently, too, after five minutes.
watch() {
    local condition=$1 filter=$2 who=$3 path=$4 attempt stream
    printf '%s: GET %s\n' "$who" "$path"
    for attempt in $(seq "$attempts"); do
        exec {stream}< <(exec curl -sSN --max-time 300 -G "$base$path" \
            -H "Authorization: Bearer ${tokens[$who]}" \
            --data-urlencode "resumeToken=${resume_tokens[$path]:-}")
        # One element is a line, {"result": ..}. Anything else is an error.
        jq -n "first(inputs | if .result then .result | select($condition) else .error // . end)" \
            <&$stream > "$files/body" || true
        # It is cut, as a tunnel does.
        kill $! 2> /dev/null || true
        exec {stream}<&-
        if [ "$(answer 'has("resumeToken")')" = true ]; then
            resume_tokens[$path]=$(answer .resumeToken)
            printf '  %s\n' "$(jq -c "$filter" "$files/body")"
            return
        fi
        case $(answer .code) in
            # DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE; nothing when the connection broke.
            4 | 8 | 14 | '') pause "$attempt" "the stream has ended" ;;
            *) break ;;
        esac
    done
    die "$path: not $condition after $attempt attempts: $(cat "$files/body")"
}

reason='[.details[] | .reason // empty][0]'
declare -A tokens resume_tokens
# Other people each time: a rider has one open ride at most, and data may be kept.
people=$$-$RANDOM
rider=rider-$people
tokens[rider]=$(token customer "$rider")
tokens[driver]=$(token driver "driver-$people")
json=(-H 'Content-Type: application/json')

say "A request that is not valid. The reason is for programs, the description for people."
show 400 "{reason: $reason}" rider POST /v1/allocations "${json[@]}" \
    -d '{"destination": {"address": ""}}'
answer '.details[].fieldViolations[]? | "  \(.field): \(.description)"'

say "The rider asks for a car. The key makes it safe to ask again: it is the same ride."
wish=("${json[@]}" -H 'Accept-Language: en' -H "$(new_key)" \
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
show 400 "{reason: $reason, message}" rider POST /v1/allocations "${json[@]}" \
    -d '{"destination": {"address": "Hanam"}}'

say "The rider watches the ride. A driver finds it among the open ones, takes it, and drives."
watch '[.drivingInfo.timeline[].event] | contains(["DrivingOpened"])' \
    '[.drivingInfo.timeline[].event]' rider /v1/drivingInfos:watch
send "${tokens[driver]}" GET '/v1/drivings?states=STATE_REQUESTED&pageSize=1000'
driving=$(answer ".drivings[] | select(.allocation == \"$allocation\").name")
show 200 '{allocation, destination: .destination.address, state}' driver GET "/v1/$driving"
show 200 '{state}' driver POST "/v1/$driving:accept" -H "$(new_key)"
show 200 '{state}' driver POST "/v1/$driving:start" -H "$(new_key)"
watch '.allocation.state == "STATE_DRIVING_STARTED"' .allocation.state rider "/v1/$allocation:watch"
show 400 "{reason: $reason}" rider POST "/v1/$allocation:cancel" -H "$(new_key)"
show 200 '{state, fare: .fare.units, paymentState}' driver POST "/v1/$driving:finish" -H "$(new_key)"

say "The watch was cut meanwhile. It carries on where it was. Each context tells its own part."
watch '.drivingInfo.timeline | length == 7' \
    '[.drivingInfo.timeline[].event]' rider /v1/drivingInfos:watch
show 200 '{allocStatus, drivingStatus, paymentStatus, fee: .fee.units}' rider GET "$info"

say "What the rider was told, by pages of two."
is_told() {
    send "${tokens[rider]}" GET "/v1/customers/$rider/messages"
    [ "$(answer '.messages | length')" = 5 ]
}
until_it_is "told of everything" is_told
pages '.messages | length' rider "/v1/customers/$rider/messages" -d pageSize=2
# Newest first, but for two services that tell something at the same time.
jq -rs 'map(.messages[]) | sort_by(.template)[] | "  \(.text)"' "$files/pages"
