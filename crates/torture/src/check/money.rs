//! Is every fee taken, exactly once?

use std::collections::BTreeSet;

use kernel::Uuid;

use super::case::{Case, id_in};
use super::{Subject, Verdict};
use crate::evidence::{Charge, Payment};

/// **I1** compares the rows of driving with the rows of payment, and those with the provider's log.
///
/// * Each FINISHED driving has exactly one payment row, of its fare, its allocation and customer;
///   no other driving has any.
/// * A payment has been charged under the driving's own keys, one after the other: under each key
///   but the last the log has exactly one charge, declined. Under the last one it has, of a payment
///   that is APPROVED or REFUNDED, exactly one, approved, by the name that the row has kept; of one
///   that is DECLINED exactly one, declined; of any other at most one. So a driving has at most one
///   charge that was approved.
/// * Each charge is of the payment's amount and customer, and under one of these keys; each belongs
///   to a driving that has a payment.
/// * The provider was never asked for a charge or a look-up under any other key.
pub(super) fn fees(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I1", "each fee is taken once");
    for driving in case.evidence.drivings.values() {
        let mut it = verdict.of(driving.allocation);
        let payments = case.payments_of(driving.id);
        let due = usize::from(driving.state == "FINISHED");
        it.must(payments.len() == due, || {
            format!("{} payments for a {} driving {}", payments.len(), driving.state, driving.id)
        });
        for payment in payments {
            let owed = (driving.fare, driving.allocation, &driving.customer);
            let asked = (Some(payment.amount), payment.allocation, &payment.customer);
            it.must(owed == asked, || format!("the payment is {asked:?}, the driving {owed:?}"));
            charged(case, payment, &mut it);
        }
    }
    for payment in case.evidence.payments.values() {
        let known = case.evidence.drivings.contains_key(&payment.driving);
        let why = || format!("payment {} of no driving", payment.id);
        verdict.of(payment.allocation).must(known, why);
    }
    for charge in &case.evidence.charges {
        let driving = id_in(&charge.driving);
        let paid = driving.is_some_and(|driving| !case.payments_of(driving).is_empty());
        let ride = driving.and_then(|driving| case.evidence.drivings.get(&driving));
        let why = || format!("charge {} of {} has no payment", charge.id, charge.driving);
        verdict.of(ride.map(|driving| driving.allocation)).must(paid, why);
    }
    asked_for(case, &mut verdict);
    verdict
}

fn charged(case: &Case<'_>, payment: &Payment, it: &mut Subject<'_>) {
    let mut left = case.charges_of(payment.driving).to_vec();
    let last = payment.charge_number;
    for number in 1..=last {
        let key = charge_key(payment.driving, number).to_string();
        let (under, others) = left.into_iter().partition(|charge| charge.idempotency_key == key);
        left = others;
        let verdict = if number < last { Some("declined") } else { verdict_of(payment) };
        charged_once(payment, number, verdict, under, it);
    }
    for charge in left {
        let Charge { id, idempotency_key: key, .. } = charge;
        it.fails(format!("charge {id} is under the key {key}, which is none of the driving's"));
    }
}

/// Looks at what the provider has under one key of a payment.
fn charged_once(
    payment: &Payment,
    number: i32,
    verdict: Option<&str>,
    charges: Vec<&Charge>,
    it: &mut Subject<'_>,
) {
    let state = &payment.state;
    let [charge] = charges[..] else {
        let none_yet = charges.is_empty() && verdict.is_none();
        return it.must(none_yet, || {
            let count = charges.len();
            format!("{count} charges under key {number} of a payment that is {state}")
        });
    };
    if let Some(verdict) = verdict {
        it.must(charge.status == verdict, || {
            format!(
                "charge {} under key {number} is {}, the payment {state}",
                charge.id, charge.status
            )
        });
    }
    if verdict == Some("approved") {
        it.must(charge.id == payment.provider_reference, || {
            format!("the payment refers to {}, not {}", payment.provider_reference, charge.id)
        });
    }
    let owed = (payment.amount, &payment.customer);
    let taken = (charge.amount, &charge.customer);
    it.must(taken == owed, || format!("the charge is {taken:?}, not {owed:?}"));
}

/// What the provider must have said in the end.
fn verdict_of(payment: &Payment) -> Option<&'static str> {
    match payment.state.as_str() {
        "APPROVED" | "REFUNDED" => Some("approved"),
        "DECLINED" => Some("declined"),
        _ => None,
    }
}

/// The key under which a driving is charged for this time: another one only after a refusal.
pub(super) fn charge_key(driving: Uuid, number: i32) -> Uuid {
    match number {
        1 => Uuid::new_v5(&driving, b"charge"),
        number => Uuid::new_v5(&driving, format!("charge {number}").as_bytes()),
    }
}

/// Looks at the keys under which the provider was asked.
fn asked_for(case: &Case<'_>, verdict: &mut Verdict) {
    let payments = case.evidence.payments.values();
    let keys = payments.flat_map(|payment| {
        (1..=payment.charge_number).map(|number| charge_key(payment.driving, number).to_string())
    });
    let keys: BTreeSet<String> = keys.collect();
    let asked = case.evidence.requests.iter().filter(|it| it.operation != "refund");
    for request in asked {
        verdict.of(None).must(keys.contains(&request.idempotency_key), || {
            format!(
                "a {} under {}, which is nobody's key",
                request.operation, request.idempotency_key
            )
        });
    }
}
