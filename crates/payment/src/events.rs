//! The context's events in the words of the wire: the only place that knows both.

use kernel::Recorded;
use platform::outbox::Publication;
use proto::payment::v1 as wire;
use proto::words::{money, time};

use crate::domain::{Event, Payment};

/// An event of this payment, ready to be published.
pub(crate) fn publication(payment: &Recorded<Payment>, event: &Event) -> Publication {
    let fee = &payment.fee;
    let correlation = fee.allocation.0;
    let name = payment.id.to_string();
    let allocation = fee.allocation.to_string();
    let customer = fee.customer.to_string();
    let driving = fee.driving.to_string();
    let amount = Some(money(fee.amount));
    let now = Some(time(payment.update_time));
    match event {
        Event::PaymentApproved => Publication::of(
            correlation,
            &wire::PaymentApproved {
                allocation,
                customer,
                driving,
                payment: name,
                amount,
                provider_reference: payment.provider_reference.clone(),
                approve_time: payment.approve_time.map(time),
            },
        ),
        Event::PaymentDeferred => Publication::of(
            correlation,
            &wire::PaymentDeferred {
                allocation,
                customer,
                driving,
                payment: name,
                amount,
                next_attempt_time: payment.next_attempt_time.map(time),
                defer_time: now,
            },
        ),
        Event::PaymentDeclined => Publication::of(
            correlation,
            &wire::PaymentDeclined {
                allocation,
                customer,
                driving,
                payment: name,
                amount,
                decline_reason: payment.decline_reason.clone(),
                decline_time: now,
            },
        ),
        Event::PaymentRefunded(_) => Publication::of(
            correlation,
            &wire::PaymentRefunded {
                allocation,
                customer,
                driving,
                payment: name,
                amount,
                refunded_amount: Some(money(payment.refunded_amount)),
                refund_time: now,
            },
        ),
    }
}
