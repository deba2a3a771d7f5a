//! Can every event be followed back to the person who wanted it?

use std::collections::BTreeSet;

use kernel::Uuid;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;

use super::Verdict;
use super::case::{Case, id_in};
use crate::evidence::{Event, Happening};
use crate::history::{Outcome, What};

/// **I9** compares the headers of each event in the stream with its payload, with the events before
/// it, and with what people asked for.
///
/// * The correlation id is the id of the ride's allocation, which its payload names too; all events
///   of a ride name one customer and one driving; an event of an allocation, driving or payment
///   happened to the aggregate it names.
/// * The causation id is, by the kind of the event:
///
/// | event | its cause |
/// |---|---|
/// | AllocationRequested, DrivingApproved, DrivingStarted, DrivingFinished | the request id of such a command, by that person, that was not refused |
/// | AllocationCancelRequested, wanted by the customer | the request id of a cancel by that customer |
/// | AllocationCancelRequested, for want of an answer | allocation's own cause, on record as its timer's |
/// | AllocationCancelled, AllocationExpired | an earlier DrivingCancelled of the ride |
/// | DrivingOpened | an earlier AllocationRequested of the ride |
/// | DrivingCancelled, DrivingCancelRejected | an earlier AllocationCancelRequested of the ride |
/// | DrivingPaymentSettled | an earlier event of the ride's payment, or the settlement of a finish: `v5(request id, "payment settled")` |
/// | PaymentApproved, PaymentDeferred, PaymentDeclined | the outcome of an attempt: `v5(payment id, "outcome <n>")`, n up to the attempts made |
/// | PaymentDeferred, the first event | or driving's call, whose request id is the driving's id: payment had no time to try |
/// | PaymentRefunded | the outcome of an attempt: `v5(refund's key, "outcome <n>")`, the key that of an operator's request |
pub(super) fn chains_are_whole(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I9", "correlation and causation are whole");
    let given_back = outcomes_of_refunds(case);
    for event in &case.published {
        let mut it = verdict.of(event.correlation);
        let Some(happening) = &event.happening else {
            it.fails(format!("{} at {} cannot be read", event.name(), event.sequence));
            continue;
        };
        let at = || format!("{} v{} at {}", event.name(), event.version, event.sequence);
        let [allocation, customer, driving] = happening.ride();
        it.must(id_in(allocation) == Some(event.correlation), || {
            format!("{} of {allocation} is correlated to {}", at(), event.correlation)
        });
        let ride = case.evidence.allocations.get(&event.correlation);
        it.must(ride.is_some_and(|ride| ride.customer == customer), || {
            format!("{} names {customer}, the ride is {ride:?}", at())
        });
        let known = ride.and_then(|ride| ride.driving);
        it.must(driving.is_empty() || id_in(driving) == known, || {
            format!("{} names driving {driving}, the ride's is {known:?}", at())
        });
        let happened_to = match event.context.as_str() {
            "allocation" => id_in(allocation),
            "driving" => id_in(driving),
            _ => payment_in(happening),
        };
        it.must(happened_to == Some(event.aggregate), || {
            format!("{} happened to {}, but names {happened_to:?}", at(), event.aggregate)
        });
        let caused = match happening {
            Happening::PaymentRefunded(_) => given_back.contains(&event.causation),
            _ => is_caused(case, event, happening),
        };
        it.must(caused, || format!("{} has cause {}, which is none", at(), event.causation));
    }
    verdict
}

fn payment_in(happening: &Happening) -> Option<Uuid> {
    match happening {
        Happening::PaymentApproved(it) => id_in(&it.payment),
        Happening::PaymentDeferred(it) => id_in(&it.payment),
        Happening::PaymentDeclined(it) => id_in(&it.payment),
        Happening::PaymentRefunded(it) => id_in(&it.payment),
        _ => None,
    }
}

fn is_caused(case: &Case<'_>, event: &Event, happening: &Happening) -> bool {
    let [_, customer, _] = happening.ride();
    let asked = |what, who| is_asked(case, event.causation, what, who);
    let follows = |names: &[&str]| {
        let cause = case.event(event.causation);
        cause.is_some_and(|cause| {
            cause.correlation == event.correlation
                && cause.sequence < event.sequence
                && names.contains(&cause.name())
        })
    };
    match happening {
        Happening::AllocationRequested(_) => asked(What::RequestAllocation, customer),
        Happening::AllocationCancelRequested(it) if it.cause() == CancelCause::Unanswered => {
            is_own(case, event)
        }
        Happening::AllocationCancelRequested(_) => asked(What::CancelAllocation, customer),
        Happening::AllocationCancelled(_) | Happening::AllocationExpired(_) => {
            follows(&["DrivingCancelled"])
        }
        Happening::DrivingOpened(_) => follows(&["AllocationRequested"]),
        Happening::DrivingApproved(it) => asked(What::AcceptDriving, &it.driver),
        Happening::DrivingStarted(it) => asked(What::StartDriving, &it.driver),
        Happening::DrivingFinished(it) => asked(What::FinishDriving, &it.driver),
        Happening::DrivingCancelled(_) | Happening::DrivingCancelRejected(_) => {
            follows(&["AllocationCancelRequested"])
        }
        Happening::DrivingPaymentSettled(_) => {
            follows(&["PaymentApproved", "PaymentDeferred", "PaymentDeclined", "PaymentRefunded"])
                || is_settlement(case, event)
        }
        Happening::PaymentDeferred(it) if event.version == 1 => {
            id_in(&it.driving) == Some(event.causation) || is_outcome(case, event)
        }
        Happening::PaymentApproved(_)
        | Happening::PaymentDeferred(_)
        | Happening::PaymentDeclined(_) => is_outcome(case, event),
        // Compared with all that operators wanted.
        Happening::PaymentRefunded(_) => false,
    }
}

/// Whether somebody has asked for this, and was not simply refused. A cancel may be refused after
/// its wish is on record; I11 looks after those.
fn is_asked(case: &Case<'_>, request: Uuid, what: What, who: &str) -> bool {
    case.requests(request).iter().any(|operation| {
        let refused = matches!(operation.outcome, Outcome::Failed { .. });
        operation.what == what
            && (operation.who == who || operation.who.starts_with("operators/"))
            && (!refused || what == What::CancelAllocation)
    })
}

/// Whether the timer of allocation has put this cause on record.
fn is_own(case: &Case<'_>, event: &Event) -> bool {
    case.spent(event.causation).iter().any(|(context, cause)| {
        let timer = (*context, &*cause.actor) == ("allocation", "service:allocation");
        timer && cause.aggregate == event.aggregate
    })
}

/// Whether it is the second half of a finish of this driving.
fn is_settlement(case: &Case<'_>, event: &Event) -> bool {
    case.history(event.aggregate).iter().any(|finished| {
        finished.name() == "DrivingFinished"
            && finished.sequence < event.sequence
            && Uuid::new_v5(&finished.causation, b"payment settled") == event.causation
    })
}

/// Whether it is the outcome of one of the attempts that payment has made.
fn is_outcome(case: &Case<'_>, event: &Event) -> bool {
    let attempts =
        case.evidence.payments.get(&event.aggregate).map_or(0, |payment| payment.attempt_count);
    (1..=attempts).any(|attempt| outcome(event.aggregate, attempt) == event.causation)
}

/// The most attempts that one refund takes in a run.
const MOST_ATTEMPTS: i32 = 200;

/// The outcomes of all attempts at what operators wanted to give back.
fn outcomes_of_refunds(case: &Case<'_>) -> BTreeSet<Uuid> {
    let keys = case.refunds_wanted().into_keys();
    keys.flat_map(|key| (1..=MOST_ATTEMPTS).map(move |attempt| outcome(key, attempt))).collect()
}

fn outcome(of: Uuid, attempt: i32) -> Uuid {
    Uuid::new_v5(&of, format!("outcome {attempt}").as_bytes())
}
