//! What every command says in every state, and that no sequence of them breaks a rule.

use super::*;
use crate::tests::{driver, ride, tariff};
use proptest::prelude::*;
use std::time::Duration;

const STATES: [State; 5] =
    [State::Requested, State::Approved, State::Started, State::Finished, State::Cancelled];

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
}

fn opened() -> Driving {
    Driving::open(DrivingId(Uuid::nil()), ride(1)).0
}

/// Brought there by D1.
fn in_state(state: State) -> Driving {
    let mut driving = opened();
    let d1 = driver("D1");
    if state != State::Requested {
        driving.accept(d1.clone()).expect("open");
    }
    if matches!(state, State::Started | State::Finished) {
        driving.start(&d1, at(0)).expect("accepted");
    }
    if state == State::Finished {
        driving.finish(&d1, at(125), &tariff()).expect("started");
    }
    if state == State::Cancelled {
        driving.cancel(CancelCause::Customer, "too late".to_owned());
    }
    driving
}

/// What each command by D1 or D2 says in each state, in the order of [`STATES`].
#[test]
fn every_command_in_every_state() {
    type Command = fn(&mut Driving, DriverId) -> Result<Vec<Event>, Rejection>;
    let accept: Command = |driving, driver| driving.accept(driver);
    let decline: Command = |driving, _| driving.decline("").map(|()| vec![]);
    let start: Command = |driving, driver| driving.start(&driver, at(0));
    let finish: Command = |driving, driver| driving.finish(&driver, at(60), &tariff());
    const TAKEN: &str = "ALREADY_ACCEPTED";
    const CLOSED: &str = "DRIVING_CLOSED";
    const UNKNOWN: &str = "DRIVING_NOT_FOUND";
    const TWICE: &str = "DRIVING_ALREADY_STARTED";
    const EARLY: &str = "DRIVING_NOT_STARTED";
    for (name, by, command, outcomes) in [
        ("accept", "D1", accept, ["OK", TAKEN, TAKEN, TAKEN, CLOSED]),
        ("accept", "D2", accept, ["OK", TAKEN, TAKEN, TAKEN, CLOSED]),
        ("decline", "D1", decline, ["OK", TAKEN, TAKEN, TAKEN, CLOSED]),
        ("decline", "D2", decline, ["OK", TAKEN, TAKEN, TAKEN, CLOSED]),
        ("start", "D1", start, [UNKNOWN, "OK", TWICE, CLOSED, CLOSED]),
        ("start", "D2", start, [UNKNOWN; 5]),
        ("finish", "D1", finish, [UNKNOWN, EARLY, "OK", CLOSED, CLOSED]),
        ("finish", "D2", finish, [UNKNOWN; 5]),
    ] {
        for (state, outcome) in STATES.into_iter().zip(outcomes) {
            let before = in_state(state);
            let mut driving = before.clone();
            let said = command(&mut driving, driver(by));
            let said = said.map_or_else(|no| no.reason, |_| "OK");
            assert_eq!(said, outcome, "{name} by {by}, {state:?}");
            assert!(said == "OK" || driving == before, "{name} by {by}, {state:?}");
        }
    }
}

#[test]
fn a_cancel_is_in_time_until_the_start() {
    use {CancelCause::*, Event::*, State::*};
    for (state, cause, events, after) in [
        (Requested, Customer, vec![DrivingCancelled], Cancelled),
        (Approved, Customer, vec![DrivingCancelled], Cancelled),
        (Started, Customer, vec![DrivingCancelRejected], Started),
        (Finished, Customer, vec![DrivingCancelRejected], Finished),
        (Cancelled, Customer, vec![], Cancelled),
        (Requested, Unanswered, vec![DrivingCancelled], Cancelled),
        (Approved, Unanswered, vec![DrivingCancelRejected], Approved),
        (Started, Unanswered, vec![DrivingCancelRejected], Started),
        (Finished, Unanswered, vec![DrivingCancelRejected], Finished),
        (Cancelled, Unanswered, vec![], Cancelled),
    ] {
        let mut driving = in_state(state);
        assert_eq!(driving.cancel(cause, String::new()), events, "{state:?} {cause:?}");
        assert_eq!(driving.state, after, "{state:?} {cause:?}");
    }
}

#[test]
fn a_cancelled_driving_frees_its_driver_and_keeps_the_name() {
    let mut driving = in_state(State::Approved);
    assert_eq!(driving.active_driver(), Some(&driver("D1")));
    driving.cancel(CancelCause::Customer, "왜".to_owned());
    assert_eq!((driving.active_driver(), &driving.driver), (None, &Some(driver("D1"))));
}

#[test]
fn the_finish_fixes_the_fare_and_makes_a_fee_due() {
    let driving = in_state(State::Finished);
    let fare = driving.fare.clone().expect("fixed");
    assert_eq!((fare.amount, fare.minutes), (Money::won(2_000), 2));
    assert_eq!(driving.finish_time, Some(at(125)));
    assert_eq!(driving.fee_due().map(|fee| fee.amount), Some(Money::won(2_000)));
    assert_eq!(in_state(State::Started).fee_due(), None);
}

#[test]
fn an_event_knows_better_than_the_call() {
    let payment = PaymentId(Uuid::from_u128(7));
    let mut driving = in_state(State::Finished);
    let settled = [Event::DrivingPaymentSettled];
    assert_eq!(driving.payment_settled_by_call(Charge::Deferred(None)), settled);
    let mut told = |state| driving.payment_settled(payment, state).expect("finished");
    assert_eq!(told(PaymentState::Deferred), settled, "now the payment has a name");
    assert_eq!(told(PaymentState::Deferred), [], "no news");
    assert_eq!(told(PaymentState::Approved), settled);
    assert_eq!(driving.payment_settled_by_call(Charge::Deferred(None)), [], "too late");
    assert_eq!(driving.payment_state, Some(PaymentState::Approved));
    assert_eq!(driving.fee_due(), None);
    let early = in_state(State::Started).payment_settled(payment, PaymentState::Approved);
    assert_eq!(early.map_err(|no| no.reason), Err("DRIVING_NOT_FINISHED"));
}

/// What a finished driving makes of what it hears of its payment: the outcome of its own call, then
/// each event of payment, and how often it says that there is news.
#[test]
fn the_payment_state_follows_what_payment_says() {
    use PaymentState::{Approved, Declined, Deferred, Refunded};
    let payment = PaymentId(Uuid::from_u128(7));
    let (taken, refused) = (Charge::Approved(payment), Charge::Declined(payment));
    let later = Charge::Deferred(Some(payment));
    let table: &[(Option<Charge>, &[PaymentState], PaymentState, usize)] = &[
        (Some(taken), &[Approved], Approved, 1),
        (Some(refused), &[Declined], Declined, 1),
        (Some(later), &[Deferred], Deferred, 1),
        // Payment could not be reached: its events say more, its name to begin with.
        (Some(Charge::Deferred(None)), &[Deferred], Deferred, 2),
        (Some(Charge::Deferred(None)), &[Approved], Approved, 2),
        // The driver's process died before it could call.
        (None, &[Approved], Approved, 1),
        (None, &[Deferred, Approved], Approved, 2),
        // Taken or refused later.
        (Some(later), &[Deferred, Approved], Approved, 2),
        (Some(later), &[Deferred, Declined], Declined, 2),
        // Settled by the customer: at once, at the second attempt, or a bit later.
        (Some(refused), &[Declined, Approved], Approved, 2),
        (Some(refused), &[Declined, Declined, Approved], Approved, 2),
        (Some(refused), &[Declined, Deferred, Approved], Approved, 2),
        (Some(refused), &[Declined, Deferred, Declined], Declined, 1),
        (Some(later), &[Deferred, Declined, Declined, Approved], Approved, 3),
        // Given back, in two parts.
        (Some(taken), &[Approved, Refunded, Refunded], Refunded, 2),
        // The call's answer overtakes the events.
        (Some(taken), &[Deferred, Approved], Approved, 1),
        (Some(refused), &[Deferred, Declined], Declined, 1),
    ];
    for (call, events, state, news) in table {
        let mut driving = in_state(State::Finished);
        let mut said: Vec<Event> =
            call.iter().flat_map(|call| driving.payment_settled_by_call(*call)).collect();
        for event in *events {
            said.extend(driving.payment_settled(payment, *event).expect("finished"));
        }
        let after = (driving.payment_state, driving.payment, said.len());
        assert_eq!(after, (Some(*state), Some(payment), *news), "{call:?} {events:?}");
        assert_eq!(driving.fee_due(), None);
    }
}

#[test]
fn a_late_deferral_does_not_undo_the_verdict_of_a_call() {
    let mut driving = in_state(State::Finished);
    let payment = PaymentId(Uuid::from_u128(7));
    driving.payment_settled_by_call(Charge::Approved(payment));
    let late = driving.payment_settled(payment, PaymentState::Deferred);
    assert_eq!((late, driving.payment_state), (Ok(vec![]), Some(PaymentState::Approved)));
}

#[test]
fn a_reason_has_an_end() {
    let long = "왜".repeat(MAX_REASON + 1);
    assert_eq!(opened().decline(&long).map_err(|no| no.reason), Err("INVALID_REASON"));
    assert!(opened().decline(&"왜".repeat(MAX_REASON)).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Accept(&'static str),
    Start(&'static str),
    Finish(&'static str),
    Cancel(CancelCause),
    Answered(Charge),
    Told(PaymentState),
}

impl Step {
    fn apply(self, driving: &mut Driving, now: Timestamp) -> Vec<Event> {
        let payment = PaymentId(Uuid::from_u128(7));
        match self {
            Step::Accept(by) => driving.accept(driver(by)).unwrap_or_default(),
            Step::Start(by) => driving.start(&driver(by), now).unwrap_or_default(),
            Step::Finish(by) => driving.finish(&driver(by), now, &tariff()).unwrap_or_default(),
            Step::Cancel(cause) => driving.cancel(cause, String::new()),
            Step::Answered(charge) => driving.payment_settled_by_call(charge),
            Step::Told(state) => driving.payment_settled(payment, state).unwrap_or_default(),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let by = proptest::sample::select(vec!["D1", "D2"]);
    let cause = proptest::sample::select(vec![CancelCause::Customer, CancelCause::Unanswered]);
    let charge = proptest::sample::select(vec![
        Charge::Approved(PaymentId(Uuid::from_u128(7))),
        Charge::Declined(PaymentId(Uuid::from_u128(7))),
        Charge::Deferred(None),
    ]);
    let told = proptest::sample::select(vec![
        PaymentState::Approved,
        PaymentState::Declined,
        PaymentState::Deferred,
        PaymentState::Refunded,
    ]);
    let step = prop_oneof![
        by.clone().prop_map(Step::Accept),
        by.clone().prop_map(Step::Start),
        by.prop_map(Step::Finish),
        cause.prop_map(Step::Cancel),
        charge.prop_map(Step::Answered),
        told.prop_map(Step::Told),
    ];
    proptest::collection::vec(step, 0..24)
}

proptest! {
    /// Whatever is said in whatever order: one driver ever, one winner of cancel and start, a
    /// fare that is fixed once and due only after the finish, a driver who is active only
    /// between accept and end, and no change of state without an event.
    #[test]
    fn no_sequence_breaks_a_rule(steps in steps()) {
        let mut driving = opened();
        let mut past = vec![Event::DrivingOpened];
        for (step, now) in steps.into_iter().zip((0..).step_by(50).map(at)) {
            let before = driving.clone();
            let events = step.apply(&mut driving, now);
            prop_assert_eq!(events.is_empty(), driving == before
                && events != [Event::DrivingCancelRejected]);
            past.extend(events);

            let count = |event| past.iter().filter(|past| **past == event).count();
            prop_assert!(before.driver.is_none() || driving.driver == before.driver);
            prop_assert!(before.fare.is_none() || driving.fare == before.fare);
            prop_assert!(count(Event::DrivingCancelled) + count(Event::DrivingStarted) <= 1);
            prop_assert!(count(Event::DrivingApproved) <= 1);
            prop_assert!(count(Event::DrivingFinished) <= count(Event::DrivingStarted));
            let finished = driving.state == State::Finished;
            prop_assert_eq!(driving.fare.is_some(), finished);
            prop_assert_eq!(driving.payment_state.is_some(), finished);
            // Once there is a verdict, nobody is told any more that the fee comes later.
            let settled = |state| !matches!(state, PaymentState::Pending | PaymentState::Deferred);
            let (was, is) = (before.payment_state, driving.payment_state);
            prop_assert!(!was.is_some_and(settled) || is.is_some_and(settled));
            prop_assert!(was.is_none() || is != Some(PaymentState::Pending) || was == is);
            let active = matches!(driving.state, State::Approved | State::Started);
            prop_assert_eq!(driving.active_driver().is_some(), active);
            if matches!(before.state, State::Finished | State::Cancelled) {
                prop_assert_eq!(before.state, driving.state);
            }
        }
    }
}
