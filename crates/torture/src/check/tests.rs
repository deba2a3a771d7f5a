//! A run in which all is well, and for each invariant what breaks it.

mod money;
mod scene;

use std::collections::BTreeSet;
use std::time::Duration;

use kernel::Uuid;
use tonic::Code;

use self::scene::{CALLED_OFF, CANCELLED, DRIVER, DRIVING, RIDE, SETTLED, Scene, request};
use super::{Verdict, check};
use crate::evidence::View;
use crate::history::{Outcome, Seen, What};

fn judged(scene: &Scene) -> Vec<Verdict> {
    check(&scene.operations, &scene.evidence, &scene.expected)
}

/// The invariants that a run breaks once this has happened to it.
fn broken(harm: impl FnOnce(&mut Scene)) -> BTreeSet<&'static str> {
    let mut scene = Scene::good();
    harm(&mut scene);
    let verdicts = judged(&scene);
    let broken = verdicts.iter().filter(|verdict| !verdict.violations.is_empty());
    broken.map(|verdict| verdict.invariant).collect()
}

/// Each of these breaks the invariant, whatever else it breaks.
#[track_caller]
fn all_break(invariant: &str, harms: &[fn(&mut Scene)]) {
    for (number, harm) in harms.iter().enumerate() {
        let broken = broken(harm);
        assert!(broken.contains(invariant), "number {number} breaks only {broken:?}");
    }
}

#[test]
fn a_good_run_breaks_nothing() {
    let verdicts = judged(&Scene::good());
    for verdict in &verdicts {
        assert_eq!(verdict.violations, [], "{}", verdict.invariant);
        assert!(verdict.checked > 0, "{} has checked nothing", verdict.invariant);
    }
    let invariants: Vec<_> = verdicts.iter().map(|verdict| verdict.invariant).collect();
    let all = [
        "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14",
        "I15", "I16", "P1",
    ];
    assert_eq!(invariants, all);
}

#[test]
fn two_drivers_of_one_ride_or_two_rides_of_one_driver() {
    all_break(
        "I3",
        &[
            |s| s.driving(DRIVING).driver = Some("drivers/other".to_owned()),
            |s| s.driving(DRIVING).active_driver = Some(DRIVER.to_owned()),
            |s| {
                // Another driver was told OK to the same accept.
                let mut accept = s.operation(What::AcceptDriving).clone();
                accept.who = "drivers/other".to_owned();
                s.operations.push(accept);
            },
            |s| s.approve_again(DRIVING, "drivers/other"),
            // The driver's first ride is still under way.
            |s| s.approve_first(CANCELLED, DRIVER),
        ],
    );
}

#[test]
fn a_cancel_and_a_start_that_both_win() {
    all_break(
        "I4",
        &[
            |s| s.allocation(RIDE).state = "CANCELLED".to_owned(),
            |s| s.allocation(RIDE).state = "CANCELLING".to_owned(),
            |s| s.allocation(CANCELLED).state = "APPROVED".to_owned(),
            |s| s.start_cancelled(),
            |s| s.evidence.drivings.clear(),
            // Somebody was told something else.
            |s| s.told(What::CancelAllocation).resource = format!("allocations/{RIDE}"),
            |s| s.told(What::FinishDriving).fee = Some(1),
            |s| s.operation(What::SettlePayment).who = "customers/other".to_owned(),
            |s| {
                s.operation(What::SettlePayment).outcome =
                    scene::refused("PAYMENT_NOT_OUTSTANDING");
                s.payment_of(SETTLED.payment).state = "DEFERRED".to_owned();
            },
            |s| s.operation(What::StartDriving).who = "drivers/other".to_owned(),
            |s| s.late_accept().outcome = scene::refused("ALREADY_ACCEPTED"),
            |s| {
                s.operation(What::CancelAllocation).outcome =
                    scene::refused("DRIVING_ALREADY_STARTED");
            },
        ],
    );
}

#[test]
fn a_lost_a_doubled_and_a_ghost_event() {
    all_break(
        "I5",
        &[
            |s| drop(s.evidence.stream.remove(3)),
            |s| {
                let copy = s.evidence.stream[3].clone();
                s.evidence.stream.push(copy);
            },
            |s| drop(s.outbox("driving").remove(1)),
            |s| s.evidence.stream[3].payload.push(0),
            |s| s.evidence.stream[3].version = 9,
            |s| s.evidence.stream[3].message_id = Some("other".to_owned()),
            |s| s.driving(DRIVING).version = 2,
            |s| s.told(What::StartDriving).resource = format!("drivings/{CANCELLED}"),
            |s| s.operation(What::StartDriving).request_id = Some(request(99)),
            |s| s.operation(What::SettlePayment).request_id = Some(request(99)),
            |s| s.evidence.records.get_mut("driving").expect("kept").causes.clear(),
            |s| s.expected.injected.clear(),
            |s| {
                let why = "no headers".to_owned();
                s.evidence.strangers.push(crate::evidence::Stranger { sequence: 99, why });
            },
        ],
    );
}

#[test]
fn a_gap_and_a_turn_of_order() {
    all_break(
        "I6",
        &[
            |s| s.evidence.stream.swap(2, 3),
            |s| drop(s.evidence.stream.remove(3)),
            |s| {
                s.known("allocation").insert(DRIVING, 3);
            },
            |s| {
                s.known("payment").remove(&DRIVING);
            },
            |s| {
                s.known("driving").insert(Uuid::nil(), 1);
            },
        ],
    );
}

#[test]
fn a_view_that_is_something_else() {
    all_break(
        "I7",
        &[
            |s| s.evidence.view.clear(),
            |s| s.view().fee = Some(1),
            |s| s.view().alloc_status = 5,
            |s| s.view().payment_status = 1,
            |s| s.payment_of(SETTLED.payment).refunded_amount = 1,
            |s| s.driving(SETTLED.driving).payment_state = Some("APPROVED".to_owned()),
            |s| s.view().driver = "drivers/other".to_owned(),
            |s| s.view().sequence = 1,
            |s| s.view().driving_version = 2,
            |s| s.view().timeline = "[]".to_owned(),
            |s| s.allocation(RIDE).driver = None,
            |s| s.driving(DRIVING).payment_state = Some("DEFERRED".to_owned()),
            |s| s.allocation(CANCELLED).cancel_reason = "other".to_owned(),
            |s| {
                let ghost = View { id: Uuid::nil(), ..s.view().clone() };
                s.evidence.view.insert(Uuid::nil(), ghost);
            },
        ],
    );
}

#[test]
fn a_message_that_is_missing_doubled_or_wrong() {
    all_break(
        "I8",
        &[
            |s| drop(s.evidence.told.pop()),
            |s| {
                let again = s.evidence.told[0].clone();
                s.evidence.told.push(again);
            },
            |s| s.evidence.told[0].cause = Some(Uuid::nil()),
            |s| s.evidence.told[0].message = None,
            |s| s.message(0).language = "ko".to_owned(),
            |s| s.message(0).customer = "customers/other".to_owned(),
            |s| s.message(0).template = 7,
            |s| s.message(0).state = 1,
            |s| s.evidence.told_ever += 1,
        ],
    );
}

#[test]
fn a_broken_chain() {
    all_break(
        "I9",
        &[
            |s| s.evidence.stream[0].causation = request(99),
            |s| s.evidence.stream[1].causation = request(99),
            |s| s.evidence.stream[2].causation = s.evidence.stream[0].id,
            |s| s.evidence.stream[1].correlation = CANCELLED,
            |s| s.evidence.stream[1].aggregate = Uuid::nil(),
            |s| s.evidence.stream[1].happening = None,
            |s| s.operation(What::AcceptDriving).who = "drivers/other".to_owned(),
            |s| s.allocation(RIDE).customer = "customers/other".to_owned(),
            |s| s.payment().attempt_count = 0,
            // Nobody has asked for the refund.
            |s| s.operation(What::RefundPayment).request_id = Some(request(99)),
            // A cause that comes after its effect.
            |s| s.evidence.stream[0].sequence = 50,
        ],
    );
}

#[test]
fn something_that_is_left() {
    all_break(
        "I10",
        &[
            |s| s.outbox("driving")[0].sent_at = None,
            |s| s.evidence.consumers[0].pending = 1,
            |s| s.evidence.consumers[0].unacknowledged = 1,
            |s| drop(s.evidence.consumers.remove(0)),
            |s| {
                s.evidence.checkpoints.insert(0, 1);
            },
            |s| s.payment().state = "UNKNOWN".to_owned(),
            |s| s.payment().state = "IN_FLIGHT".to_owned(),
            |s| s.payment().state = "DEFERRED".to_owned(),
            |s| s.payment().refund = Some(Uuid::nil()),
            |s| s.driving(DRIVING).payment_state = Some("PENDING".to_owned()),
            // The poison is not parked where it must be, or is not expected.
            |s| s.evidence.records.get_mut("payment").expect("kept").parked.clear(),
            |s| s.evidence.records.get_mut("message").expect("kept").parked.clear(),
            |s| s.expected.parked.clear(),
        ],
    );
}

#[test]
fn a_refusal_with_an_effect() {
    all_break(
        "I11",
        &[
            |s| s.operation(What::AcceptDriving).outcome = scene::refused("DRIVER_BUSY"),
            |s| s.operation(What::FinishDriving).outcome = scene::refused("DRIVING_CLOSED"),
            |s| s.operation(What::SettlePayment).outcome = scene::refused("PAYMENT_IN_FLIGHT"),
            |s| {
                s.operation(What::CancelAllocation).outcome =
                    scene::refused("DRIVING_ALREADY_STARTED");
            },
        ],
    );
}

#[test]
fn a_cancel_that_was_too_late_leaves_its_wish() {
    let mut scene = Scene::good();
    scene.cancel_too_late();
    for verdict in judged(&scene) {
        assert_eq!(verdict.violations, [], "{}", verdict.invariant);
    }
}

#[test]
fn a_read_of_the_past() {
    all_break(
        "I12",
        &[
            |s| s.read(RIDE, 1, "REQUESTED"),
            // The same version with another content.
            |s| s.read(RIDE, 4, "APPROVED"),
            |s| {
                s.read(RIDE, 4, "DRIVING_FINISHED");
                s.operations.last_mut().expect("it").outcome =
                    scene::refused("ALLOCATION_NOT_FOUND");
            },
        ],
    );
    let overlapping = broken(|s| {
        s.read(RIDE, 1, "REQUESTED");
        let last = s.operations.last_mut().expect("the read");
        last.from = Duration::ZERO;
    });
    assert!(!overlapping.contains("I12"), "it was asked before: {overlapping:?}");
    let repeated = broken(|s| s.repeat(What::RequestAllocation));
    assert!(!repeated.contains("I12"), "a repetition answers as before: {repeated:?}");
}

#[test]
fn another_answer_to_the_same_request() {
    all_break(
        "P1",
        &[
            |s| {
                s.repeat(What::AcceptDriving);
                let Some(Outcome::Ok(seen)) = s.operations.last_mut().map(|it| &mut it.outcome)
                else {
                    return;
                };
                seen.digest = "another".to_owned();
            },
            |s| {
                s.repeat(What::AcceptDriving);
                s.operations.last_mut().expect("it").outcome = scene::refused("ALREADY_ACCEPTED");
            },
            // The answer was lost, and whoever asked again was refused because of their own effect.
            |s| s.operation(What::AcceptDriving).outcome = scene::lost("ALREADY_ACCEPTED"),
            |s| s.operation(What::AcceptDriving).outcome = scene::lost("DRIVER_BUSY"),
            |s| {
                let asked = s.operations.iter_mut().find(|it| it.what == What::RequestAllocation);
                asked.expect("it").outcome = scene::lost("OPEN_ALLOCATION_EXISTS");
                s.evidence.allocations.remove(&CANCELLED);
            },
        ],
    );
    let by_then = broken(|s| {
        s.repeat(What::SettlePayment);
        let Some(Outcome::Ok(seen)) = s.operations.last_mut().map(|it| &mut it.outcome) else {
            return;
        };
        (seen.state, seen.version) = ("APPROVED".to_owned(), 9);
    });
    assert!(!by_then.contains("P1"), "payment answers as it is by then: {by_then:?}");
    let another = broken(|s| {
        s.driving(CALLED_OFF).driver = Some(DRIVER.to_owned());
        s.operation(What::AcceptDriving).outcome = scene::lost("DRIVER_BUSY");
    });
    assert!(!another.contains("P1"), "an earlier attempt may have been slow: {another:?}");
    for later in [
        Outcome::Ok(Seen {
            state: "CANCELLED".to_owned(),
            ..scene::seen(CANCELLED, "allocations")
        }),
        scene::refused("DRIVING_ALREADY_STARTED"),
        Outcome::Unknown { code: Code::Unavailable, message: String::new() },
    ] {
        let decided = broken(|s| {
            s.told(What::CancelAllocation).state = "CANCELLING".to_owned();
            s.repeat(What::CancelAllocation);
            s.operations.last_mut().expect("it").outcome = later.clone();
        });
        assert!(!decided.contains("P1"), "CANCELLING is no answer yet: {later:?} {decided:?}");
    }
}

#[test]
fn a_story_has_everything_in_the_order_of_time() {
    let scene = Scene::good();
    let story = crate::story::of(RIDE, &scene.operations, &scene.evidence);
    let lines: Vec<&str> = story.lines().collect();
    let at = |what: &str| {
        let place = lines.iter().position(|line| line.contains(what));
        place.unwrap_or_else(|| panic!("no {what} in\n{story}"))
    };
    assert!(at("RequestAllocation") < at("AllocationRequested v1"), "{story}");
    assert!(at("DrivingApproved v2") < at("StartDriving"), "{story}");
    assert!(at("copy stream") < at("now  allocation DRIVING_FINISHED"), "{story}");
    assert!(at("charge ch_1 approved") > at("APPROVED v1, 1000 won"), "{story}");
    assert!(!story.contains(&CANCELLED.to_string()), "{story}");
    assert!(at("was told TEMPLATE_PAYMENT_APPROVED") > 0);
}
