//! Is every fee taken, exactly once?

use kernel::Uuid;

use super::case::{Case, id_in};
use super::{Subject, Verdict};
use crate::evidence::Payment;

/// **I1** compares the rows of driving with the rows of payment, and those with the provider's log.
///
/// * Each FINISHED driving has exactly one payment row, of its fare, its allocation and customer;
///   no other driving has any.
/// * An APPROVED payment has exactly one charge in the log, approved, of that amount, from that
///   customer, under the driving's own idempotency key, and by the name that the row has kept.
/// * A DECLINED payment has exactly one charge in the log, declined. Any other has at most one.
/// * Each charge in the log belongs to a driving that has a payment.
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
    verdict
}

fn charged(case: &Case<'_>, payment: &Payment, it: &mut Subject<'_>) {
    let charges = case.charges_of(payment.driving);
    let decided = match payment.state.as_str() {
        "APPROVED" => Some("approved"),
        "DECLINED" => Some("declined"),
        _ => None,
    };
    let state = &payment.state;
    let [charge] = charges else {
        let none_yet = charges.is_empty() && decided.is_none();
        let count = charges.len();
        return it.must(none_yet, || format!("{count} charges for a payment that is {state}"));
    };
    if let Some(status) = decided {
        it.must(charge.status == status, || {
            format!("charge {} is {}, the payment {state}", charge.id, charge.status)
        });
    }
    if decided == Some("approved") {
        it.must(charge.id == payment.provider_reference, || {
            format!("the payment refers to {}, not {}", payment.provider_reference, charge.id)
        });
    }
    // Always the same key for one driving: the provider charges at most once under it.
    let key = Uuid::new_v5(&payment.driving, b"charge").to_string();
    let owed = (payment.amount, &payment.customer, &key);
    let taken = (charge.amount, &charge.customer, &charge.idempotency_key);
    it.must(taken == owed, || format!("the charge is {taken:?}, not {owed:?}"));
}

/// **I2** compares the sum of the approved charges in the provider's log with the sum of the
/// APPROVED rows of payment. Payment keeps no ledger of its own yet; when it does, its sum is the
/// third.
pub(super) fn sums(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I2", "what the provider took is what payment has taken");
    let approved = case.evidence.charges.iter().filter(|charge| charge.status == "approved");
    let taken: Vec<i64> = approved.map(|charge| charge.amount).collect();
    let rows = case.evidence.payments.values().filter(|payment| payment.state == "APPROVED");
    let kept: Vec<i64> = rows.map(|payment| payment.amount).collect();
    let (provider, payment) = (taken.iter().sum::<i64>(), kept.iter().sum::<i64>());
    verdict.of(None).must(provider == payment, || {
        format!(
            "the provider took {provider} won in {} charges, payment {payment} in {}",
            taken.len(),
            kept.len()
        )
    });
    verdict.checked = taken.len() + kept.len();
    verdict
}
