//! What the events of a ride make of it: written anew from the contract, so that the dashboard's own
//! fold has somebody to disagree with.

use proto::allocation::v1::allocation::State as Allocation;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::driving::v1::driving::{PaymentState, State as Driving};
use proto::payment::v1::payment::State as Payment;
use proto::words::parse_time;

use super::case::id_in;
use crate::evidence::{Event, Happening, View};

/// A ride folded from its events.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// The row that the view should have; its timeline is beside it.
    pub(super) view: View,
    /// Name and id of each event.
    pub(super) timeline: Vec<(String, String)>,
}

/// Folds the events of one ride, each once, in the order of the stream.
pub(super) fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Folded {
    let mut folded = Folded::default();
    for event in events {
        let Some(happening) = &event.happening else { continue };
        let view = &mut folded.view;
        view.id = event.correlation;
        view.sequence = i64::try_from(event.sequence).unwrap_or(i64::MAX);
        match event.context.as_str() {
            "allocation" => view.allocation_version = event.version,
            "driving" => {
                view.driving_version = event.version;
                view.driving = Some(event.aggregate);
            }
            _ => {
                view.payment_version = event.version;
                view.payment = Some(event.aggregate);
            }
        }
        apply(view, happening);
        folded.timeline.push((event.name().to_owned(), event.id.to_string()));
    }
    folded
}

fn apply(view: &mut View, happening: &Happening) {
    match happening {
        Happening::AllocationRequested(it) => {
            view.customer.clone_from(&it.customer);
            view.alloc_status = Allocation::Requested.into();
        }
        // A wish is shown until it is decided; the start decides it, and so does nothing else.
        Happening::AllocationCancelRequested(it) => {
            let on_board = view.driving_status == i32::from(Driving::Started)
                || view.driving_status == i32::from(Driving::Finished);
            if it.cause() == CancelCause::Customer && !on_board {
                view.alloc_status = Allocation::Cancelling.into();
            }
        }
        Happening::AllocationCancelled(it) => {
            view.alloc_status = Allocation::Cancelled.into();
            because(view, &it.reason);
        }
        Happening::AllocationExpired(_) => view.alloc_status = Allocation::Expired.into(),
        Happening::DrivingOpened(it) => {
            view.customer.clone_from(&it.customer);
            view.driving_status = Driving::Requested.into();
        }
        Happening::DrivingApproved(it) => {
            view.driver.clone_from(&it.driver);
            view.driving_status = Driving::Approved.into();
            goes_on(view, Driving::Approved);
        }
        Happening::DrivingStarted(it) => {
            view.start_time = it.start_time.as_ref().map(micros);
            view.driving_status = Driving::Started.into();
            goes_on(view, Driving::Started);
        }
        Happening::DrivingFinished(it) => {
            view.finish_time = it.finish_time.as_ref().map(micros);
            view.fee = it.fare.as_ref().map(|fare| fare.units);
            view.driving_status = Driving::Finished.into();
            goes_on(view, Driving::Finished);
            if view.payment_status == 0 {
                view.payment_status = Payment::Requested.into();
            }
        }
        Happening::DrivingCancelled(it) => {
            view.driving_status = Driving::Cancelled.into();
            because(view, &it.reason);
        }
        Happening::DrivingCancelRejected(it) => goes_on(view, it.state()),
        // Only until payment itself has spoken.
        Happening::DrivingPaymentSettled(it) => {
            if view.payment_version == 0 {
                view.payment_status = told_to_driver(it.payment_state()).into();
            }
            view.payment = view.payment.or(id_in(&it.payment));
        }
        Happening::PaymentApproved(_) => view.payment_status = Payment::Approved.into(),
        Happening::PaymentDeferred(_) => view.payment_status = Payment::Deferred.into(),
        Happening::PaymentDeclined(_) => view.payment_status = Payment::Declined.into(),
        Happening::PaymentRefunded(it) => {
            view.payment_status = Payment::Refunded.into();
            view.refunded = it.refunded_amount.as_ref().map_or(0, |amount| amount.units);
        }
    }
}

/// The allocation stands where its driving does.
fn goes_on(view: &mut View, driving: Driving) {
    let wish = view.alloc_status == i32::from(Allocation::Cancelling);
    let stands = match driving {
        Driving::Approved if wish => return,
        Driving::Approved => Allocation::Approved,
        Driving::Started => Allocation::DrivingStarted,
        Driving::Finished => Allocation::DrivingFinished,
        Driving::Unspecified | Driving::Requested | Driving::Cancelled => return,
    };
    view.alloc_status = stands.into();
}

fn told_to_driver(state: PaymentState) -> Payment {
    match state {
        PaymentState::Approved => Payment::Approved,
        PaymentState::Declined => Payment::Declined,
        PaymentState::Deferred => Payment::Deferred,
        PaymentState::Refunded => Payment::Refunded,
        PaymentState::Pending | PaymentState::Unspecified => Payment::Requested,
    }
}

fn because(view: &mut View, reason: &str) {
    if !reason.is_empty() {
        reason.clone_into(&mut view.cancel_reason);
    }
}

fn micros(time: &prost_types::Timestamp) -> i64 {
    parse_time(time).micros()
}
