//! Is only who was refused told to pay first?

use std::collections::BTreeMap;

use super::Verdict;
use super::case::{Case, id_in};
use crate::evidence::{Due, Happening};
use crate::history::Outcome;

/// **I14** compares what allocation knows of fees that are owed with payment's outbox, and with who
/// was refused a car because of one.
///
/// * Each payment that was ever declined has one row, at the payment's last event; no other has any.
/// * The payment's customer is its debtor exactly while the last event is the refusal, and so while
///   the payment is DECLINED.
/// * Who was told OUTSTANDING_PAYMENT has had a fee declined.
pub(super) fn last_word(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I14", "a fee is owed while its last word is declined");
    let mut rows = BTreeMap::new();
    for row in &case.evidence.dues {
        let twice = rows.insert(row.payment, row).is_some();
        verdict
            .of(case.ride_of_payment(row.payment))
            .must(!twice, || format!("payment {} is owed twice", row.payment));
    }
    for payment in case.evidence.payments.values() {
        let mut it = verdict.of(payment.allocation);
        let history = case.written(payment.id);
        let declined = |name: &str| name == "PaymentDeclined";
        let last = history.iter().max_by_key(|row| row.version);
        let owes = last.is_some_and(|row| declined(row.name()));
        it.must(owes == (payment.state == "DECLINED"), || {
            let last = last.map(|row| row.name());
            format!("payment {} is {}, its last word {last:?}", payment.id, payment.state)
        });
        let expected = history.iter().any(|row| declined(row.name())).then(|| Due {
            payment: payment.id,
            version: payment.version,
            debtor: owes.then(|| payment.customer.clone()),
        });
        let known = rows.remove(&payment.id);
        it.must(known == expected.as_ref(), || {
            format!("allocation knows of the fee {known:?}, it should {expected:?}")
        });
    }
    for row in rows.into_values() {
        verdict.of(None).fails(format!("allocation knows {row:?} of no payment"));
    }
    refused(case, &mut verdict);
    verdict
}

fn refused(case: &Case<'_>, verdict: &mut Verdict) {
    for operation in case.operations {
        let refused = match &operation.outcome {
            Outcome::Failed { reason, .. } => reason == "OUTSTANDING_PAYMENT",
            Outcome::Ok(_) | Outcome::Unknown { .. } => false,
        };
        if refused {
            verdict.of(operation.ride).must(ever_declined(case, &operation.who), || {
                format!("{} was told to pay what was never declined", operation.who)
            });
        }
    }
}

fn ever_declined(case: &Case<'_>, customer: &str) -> bool {
    case.published.iter().any(|event| match &event.happening {
        Some(Happening::PaymentDeclined(it)) => {
            it.customer == customer && id_in(&it.payment) == Some(event.aggregate)
        }
        _ => false,
    })
}
