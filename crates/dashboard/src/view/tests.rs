//! The fold as tables: what happens, and where the ride then stands.

mod orders;

use std::collections::BTreeMap;

use Allocation as A;
use Driving as D;
use Payment as P;
use bytes::Bytes;
use kernel::{DrivingId, Timestamp, Uuid};
use proto::google::r#type::Money;

use super::*;

const RIDE: Uuid = Uuid::from_u128(1);
const DRIVING: Uuid = Uuid::from_u128(2);
const PAYMENT: Uuid = Uuid::from_u128(3);

/// The history of one ride, numbered as its aggregates number it.
#[derive(Default)]
struct History {
    versions: [i64; 3],
    deliveries: Vec<Delivery>,
}

impl History {
    fn then<M: Message + Name>(&mut self, message: M) -> Delivery {
        let at = ["taxi.allocation.v1", "taxi.driving.v1", "taxi.payment.v1"]
            .iter()
            .position(|package| *package == M::PACKAGE)
            .expect("an event of a ride");
        self.versions[at] += 1;
        let number = self.deliveries.len() as u64 + 1;
        let delivery = Delivery {
            id: Uuid::from_u128(u128::from(number) + 1_000),
            kind: M::full_name(),
            context: String::new(),
            aggregate: [RIDE, DRIVING, PAYMENT][at],
            version: self.versions[at],
            correlation: RIDE,
            causation: Uuid::nil(),
            time: seconds(number),
            trace: None,
            payload: Bytes::from(message.encode_to_vec()),
            sequence: number * 10,
        };
        self.deliveries.push(delivery.clone());
        delivery
    }
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds as i64 * 1_000_000)
}

fn at(second: u64) -> Option<prost_types::Timestamp> {
    Some(proto::words::time(seconds(second)))
}

fn won(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

fn requested() -> AllocationRequested {
    AllocationRequested {
        customer: "customers/C1".to_owned(),
        destination: Some(WirePlace { address: "Misa".to_owned(), location: None }),
        request_time: at(1),
        ..Default::default()
    }
}

fn cancel_requested(cause: CancelCause) -> AllocationCancelRequested {
    AllocationCancelRequested { cause: cause.into(), ..Default::default() }
}

fn cancel_rejected(state: Driving) -> DrivingCancelRejected {
    DrivingCancelRejected { state: state.into(), ..Default::default() }
}

fn opened() -> DrivingOpened {
    DrivingOpened { customer: "customers/C1".to_owned(), ..Default::default() }
}

fn approved() -> DrivingApproved {
    DrivingApproved { driver: "drivers/D1".to_owned(), ..Default::default() }
}

fn started() -> DrivingStarted {
    DrivingStarted { start_time: at(4), ..Default::default() }
}

fn finished() -> DrivingFinished {
    let (start_time, finish_time) = (at(4), at(5));
    DrivingFinished { start_time, finish_time, fare: won(3_000), ..Default::default() }
}

fn fold(ride: &mut DrivingInfo, delivery: &Delivery) -> bool {
    let event = Event::decode(&delivery.kind, &delivery.payload);
    ride.fold(delivery, &event.expect("a payload").expect("a known kind"))
}

fn folded(history: &[Delivery]) -> DrivingInfo {
    let mut ride = DrivingInfo::before(&history[0]);
    for delivery in history {
        assert!(fold(&mut ride, delivery), "{}", delivery.kind);
    }
    ride
}

fn stand(ride: &DrivingInfo) -> (Allocation, Driving, Payment) {
    (
        A::try_from(ride.alloc_status).expect("a state"),
        D::try_from(ride.driving_status).expect("a state"),
        P::try_from(ride.payment_status).expect("a state"),
    )
}

/// Folds a history and compares where the ride stands after each event.
macro_rules! ride {
    ($($event:expr => $alloc:expr, $driving:expr, $payment:expr;)+) => {{
        let mut history = History::default();
        $(
            history.then($event);
            let expected = ($alloc, $driving, $payment);
            assert_eq!(stand(&folded(&history.deliveries)), expected, "{}", stringify!($event));
        )+
        folded(&history.deliveries)
    }};
}

#[test]
fn a_ride_that_is_paid() {
    let ride = ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        opened() => A::Requested, D::Requested, P::Unspecified;
        approved() => A::Approved, D::Approved, P::Unspecified;
        started() => A::DrivingStarted, D::Started, P::Unspecified;
        finished() => A::DrivingFinished, D::Finished, P::Requested;
        PaymentApproved::default() => A::DrivingFinished, D::Finished, P::Approved;
        DrivingPaymentSettled::default() => A::DrivingFinished, D::Finished, P::Approved;
    };
    assert_eq!((ride.id, ride.driving, ride.payment), (RIDE, Some(DRIVING), Some(PAYMENT)));
    assert_eq!((ride.customer.as_str(), ride.driver.as_str()), ("customers/C1", "drivers/D1"));
    assert_eq!((ride.start_time, ride.finish_time), (Some(4_000_000), Some(5_000_000)));
    assert_eq!((ride.create_time, ride.update_time), (1_000_000, 7_000_000));
    assert_eq!((ride.fee, ride.sequence), (Some(3_000), 70));
    assert_eq!((ride.allocation_version, ride.driving_version, ride.payment_version), (1, 5, 1));
    let events: Vec<_> = ride.timeline.0.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events[..3], ["AllocationRequested", "DrivingOpened", "DrivingApproved"]);
    assert_eq!(events[3..5], ["DrivingStarted", "DrivingFinished"]);
    assert_eq!(events[5..], ["PaymentApproved", "DrivingPaymentSettled"]);
    assert_eq!(ride.timeline.0[2].id, Uuid::from_u128(1_003).to_string());
}

#[test]
fn what_payment_says_of_the_payment_counts() {
    let declined = DrivingPaymentSettled {
        payment: PaymentId(PAYMENT).to_string(),
        payment_state: proto::driving::v1::driving::PaymentState::Declined.into(),
        ..Default::default()
    };
    let refunded = PaymentRefunded { refunded_amount: won(1_000), ..Default::default() };
    let ride = ride! {
        finished() => A::DrivingFinished, D::Finished, P::Requested;
        declined.clone() => A::DrivingFinished, D::Finished, P::Declined;
        PaymentDeferred::default() => A::DrivingFinished, D::Finished, P::Deferred;
        PaymentDeclined::default() => A::DrivingFinished, D::Finished, P::Declined;
        PaymentApproved::default() => A::DrivingFinished, D::Finished, P::Approved;
        declined => A::DrivingFinished, D::Finished, P::Approved;
        refunded => A::DrivingFinished, D::Finished, P::Refunded;
    };
    assert_eq!((ride.payment, ride.refunded), (Some(PAYMENT), 1_000));
    let early = ride! {
        PaymentApproved::default() => A::Unspecified, D::Unspecified, P::Approved;
        finished() => A::DrivingFinished, D::Finished, P::Approved;
    };
    assert_eq!(early.fee, Some(3_000));
}

#[test]
fn a_settled_payment_is_known_before_payment_speaks() {
    let payment = PaymentId(PAYMENT).to_string();
    let ride = ride! {
        finished() => A::DrivingFinished, D::Finished, P::Requested;
        DrivingPaymentSettled::default() => A::DrivingFinished, D::Finished, P::Requested;
        DrivingPaymentSettled { payment, ..Default::default() }
            => A::DrivingFinished, D::Finished, P::Requested;
    };
    assert_eq!((ride.payment, ride.payment_version), (Some(PAYMENT), 0));
}

#[test]
fn a_cancel_in_time() {
    let reason = "too long".to_owned();
    let ride = ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        opened() => A::Requested, D::Requested, P::Unspecified;
        cancel_requested(CancelCause::Customer) => A::Cancelling, D::Requested, P::Unspecified;
        // A driver accepts at the same moment: the cancel is still undecided.
        approved() => A::Cancelling, D::Approved, P::Unspecified;
        DrivingCancelled { reason, ..Default::default() }
            => A::Cancelling, D::Cancelled, P::Unspecified;
        AllocationCancelled::default() => A::Cancelled, D::Cancelled, P::Unspecified;
    };
    assert_eq!((ride.cancel_reason.as_str(), ride.driver.as_str()), ("too long", "drivers/D1"));
}

#[test]
fn a_cancel_that_comes_too_late() {
    ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        approved() => A::Approved, D::Approved, P::Unspecified;
        cancel_requested(CancelCause::Customer) => A::Cancelling, D::Approved, P::Unspecified;
        started() => A::DrivingStarted, D::Started, P::Unspecified;
        cancel_rejected(D::Started) => A::DrivingStarted, D::Started, P::Unspecified;
    };
    // Allocation had not heard of the start yet when it took the wish.
    let ride = ride! {
        started() => A::DrivingStarted, D::Started, P::Unspecified;
        cancel_requested(CancelCause::Customer) => A::DrivingStarted, D::Started, P::Unspecified;
        cancel_rejected(D::Started) => A::DrivingStarted, D::Started, P::Unspecified;
        finished() => A::DrivingFinished, D::Finished, P::Requested;
        cancel_rejected(D::Finished) => A::DrivingFinished, D::Finished, P::Requested;
    };
    assert_eq!(ride.cancel_reason, "");
}

#[test]
fn a_request_that_nobody_answers() {
    ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        opened() => A::Requested, D::Requested, P::Unspecified;
        cancel_requested(CancelCause::Unanswered) => A::Requested, D::Requested, P::Unspecified;
        DrivingCancelled::default() => A::Requested, D::Cancelled, P::Unspecified;
        AllocationExpired::default() => A::Expired, D::Cancelled, P::Unspecified;
    };
    ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        cancel_requested(CancelCause::Unanswered) => A::Requested, D::Unspecified, P::Unspecified;
        approved() => A::Approved, D::Approved, P::Unspecified;
        cancel_rejected(D::Approved) => A::Approved, D::Approved, P::Unspecified;
    };
}

#[test]
fn a_cancel_while_the_request_is_called_off() {
    ride! {
        requested() => A::Requested, D::Unspecified, P::Unspecified;
        cancel_requested(CancelCause::Unanswered) => A::Requested, D::Unspecified, P::Unspecified;
        approved() => A::Approved, D::Approved, P::Unspecified;
        cancel_requested(CancelCause::Customer) => A::Cancelling, D::Approved, P::Unspecified;
        // This answers the call-off; the customer's wish is decided next.
        cancel_rejected(D::Approved) => A::Cancelling, D::Approved, P::Unspecified;
        DrivingCancelled::default() => A::Cancelling, D::Cancelled, P::Unspecified;
        AllocationCancelled::default() => A::Cancelled, D::Cancelled, P::Unspecified;
    };
}

#[test]
fn what_was_folded_before_changes_nothing() {
    let mut history = History::default();
    history.then(requested());
    history.then(opened());
    history.then(approved());
    history.then(started());
    history.then(finished());
    history.then(PaymentDeferred::default());
    history.then(PaymentApproved::default());
    let once = folded(&history.deliveries);
    let mut again = once.clone();
    for delivery in &history.deliveries {
        assert!(!fold(&mut again, delivery), "{}", delivery.kind);
    }
    assert_eq!(again, once);
    // Sent again it stands elsewhere in the stream, and so does the ride.
    for delivery in &history.deliveries {
        fold(&mut again, &Delivery { sequence: 1_000, ..delivery.clone() });
    }
    assert_eq!(again, DrivingInfo { sequence: 1_000, ..once });
}

#[test]
fn a_parked_event_leaves_a_gap_and_no_more() {
    let mut history = History::default();
    history.then(requested());
    history.then(opened());
    history.then(approved());
    history.then(started());
    history.deliveries.remove(2);
    let ride = folded(&history.deliveries);
    assert_eq!(stand(&ride), (A::DrivingStarted, D::Started, P::Unspecified));
    assert_eq!(ride.driving_version, 3);
}

/// The contract is the list of events: a new one there has to be folded here.
#[test]
fn every_event_of_the_contract_is_known() {
    let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("a set");
    let mut kinds = Vec::new();
    for file in set.file.iter().filter(|file| file.name().ends_with("/events.proto")) {
        let named = |message: &prost_types::DescriptorProto| {
            format!("{}.{}", file.package(), message.name())
        };
        kinds.extend(file.message_type.iter().map(named));
    }
    assert_eq!(kinds.len(), 15);
    for kind in kinds {
        assert!(matches!(Event::decode(&kind, &[]), Ok(Some(_))), "{kind}");
    }
}

#[test]
fn other_events_are_passed_over_and_broken_ones_are_not() {
    assert_eq!(Event::decode("taxi.rating.v1.RideRated", b"?"), Ok(None));
    assert!(Event::decode("taxi.driving.v1.DrivingStarted", b"?").is_err());
}

#[test]
fn places_keep_their_location() {
    let location = proto::google::r#type::LatLng { latitude: 37.5547, longitude: 126.9707 };
    let pickup = WirePlace { address: "서울역".to_owned(), location: Some(location) };
    let ride = folded(&[
        History::default().then(AllocationRequested { pickup: Some(pickup), ..requested() })
    ]);
    let pickup = ride.pickup.expect("given");
    assert_eq!(pickup.to_string().parse::<Place>().expect("JSON"), pickup);
    assert_eq!(pickup.location, Some(Location { latitude: 37.5547, longitude: 126.9707 }));
    assert_eq!(ride.destination.expect("given").location, None);
}

#[test]
fn the_payment_is_named_by_its_id_only() {
    let payment = DrivingId(PAYMENT).to_string();
    let mut history = History::default();
    history.then(DrivingPaymentSettled { payment, ..Default::default() });
    assert_eq!(folded(&history.deliveries).payment, None);
}
