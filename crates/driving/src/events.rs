//! The context's events in the words of the wire: the only place that knows both.

use kernel::Recorded;
use platform::outbox::Publication;
use proto::driving::v1 as wire;
use proto::words::{money, place, time};
use wire::driving::{PaymentState as WirePaymentState, State as WireState};

use crate::domain::{Driving, Event, PaymentState, State};
use crate::fare::Fare;

/// An event of this driving, ready to be published.
pub(crate) fn publication(recorded: &Recorded<Driving>, event: &Event) -> Publication {
    let this = &recorded.aggregate;
    let correlation = this.allocation.0;
    let allocation = this.allocation.to_string();
    let customer = this.customer.to_string();
    let driving = this.id.to_string();
    let driver = this.driver.as_ref().map(ToString::to_string).unwrap_or_default();
    let start_time = this.start_time.map(time);
    let now = Some(time(recorded.update_time));
    match event {
        Event::DrivingOpened => Publication::of(
            correlation,
            &wire::DrivingOpened {
                allocation,
                customer,
                driving,
                pickup: this.pickup.as_ref().map(place),
                destination: Some(place(&this.destination)),
                open_time: now,
            },
        ),
        Event::DrivingApproved => Publication::of(
            correlation,
            &wire::DrivingApproved { allocation, customer, driving, driver, approve_time: now },
        ),
        Event::DrivingStarted => Publication::of(
            correlation,
            &wire::DrivingStarted { allocation, customer, driving, driver, start_time },
        ),
        Event::DrivingFinished => Publication::of(
            correlation,
            &wire::DrivingFinished {
                allocation,
                customer,
                driving,
                driver,
                start_time,
                finish_time: this.finish_time.map(time),
                fare: this.fare.as_ref().map(|fare| money(fare.amount)),
                fare_explanation: this.fare.as_ref().map(explanation),
            },
        ),
        Event::DrivingCancelled => Publication::of(
            correlation,
            &wire::DrivingCancelled {
                allocation,
                customer,
                driving,
                driver,
                reason: this.cancel_reason.clone(),
                cancel_time: now,
            },
        ),
        Event::DrivingCancelRejected => Publication::of(
            correlation,
            &wire::DrivingCancelRejected {
                allocation,
                customer,
                driving,
                driver,
                state: state(this.state).into(),
                reject_time: now,
            },
        ),
        Event::DrivingPaymentSettled => Publication::of(
            correlation,
            &wire::DrivingPaymentSettled {
                allocation,
                customer,
                driving,
                driver,
                payment: this.payment.map(|payment| payment.to_string()).unwrap_or_default(),
                payment_state: payment_state(this.payment_state).into(),
                amount: this.fare.as_ref().map(|fare| money(fare.amount)),
                settle_time: now,
            },
        ),
    }
}

/// How a fare came about.
pub(crate) fn explanation(fare: &Fare) -> wire::FareExplanation {
    wire::FareExplanation {
        minutes: fare.minutes,
        rate_per_minute: Some(money(fare.rate)),
        policy_version: fare.policy_version.clone(),
    }
}

/// Where a driving stands.
pub(crate) fn state(state: State) -> WireState {
    match state {
        State::Requested => WireState::Requested,
        State::Approved => WireState::Approved,
        State::Started => WireState::Started,
        State::Finished => WireState::Finished,
        State::Cancelled => WireState::Cancelled,
    }
}

/// What became of the payment.
pub(crate) fn payment_state(state: Option<PaymentState>) -> WirePaymentState {
    match state {
        None => WirePaymentState::Unspecified,
        Some(PaymentState::Pending) => WirePaymentState::Pending,
        Some(PaymentState::Approved) => WirePaymentState::Approved,
        Some(PaymentState::Declined) => WirePaymentState::Declined,
        Some(PaymentState::Deferred) => WirePaymentState::Deferred,
        Some(PaymentState::Refunded) => WirePaymentState::Refunded,
    }
}
