use super::*;
use crate::check::assert::{breaks, breaks_by, holds};

/// A customer who asks twice, and two drivers.
fn everybody() -> Cancel {
    Cancel { calls: 2, drivers: 2, ..Cancel::default() }
}

/// A customer who asks once, and one driver.
fn two() -> Cancel {
    Cancel { calls: 1, drivers: 1, ..Cancel::default() }
}

#[test]
fn one_wins_and_everybody_is_told_the_truth() {
    holds("a customer, two drivers and the clock", everybody(), 1_500);
}

#[test]
fn an_allocation_that_decides_alone_cancels_a_ride_that_starts() {
    let model = Cancel { decider: Decider::Allocation, ..two() };
    breaks("allocation decides", model, &[ANSWERS_ARE_TRUE, AGREEMENT]);
    breaks_by(
        model,
        ANSWERS_ARE_TRUE,
        &[
            "call 0 asks to cancel",
            "call 0 is answered",
            "driving hears AllocationRequested",
            "driver 0 accepts",
            "driver 0 starts",
        ],
    );
}

#[test]
fn a_repeated_event_takes_an_allocation_back() {
    let model = Cancel { delivery: Delivery::Repeatedly, ..two() };
    breaks("repeatedly", model, &[ANSWERS_ARE_TRUE, AGREEMENT]);
    breaks_by(
        model,
        AGREEMENT,
        &[
            "the request is too old",
            "driving hears AllocationRequested",
            "driver 0 accepts",
            "driving hears AllocationCancelRequested(Unanswered)",
            "driver 0 starts",
            "allocation hears DrivingOpened",
            "allocation hears DrivingApproved",
            "allocation hears DrivingCancelRejected",
            "allocation hears DrivingStarted",
            "allocation hears DrivingCancelRejected",
        ],
    );
}

#[test]
fn an_event_that_overtakes_its_predecessor_leaves_the_contexts_apart() {
    let model = Cancel { delivery: Delivery::InAnyOrder, ..two() };
    breaks("in any order", model, &[ANSWERS_ARE_TRUE, AGREEMENT, NOTHING_PARKED]);
    breaks_by(
        model,
        AGREEMENT,
        &[
            "call 0 asks to cancel",
            "driving hears AllocationCancelRequested(Customer)",
            "driving hears AllocationRequested",
            "allocation hears DrivingOpened",
        ],
    );
}
