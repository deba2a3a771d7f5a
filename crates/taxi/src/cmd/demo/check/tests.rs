//! One sound ride, and one thing wrong with it at a time.

use proto::dashboard::v1::TimelineEntry;
use proto::driving::v1::FareExplanation;
use proto::google::r#type::Money;

use super::*;

const RATE: i64 = 1_000;

fn at(seconds: i64) -> Option<WireTime> {
    Some(WireTime { seconds, nanos: 0 })
}

fn won(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

fn explained(rate: i64) -> Option<FareExplanation> {
    Some(FareExplanation { rate_per_minute: won(rate), ..FareExplanation::default() })
}

fn timeline(events: &[(&str, i64)]) -> Vec<TimelineEntry> {
    let entry = |(event, time): &(&str, i64)| TimelineEntry {
        event: (*event).to_owned(),
        time: at(*time),
        id: String::new(),
    };
    events.iter().map(entry).collect()
}

fn messages_of(templates: &[Template]) -> Vec<Message> {
    let message = |template: &Template| Message {
        template: i32::from(*template),
        language: "ko".to_owned(),
        ..Message::default()
    };
    templates.iter().map(message).collect()
}

fn finished_ride() -> (Ride, Facts) {
    let driving = Driving {
        name: "drivings/1".to_owned(),
        driver: "drivers/D1".to_owned(),
        state: DrivingState::Finished.into(),
        fare: won(2 * RATE),
        fare_explanation: explained(RATE),
        payment: "payments/1".to_owned(),
        payment_state: PaymentState::Approved.into(),
        start_time: at(100),
        finish_time: at(279),
        ..Driving::default()
    };
    let info = DrivingInfo {
        alloc_status: AllocationState::DrivingFinished.into(),
        driving: driving.name.clone(),
        driver: driving.driver.clone(),
        driving_status: driving.state,
        start_time: driving.start_time,
        finish_time: driving.finish_time,
        fee: driving.fare.clone(),
        payment: driving.payment.clone(),
        payment_status: Payments::Approved.into(),
        timeline: timeline(&[("DrivingApproved", 90), ("DrivingFinished", 279)]),
        ..DrivingInfo::default()
    };
    let payment = Payment {
        name: driving.payment.clone(),
        amount: driving.fare.clone(),
        state: Payments::Approved.into(),
        ..Payment::default()
    };
    let templates = [
        Template::AllocationRequested,
        Template::AllocationApproved,
        Template::DrivingStarted,
        Template::DrivingFinished,
        Template::PaymentApproved,
    ];
    let allocation =
        Allocation { state: AllocationState::DrivingFinished.into(), ..Allocation::default() };
    let facts = Facts {
        allocation,
        driving: Some(driving),
        payments: vec![payment],
        info,
        messages: messages_of(&templates),
    };
    (Ride { stage: Stage::Finished, drivers: vec![0], ..Ride::default() }, facts)
}

fn cancelled_ride() -> (Ride, Facts) {
    let driving = Driving {
        name: "drivings/1".to_owned(),
        state: DrivingState::Cancelled.into(),
        ..Driving::default()
    };
    let info = DrivingInfo {
        alloc_status: AllocationState::Cancelled.into(),
        driving: driving.name.clone(),
        driving_status: driving.state,
        ..DrivingInfo::default()
    };
    let facts = Facts {
        allocation: Allocation { state: AllocationState::Cancelled.into(), ..Default::default() },
        driving: Some(driving),
        info,
        messages: messages_of(&[Template::AllocationRequested]),
        ..Facts::default()
    };
    let ride = Ride { stage: Stage::Cancelled, cancel: Some(Cancel::Done), ..Ride::default() };
    (ride, facts)
}

fn violations(ride: &Ride, facts: &Facts) -> Vec<String> {
    let driver = ride.drivers.first().map(|at| format!("drivers/D{}", at + 1));
    let may_cancel = ride.cancel.is_some();
    super::ride(&Told { ride, driver, language: "ko", may_cancel }, facts)
}

#[track_caller]
fn assert_wrong(
    (ride, facts): (Ride, Facts),
    change: impl FnOnce(&mut Ride, &mut Facts),
    says: &str,
) {
    let (mut ride, mut facts) = (ride, facts);
    change(&mut ride, &mut facts);
    let said = violations(&ride, &facts);
    assert!(said.iter().any(|sentence| sentence.contains(says)), "{says:?} is not in {said:#?}");
}

#[track_caller]
fn driving(facts: &mut Facts) -> &mut Driving {
    facts.driving.as_mut().expect("there")
}

#[test]
fn a_sound_ride_is_sound() {
    for (ride, facts) in [finished_ride(), cancelled_ride()] {
        assert_eq!(violations(&ride, &facts), [""; 0]);
    }
}

#[test]
fn a_fare_is_paid_once_and_can_be_recomputed() {
    assert_wrong(finished_ride(), |_, it| it.payments.clear(), "it has 0 payments, not one");
    let twice = |_: &mut Ride, it: &mut Facts| it.payments.push(it.payments[0].clone());
    assert_wrong(finished_ride(), twice, "it has 2 payments, not one");
    let declined = |_: &mut Ride, it: &mut Facts| it.payments[0].state = Payments::Declined.into();
    assert_wrong(finished_ride(), declined, "payments/1 is STATE_DECLINED");
    let less = |_: &mut Ride, it: &mut Facts| it.payments[0].amount = won(RATE);
    assert_wrong(finished_ride(), less, "Some(1000) was paid for a fare of Some(2000)");
    let longer = |_: &mut Ride, it: &mut Facts| driving(it).finish_time = at(280);
    assert_wrong(finished_ride(), longer, "its fare is Some(2000), not Some(3000)");
}

#[test]
fn whole_minutes_are_charged_and_at_least_one() {
    for (seconds, fare) in [(0, 1_000), (59, 1_000), (119, 1_000), (120, 2_000), (3_600, 60_000)] {
        let driving = Driving {
            start_time: at(100),
            finish_time: at(100 + seconds),
            fare_explanation: explained(RATE),
            ..Driving::default()
        };
        assert_eq!(recomputed(&driving), Some(fare), "{seconds}");
    }
    assert_eq!(recomputed(&Driving::default()), None);
}

#[test]
fn whoever_was_told_ok_is_the_winner() {
    let cancel = |told: Cancel| move |ride: &mut Ride, _: &mut Facts| ride.cancel = Some(told);
    assert_wrong(finished_ride(), cancel(Cancel::Done), "was told that it is cancelled, but it is");
    assert_wrong(cancelled_ride(), cancel(Cancel::TooLate), "but it has not started");
    assert_wrong(cancelled_ride(), cancel(Cancel::Refused("x".into())), "for no good reason: x");
    let two = |ride: &mut Ride, _: &mut Facts| ride.drivers.push(1);
    assert_wrong(finished_ride(), two, "2 drivers were told");
    let other = |ride: &mut Ride, _: &mut Facts| ride.drivers = vec![1];
    assert_wrong(finished_ride(), other, "drivers/D2 was told that it is theirs, but drivers/D1");
}

#[test]
fn a_cancelled_ride_costs_nothing() {
    let paid = |_: &mut Ride, it: &mut Facts| it.payments.push(Payment::default());
    assert_wrong(cancelled_ride(), paid, "it is cancelled, but it has 1 payments");
    assert_wrong(cancelled_ride(), |_, it| driving(it).fare = won(1), "but it has a fare");
    assert_wrong(cancelled_ride(), |ride, _| ride.cancel = None, "which nobody planned");
}

#[test]
fn the_dashboard_agrees() {
    let status = |_: &mut Ride, it: &mut Facts| it.info.driving_status = 3;
    assert_wrong(finished_ride(), status, "shows the driving's state \"STATE_STARTED\", but it is");
    assert_wrong(finished_ride(), |_, it| it.info.fee = None, "shows the fee None");
    let unpaid = |_: &mut Ride, it: &mut Facts| it.info.payment_status = 1;
    assert_wrong(finished_ride(), unpaid, "shows the payment's state \"STATE_REQUESTED\"");
}

#[test]
fn every_message_comes_once() {
    let told = |messages: fn(&mut Vec<Message>)| {
        move |_: &mut Ride, it: &mut Facts| messages(&mut it.messages)
    };
    let lost = told(|it| drop(it.pop()));
    assert_wrong(finished_ride(), lost, "TEMPLATE_PAYMENT_APPROVED was not told");
    let twice = told(|it| it.push(it[0].clone()));
    assert_wrong(finished_ride(), twice, "TEMPLATE_ALLOCATION_REQUESTED was told 2 times");
    let extra = told(|it| it.extend(messages_of(&[Template::DrivingStarted])));
    assert_wrong(cancelled_ride(), extra, "TEMPLATE_DRIVING_STARTED was told for no reason");
    let foreign = told(|it| it[0].language = "en".to_owned());
    assert_wrong(finished_ride(), foreign, "is in \"en\"");
    let accepted = |ride: &mut Ride, _: &mut Facts| ride.drivers.push(0);
    assert_wrong(cancelled_ride(), accepted, "TEMPLATE_ALLOCATION_APPROVED was not told");
}

#[test]
fn a_payment_that_came_later_was_announced() {
    let (ride, mut facts) = finished_ride();
    facts.info.timeline.extend(timeline(&[("PaymentDeferred", 280)]));
    assert_eq!(violations(&ride, &facts), ["TEMPLATE_PAYMENT_DEFERRED was not told"]);
    facts.messages.extend(messages_of(&[Template::PaymentDeferred]));
    assert_eq!(violations(&ride, &facts), [""; 0]);
}

#[test]
fn driving_announces_it_too() {
    let later = |taken: i64| {
        move |ride: &mut Ride, it: &mut Facts| {
            ride.fee = Some(PaymentState::Deferred);
            it.payments[0].approve_time = at(taken);
        }
    };
    assert_wrong(finished_ride(), later(292), "TEMPLATE_PAYMENT_DEFERRED was not told");
    let (mut ride, mut facts) = finished_ride();
    facts.info.timeline.extend(timeline(&[("PaymentDeclined", 280)]));
    facts.messages.extend(messages_of(&[Template::PaymentDeclined]));
    later(292)(&mut ride, &mut facts);
    assert_eq!(violations(&ride, &facts), [""; 0], "it may have been known to be declined");
    let (mut ride, mut facts) = finished_ride();
    later(288)(&mut ride, &mut facts);
    assert_eq!(violations(&ride, &facts), [""; 0], "it may have been known to be taken by then");
    facts.messages.extend(messages_of(&[Template::PaymentDeferred]));
    assert_eq!(violations(&ride, &facts), [""; 0]);
    ride.fee = Some(PaymentState::Approved);
    let said = ["TEMPLATE_PAYMENT_DEFERRED was told for no reason"];
    assert_eq!(violations(&ride, &facts), said);
}

#[test]
fn a_fee_that_was_declined_was_announced() {
    let (ride, mut facts) = finished_ride();
    facts.info.timeline.extend(timeline(&[("PaymentDeclined", 280)]));
    assert_eq!(violations(&ride, &facts), ["TEMPLATE_PAYMENT_DECLINED was not told"]);
    facts.messages.extend(messages_of(&[Template::PaymentDeclined]));
    assert_eq!(violations(&ride, &facts), [""; 0]);
    facts.info.timeline.pop();
    let said = ["TEMPLATE_PAYMENT_DECLINED was told for no reason"];
    assert_eq!(violations(&ride, &facts), said);
}

#[test]
fn nothing_is_taken_back_once_it_is_paid() {
    for (event, template) in [
        ("PaymentDeferred", Template::PaymentDeferred),
        ("PaymentDeclined", Template::PaymentDeclined),
    ] {
        let (ride, mut facts) = finished_ride();
        facts.info.timeline.extend(timeline(&[(event, 280)]));
        facts.messages.extend(messages_of(&[template]));
        let paid = facts.messages.len() - 2;
        facts.messages[paid].create_time = at(282);
        facts.messages[paid + 1].create_time = at(281);
        assert_eq!(violations(&ride, &facts), [""; 0]);
        facts.messages[paid + 1].create_time = at(283);
        let said =
            format!("{} was told after the fee was said to be taken", template.as_str_name());
        assert_eq!(violations(&ride, &facts), [said]);
    }
}

#[test]
fn two_rides_at_once_are_found() {
    let turn = |driver: &str, ride: &str, from, until| Turn {
        driver: driver.to_owned(),
        ride: ride.to_owned(),
        from: Timestamp::from_micros(from),
        until: Timestamp::from_micros(until),
    };
    let one_after_the_other = vec![turn("D1", "b", 20, 30), turn("D1", "a", 10, 20)];
    assert_eq!(overlaps(one_after_the_other), [""; 0]);
    assert_eq!(overlaps(vec![turn("D1", "a", 10, 20), turn("D2", "b", 15, 25)]), [""; 0]);
    let within = vec![turn("D1", "a", 10, 40), turn("D1", "b", 15, 20), turn("D1", "c", 30, 50)];
    assert_eq!(
        overlaps(within),
        ["D1 had two rides at once: a and b", "D1 had two rides at once: a and c"]
    );
}

#[test]
fn a_turn_lasts_from_the_accept_to_the_end() {
    let (_, mut facts) = finished_ride();
    let turn = Turn::of("a", &facts).expect("a turn");
    assert_eq!(turn.until.since(turn.from).as_secs(), 189);
    facts.info.timeline.clear();
    assert_eq!(Turn::of("a", &facts), None);
}

#[test]
fn a_contest_has_the_winners_it_must_have() {
    use Accept::{Busy, Gone, Lost, Won};
    for (kind, told, fair) in [
        (Kind::Race, vec![Lost, Won, Lost], true),
        (Kind::Race, vec![Won, Won, Lost], false),
        (Kind::Race, vec![Lost, Lost], false),
        (Kind::Race, vec![Won, Busy], false),
        (Kind::Race, vec![Won, Gone], false),
        (Kind::Double, vec![Busy, Won], true),
        (Kind::Double, vec![Won, Won], false),
        (Kind::Double, vec![Won, Lost], false),
        (Kind::Late, vec![Lost, Lost], true),
        (Kind::Late, vec![Lost, Won], false),
    ] {
        let contest = Contest { kind, about: String::new(), told };
        assert_eq!(super::contest(&contest).is_none(), fair, "{contest:?}");
    }
}
