//! The context's events in the words of the wire: the only place that knows both.

use kernel::Recorded;
use platform::outbox::Publication;
use proto::allocation::v1 as wire;
use proto::words::{place, time};
use wire::allocation_cancel_requested::CancelCause as WireCause;

use crate::domain::{Allocation, CancelCause, Event, Language};

/// An event of this allocation, ready to be published.
pub(crate) fn publication(allocation: &Recorded<Allocation>, event: &Event) -> Publication {
    let correlation = allocation.id.0;
    let name = allocation.id.to_string();
    let customer = allocation.customer.to_string();
    let driving = allocation.driving.map(|driving| driving.to_string()).unwrap_or_default();
    let now = Some(time(allocation.update_time));
    match event {
        Event::AllocationRequested => Publication::of(
            correlation,
            &wire::AllocationRequested {
                allocation: name,
                customer,
                driving,
                pickup: allocation.pickup.as_ref().map(place),
                destination: Some(place(&allocation.destination)),
                language: language_tag(allocation.language).to_owned(),
                request_time: now,
                expire_time: Some(time(allocation.expire_time)),
            },
        ),
        Event::AllocationCancelRequested(cause) => Publication::of(
            correlation,
            &wire::AllocationCancelRequested {
                allocation: name,
                customer,
                driving,
                reason: allocation.cancel_reason.clone(),
                cause: match cause {
                    CancelCause::Customer => WireCause::Customer,
                    CancelCause::Unanswered => WireCause::Unanswered,
                }
                .into(),
                request_time: now,
            },
        ),
        Event::AllocationCancelled => Publication::of(
            correlation,
            &wire::AllocationCancelled {
                allocation: name,
                customer,
                driving,
                reason: allocation.cancel_reason.clone(),
                cancel_time: now,
            },
        ),
        Event::AllocationExpired => Publication::of(
            correlation,
            &wire::AllocationExpired { allocation: name, customer, driving, expire_time: now },
        ),
    }
}

/// The BCP 47 tag of a language.
pub(crate) fn language_tag(language: Language) -> &'static str {
    match language {
        Language::Ko => "ko",
        Language::En => "en",
    }
}
