//! Is anybody told something untrue of a fee?

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::Uuid;
use proto::message::v1::message::Template;

use super::Verdict;
use super::case::{Case, id_in};
use crate::history::{Operation, Outcome, Seen, What};

/// **I15** compares what people were answered about a fee with the provider's log, and with what
/// payment had answered before.
///
/// * Who read APPROVED or REFUNDED, wherever, of a driving that the provider has charged; REFUNDED,
///   of one it has given back for; DECLINED, of one it has declined a charge for.
/// * After payment has answered anybody that a fee is taken, it answers nobody, who asks later, that
///   it is not.
pub(super) fn of_fees(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I15", "nobody is told anything untrue of a fee");
    let mut taken = BTreeMap::new();
    for operation in case.operations {
        let Outcome::Ok(seen) = &operation.outcome else { continue };
        if let (Some(ride), Some(said)) = (operation.ride, said(operation.what, seen)) {
            is_true(case, operation, ride, said, &mut verdict);
        }
    }
    for (operation, seen) in answers_of_payment(case) {
        let at: &mut Duration = taken.entry(&seen.resource).or_insert(Duration::MAX);
        if is_taken(&seen.state) {
            *at = operation.until.min(*at);
        }
    }
    for (operation, seen) in answers_of_payment(case) {
        let before = taken.get(&seen.resource).is_some_and(|at| *at <= operation.from);
        verdict.of(operation.ride).must(!before || is_taken(&seen.state), || {
            let Operation { who, what, number, .. } = operation;
            format!("{who} was told {} by {what} (#{number}) of a fee that was taken", seen.state)
        });
    }
    verdict
}

/// What an answer says of the fee.
fn said(what: What, seen: &Seen) -> Option<&str> {
    match what {
        What::SettlePayment | What::RefundPayment | What::GetPayment => Some(&seen.state),
        _ => seen.payment_state.as_deref(),
    }
}

fn is_true(case: &Case<'_>, operation: &Operation, ride: Uuid, said: &str, verdict: &mut Verdict) {
    let charges = case.driving_of(ride).map_or(&[][..], |driving| case.charges_of(driving.id));
    let has = |status: &str| charges.iter().any(|charge| charge.status == status);
    let given_back = || {
        let keys: Vec<&str> = charges.iter().map(|it| it.idempotency_key.as_str()).collect();
        case.evidence.refunds.iter().any(|refund| keys.contains(&refund.charge.as_str()))
    };
    let so = match said {
        "APPROVED" => has("approved"),
        "REFUNDED" => has("approved") && given_back(),
        "DECLINED" => has("declined"),
        _ => return,
    };
    verdict.of(ride).must(so, || {
        let Operation { who, what, number, .. } = operation;
        format!("{who} was told {said} by {what} (#{number}), the provider has {charges:?}")
    });
}

/// What payment itself has answered.
fn answers_of_payment<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a Operation, &'a Seen)> {
    case.operations.iter().filter_map(|operation| match &operation.outcome {
        Outcome::Ok(seen) if seen.resource.starts_with("payments/") => Some((operation, seen)),
        _ => None,
    })
}

fn is_taken(state: &str) -> bool {
    matches!(state, "APPROVED" | "REFUNDED")
}

/// **I16** goes through the messages about fees, ride by ride, in the order in which they were told:
/// the last one a customer reads must be the last word.
///
/// * They come in the order of payment's events.
/// * Driving's own, that the fee comes later, comes before any verdict.
/// * After PAYMENT_APPROVED there is none.
pub(super) fn last_word_is_told_last(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I16", "what customers are told of a fee comes in its order");
    let mut told = BTreeMap::<Uuid, Vec<(Template, Option<i64>)>>::new();
    for entry in &case.evidence.told {
        let (Some(cause), Some(message)) = (entry.cause, &entry.message) else { continue };
        let template = message.template();
        let of_fee =
            [Template::PaymentApproved, Template::PaymentDeferred, Template::PaymentDeclined];
        let Some(ride) = id_in(&message.allocation).filter(|_| of_fee.contains(&template)) else {
            continue;
        };
        let row = case.outbox(cause).filter(|(context, _)| *context == "payment");
        told.entry(ride).or_default().push((template, row.map(|(_, row)| row.version)));
    }
    for (ride, told) in told {
        let mut it = verdict.of(ride);
        let versions: Vec<i64> = told.iter().filter_map(|(_, version)| *version).collect();
        it.must(versions.is_sorted(), || format!("was told of its fee in the order {told:?}"));
        let approved = told.iter().position(|(template, _)| *template == Template::PaymentApproved);
        it.must(approved.is_none_or(|at| at + 1 == told.len()), || {
            format!("was told something after the fee was taken: {told:?}")
        });
        let first = told.iter().position(|(it, _)| *it != Template::PaymentDeferred);
        let late = told.iter().rposition(|(_, version)| version.is_none());
        it.must(first.is_none_or(|at| late.is_none_or(|late| late < at)), || {
            format!("was told that the fee comes later after the verdict: {told:?}")
        });
    }
    verdict
}
