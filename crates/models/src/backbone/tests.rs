use super::lines::{Expecting, Gaps, Marking, Reading, Record, Wave};
use super::*;
use crate::check::assert::{breaks, breaks_by, holds};
use crate::event::events;

/// Two relays and two events of one aggregate.
fn into_the_stream(lines: Lines) -> Backbone {
    Backbone { events: events("A1 A2"), relays: 2, relay_faults: 1, lines, ..Backbone::default() }
}

/// Two consumers and two events of one aggregate.
fn to_the_effect(lines: Lines) -> Backbone {
    Backbone {
        events: events("A1 A2"),
        replicas: 2,
        replica_faults: 1,
        lines,
        ..Backbone::default()
    }
}

/// A relay and two consumers.
fn all_the_way(lines: Lines) -> Backbone {
    Backbone { relays: 1, relay_faults: 1, ..to_the_effect(lines) }
}

/// A broker that loses the end of its stream.
fn with_a_power_failure(lines: Lines) -> Backbone {
    Backbone { power_failures: 1, ..into_the_stream(lines) }
}

#[test]
fn everything_holds_on_the_way_into_the_stream() {
    let lines = Lines::default();
    let two_faults = Backbone { relay_faults: 2, ..into_the_stream(lines) };
    holds("two relays, two faults", two_faults, 4_000);

    // Two aggregates, and no help from the broker's window.
    let lines = Lines { window: Window::Closed, ..lines };
    let two_aggregates = Backbone { events: events("A1 B1 A2"), ..into_the_stream(lines) };
    holds("two relays, two aggregates", two_aggregates, 20_000);
}

#[test]
fn everything_holds_on_the_way_to_the_effect() {
    let lines = Lines::default();
    let two_faults = Backbone { replica_faults: 2, ..to_the_effect(lines) };
    holds("two consumers, two faults", two_faults, 400);

    let two_aggregates = Backbone { events: events("A1 B1 A2"), ..to_the_effect(lines) };
    holds("two consumers, two aggregates", two_aggregates, 10_000);
}

#[test]
fn everything_holds_all_the_way() {
    let lines = Lines::default();
    holds("a relay, two consumers, faults", all_the_way(lines), 10_000);

    let two_relays =
        Backbone { relays: 2, relay_faults: 0, replica_faults: 0, ..all_the_way(lines) };
    holds("two relays, two consumers", two_relays, 10_000);
}

#[test]
fn everything_holds_when_the_broker_has_lost_the_end_of_its_stream() {
    let lines = Lines::default();
    holds("two relays, a power failure", with_a_power_failure(lines), 10_000);

    let consumed = Backbone {
        relays: 1,
        relay_faults: 0,
        replicas: 1,
        replica_faults: 0,
        ..with_a_power_failure(lines)
    };
    holds("a relay, a consumer, a power failure", consumed, 500);
}

#[test]
fn without_the_hold_rule_a_fail_over_turns_effects_round() {
    let lines = Lines { gaps: Gaps::Ignore, ..Lines::default() };
    breaks("no hold rule", to_the_effect(lines), &[EFFECT_IN_ORDER]);
    // Not even a perfect lease would help: the dead one's event comes again after the newer one.
    let lines = Lines { lease: Lease::Perfect, ..lines };
    breaks_by(
        to_the_effect(lines),
        EFFECT_IN_ORDER,
        &[
            "A1 is committed",
            "consumer 0 receives A1",
            "consumer 0 dies",
            "A2 is committed",
            "consumer 1 receives A2",
            "consumer 1 looks up what is known",
            "consumer 1 applies it",
        ],
    );
}

#[test]
fn without_the_cause_two_consumers_apply_one_event_twice() {
    let lines = Lines { record: Record::WithoutCause, ..Lines::default() };
    breaks("no cause", to_the_effect(lines), &[EFFECT_ONCE]);
    breaks_by(
        to_the_effect(lines),
        EFFECT_ONCE,
        &[
            "A1 is committed",
            "consumer 0 receives A1",
            "consumer 0 looks up what is known",
            "consumer 1 receives A1 again",
            "consumer 1 looks up what is known",
            "consumer 0 applies it",
            "consumer 1 applies it",
        ],
    );
    // The version known would do, if two consumers never had one event in hand.
    let lines = Lines { lease: Lease::Perfect, ..lines };
    holds("no cause, but a perfect lease", to_the_effect(lines), 40);
}

#[test]
fn a_record_outside_of_the_effects_transaction_comes_too_late() {
    let lines = Lines { record: Record::AfterTheEffect, lease: Lease::Perfect, ..Lines::default() };
    breaks("late record", to_the_effect(lines), &[EFFECT_ONCE]);
    breaks_by(
        to_the_effect(lines),
        EFFECT_ONCE,
        &[
            "A1 is committed",
            "consumer 0 receives A1",
            "consumer 0 looks up what is known",
            "consumer 0 applies it",
            "consumer 0 dies",
            "consumer 1 receives A1 again",
            "consumer 1 looks up what is known",
            "consumer 1 applies it",
        ],
    );
}

#[test]
fn without_an_acknowledgement_nothing_is_known_to_be_sent() {
    let lines = Lines { marking: Marking::Published, ..Lines::default() };
    breaks("marks what was published", into_the_stream(lines), &[NOTHING_LOST]);
    breaks_by(
        into_the_stream(lines),
        NOTHING_LOST,
        &[
            "A1 is committed",
            "relay 0 reads what is unsent",
            "relay 0 publishes",
            "relay 0 gives up waiting",
        ],
    );
}

#[test]
fn that_it_is_a_prefix_is_for_simplicity() {
    let lines =
        Lines { marking: Marking::Acknowledged, window: Window::Closed, ..Lines::default() };
    let two_aggregates = Backbone { events: events("A1 B1 A2"), ..into_the_stream(lines) };
    holds("marks whatever was acknowledged", two_aggregates, 20_000);
}

#[test]
fn without_an_expectation_a_late_copy_comes_into_the_stream() {
    let lines = Lines { expecting: Expecting::Nothing, ..Lines::default() };
    breaks("expects nothing", into_the_stream(lines), &[STREAM_ONCE]);
    // Not even a perfect lease would help: a copy may be older than its relay's successor.
    let perfect = Lines { lease: Lease::Perfect, ..lines };
    breaks_by(
        into_the_stream(perfect),
        STREAM_ONCE,
        &[
            "A1 is committed",
            "relay 0 reads what is unsent",
            "relay 0 publishes",
            "relay 0 brings A1 to the broker",
            "relay 0 dies",
            "relay 1 reads what is unsent",
            "relay 1 publishes",
            "the broker forgets the ids",
            "relay 1 brings A1 to the broker",
        ],
    );
    // The effect happens once all the same: the version is known.
    let consumed = Backbone { relays: 1, replicas: 1, ..into_the_stream(lines) };
    breaks("expects nothing, with a consumer", consumed, &[STREAM_ONCE]);
}

#[test]
fn it_has_to_be_the_predecessor_that_is_expected() {
    let lines = Lines { expecting: Expecting::WhateverIsLast, ..Lines::default() };
    breaks("expects whatever is last", into_the_stream(lines), &[STREAM_ONCE]);
}

#[test]
fn with_the_expectation_the_brokers_window_is_for_speed() {
    let lines = Lines { window: Window::Closed, ..Lines::default() };
    holds("no window", into_the_stream(lines), 500);
    // And the other way round, if only it were endless.
    let lines =
        Lines { expecting: Expecting::Nothing, window: Window::Endless, ..Lines::default() };
    holds("an endless window", into_the_stream(lines), 500);
}

#[test]
fn two_events_of_one_aggregate_in_flight_overtake_each_other() {
    let lines = Lines {
        wave: Wave::Everything,
        expecting: Expecting::Nothing,
        window: Window::Endless,
        ..Lines::default()
    };
    breaks("everything in flight", into_the_stream(lines), &[STREAM_IN_ORDER]);
    breaks_by(
        into_the_stream(lines),
        STREAM_IN_ORDER,
        &[
            "A1 is committed",
            "A2 is committed",
            "relay 0 reads what is unsent",
            "relay 0 publishes",
            "relay 0 brings A2 to the broker",
        ],
    );
    // The expectation would refuse the second until the first is there.
    let lines = Lines { wave: Wave::Everything, ..Lines::default() };
    holds("everything in flight, in its place", into_the_stream(lines), 2_000);
}

#[test]
fn a_cursor_passes_over_what_is_committed_late() {
    let lines = Lines { reading: Reading::BehindACursor, ..Lines::default() };
    let model = Backbone { events: events("A1 B1"), relays: 1, ..into_the_stream(lines) };
    breaks("a cursor", model.clone(), &[NOTHING_LOST]);
    breaks_by(
        model,
        NOTHING_LOST,
        &["B1 is committed", "relay 0 reads what is unsent", "A1 is committed"],
    );
}

#[test]
fn a_memory_older_than_the_connection_loses_what_the_broker_has_lost() {
    let lines = Lines { memory: Memory::OfTheProcess, ..Lines::default() };
    let one_relay = Backbone { relays: 1, relay_faults: 0, ..with_a_power_failure(lines) };
    breaks("an old memory", one_relay.clone(), &[NOTHING_LOST]);
    // Sent again, A1 is marked as sent at once: the relay remembers that it is there.
    breaks_by(
        one_relay,
        NOTHING_LOST,
        &[
            "A1 is committed",
            "relay 0 reads what is unsent",
            "relay 0 publishes",
            "relay 0 brings A1 to the broker",
            "the power fails: 0 events are left",
        ],
    );
}

#[test]
fn a_memory_older_than_the_connection_takes_another_event_for_the_predecessor() {
    let lines = Lines { memory: Memory::OfTheProcess, window: Window::Closed, ..Lines::default() };
    let model =
        Backbone { events: events("A1 A2 B1 A3"), relay_faults: 0, ..with_a_power_failure(lines) };
    // A1 gets the place that A2 had.
    breaks_by(
        model,
        STREAM_IN_ORDER,
        &[
            "A1 is committed",
            "B1 is committed",
            "relay 0 reads what is unsent",
            "A2 is committed",
            "A3 is committed",
            "relay 1 reads what is unsent",
            "relay 1 publishes",
            "relay 1 brings A1 to the broker",
            "relay 1 publishes",
            "relay 1 brings A2 to the broker",
            "relay 1 brings B1 to the broker",
            "the power fails: 0 events are left",
            "relay 0 publishes",
            "relay 0 brings B1 to the broker",
            "relay 0 brings A1 to the broker",
            "relay 1 publishes",
            "relay 1 brings A3 to the broker",
        ],
    );
}
