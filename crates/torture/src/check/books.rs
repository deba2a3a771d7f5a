//! Do the books say what happened to the money?

use std::collections::{BTreeMap, BTreeSet};

use kernel::Uuid;

use super::case::Case;
use super::money::charge_key;
use super::{Subject, Verdict};
use crate::evidence::{Movement, Payment};
use crate::history::{Operation, Outcome, What};

const RECEIVABLE: &str = "provider_receivable";
const EARNED: &str = "fares_earned";

/// **I2** compares payment's ledger with the provider's log and with the rows of payment.
///
/// * The CHARGE rows are the approved charges of the log, by key and amount, each once; the REFUND
///   rows are its refunds, by key, charge and amount, each once.
/// * A payment that is APPROVED or REFUNDED has one CHARGE row, of its amount, under its last key;
///   any other has none. The sum of its REFUND rows is its refunded amount, no more than was taken,
///   and more than nothing exactly when it is REFUNDED.
/// * Each row has two different accounts, the right way round; key and kind occur once.
/// * All accounts together come to zero. What the provider owes by the view of the accounts is what
///   its log says, and what the rows of payment say.
pub(super) fn agree(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I2", "ledger, provider's log and payments agree");
    let mut unique = BTreeSet::new();
    for row in &case.evidence.ledger {
        let mut it = verdict.of(case.ride_of_payment(row.payment));
        sides(row, &mut it);
        it.must(unique.insert((row.charge, &row.kind)), || format!("{} is there twice", name(row)));
    }
    the_provider_s(case, &mut verdict);
    for payment in case.evidence.payments.values() {
        booked(case, payment, &mut verdict.of(payment.allocation));
    }
    balances(case, &mut verdict);
    verdict
}

fn name(row: &Movement) -> String {
    let Movement { charge, kind, amount, .. } = row;
    format!("{kind} {charge} of {amount} won")
}

fn sides(row: &Movement, it: &mut Subject<'_>) {
    let sides = (row.debit.as_str(), row.credit.as_str());
    let right = match row.kind.as_str() {
        "CHARGE" => sides == (RECEIVABLE, EARNED),
        "REFUND" => sides == (EARNED, RECEIVABLE),
        _ => false,
    };
    it.must(right, || format!("{} is from {sides:?}", name(row)));
}

/// A movement as both sides know it: its kind, its key, the key of its charge, and won.
type Known = (&'static str, String, String, i64);

fn the_provider_s(case: &Case<'_>, verdict: &mut Verdict) {
    let evidence = case.evidence;
    let taken = evidence.charges.iter().filter(|charge| charge.status == "approved");
    let taken = taken.map(|it| {
        let key = &it.idempotency_key;
        (("CHARGE", key.clone(), key.clone(), it.amount), it.driving.as_str())
    });
    let given = evidence.refunds.iter().map(|it| {
        let known = ("REFUND", it.idempotency_key.clone(), it.charge.clone(), it.amount);
        (known, it.driving.as_str())
    });
    let mut booked = BTreeMap::<Known, usize>::new();
    for row in &evidence.ledger {
        *booked.entry(as_known(case, row)).or_default() += 1;
    }
    for (known, driving) in taken.chain(given) {
        let mut it = verdict.of(case.ride_of_driving(driving));
        let count = booked.remove(&known).unwrap_or(0);
        it.must(count == 1, || format!("{known:?} of the provider is in the ledger {count} times"));
    }
    for known in booked.into_keys() {
        let row = evidence.ledger.iter().find(|row| as_known(case, row) == known);
        let ride = row.and_then(|row| case.ride_of_payment(row.payment));
        verdict.of(ride).fails(format!("{known:?} of the ledger is not in the provider's log"));
    }
}

fn as_known(case: &Case<'_>, row: &Movement) -> Known {
    let key = row.charge.to_string();
    match row.kind.as_str() {
        "CHARGE" => ("CHARGE", key.clone(), key, row.amount),
        "REFUND" => {
            let payment = case.evidence.payments.get(&row.payment);
            let charge = payment.map(|it| charge_key(it.driving, it.charge_number).to_string());
            ("REFUND", key, charge.unwrap_or_default(), row.amount)
        }
        _ => ("", key, String::new(), row.amount),
    }
}

fn booked(case: &Case<'_>, payment: &Payment, it: &mut Subject<'_>) {
    let (charges, refunds): (Vec<&Movement>, Vec<_>) =
        case.movements_of(payment.id).iter().copied().partition(|row| row.kind == "CHARGE");
    let taken = matches!(payment.state.as_str(), "APPROVED" | "REFUNDED");
    let key = charge_key(payment.driving, payment.charge_number);
    let expected: Vec<_> = taken.then_some((key, payment.amount)).into_iter().collect();
    let booked: Vec<_> = charges.iter().map(|row| (row.charge, row.amount)).collect();
    it.must(booked == expected, || {
        format!("the ledger has the charges {booked:?} of a payment that is {}", payment.state)
    });
    let given: i64 = refunds.iter().map(|row| row.amount).sum();
    let Payment { state, amount, refunded_amount: refunded, .. } = payment;
    it.must(given == *refunded && given <= *amount, || {
        format!("the ledger has given back {given} won, the payment {refunded} of {amount}")
    });
    it.must((given > 0) == (state == "REFUNDED"), || {
        format!("{given} won are given back of a payment that is {state}")
    });
}

fn balances(case: &Case<'_>, verdict: &mut Verdict) {
    let evidence = case.evidence;
    let approved = evidence.charges.iter().filter(|charge| charge.status == "approved");
    let provider = approved.map(|it| it.amount).sum::<i64>()
        - evidence.refunds.iter().map(|it| it.amount).sum::<i64>();
    let taken = evidence.payments.values();
    let taken = taken.filter(|it| matches!(it.state.as_str(), "APPROVED" | "REFUNDED"));
    let payments: i64 = taken.map(|it| it.amount - it.refunded_amount).sum();
    let of = |account: &str| {
        let found = evidence.balances.iter().find(|it| it.account == account);
        found.map_or(0, |it| it.amount)
    };
    let all: i64 = evidence.balances.iter().map(|it| it.amount).sum();
    verdict.of(None).must(all == 0, || format!("all accounts together come to {all}"));
    verdict.of(None).must(of(EARNED) == -of(RECEIVABLE), || {
        format!("the accounts are {:?}", evidence.balances)
    });
    let sums = (of(RECEIVABLE), provider, payments);
    verdict.of(None).must(sums.0 == sums.1 && sums.1 == sums.2, || {
        format!("the ledger, the provider, the payments: {sums:?} won")
    });
}

/// **I13** compares the REFUND rows of the ledger, and what the provider was asked to give back, with
/// what operators asked for.
///
/// * Each row is under the key that follows from one request of an operator for that payment, which
///   was not refused, and of the sum it named; of a request for all that is left, nothing is left.
/// * Each request that was told OK has its row.
/// * The provider was asked to give back under such keys only.
pub(super) fn refunds(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I13", "what was given back was asked for, and is once");
    let wanted = case.refunds_wanted();
    for row in case.evidence.ledger.iter().filter(|row| row.kind == "REFUND") {
        let mut it = verdict.of(case.ride_of_payment(row.payment));
        let requests: &[&Operation] = wanted.get(&row.charge).map_or(&[], Vec::as_slice);
        let allowed = requests.iter().find(|it| !matches!(it.outcome, Outcome::Failed { .. }));
        let Some(request) = allowed else {
            it.fails(format!("{}: asked for by nobody, or refused", name(row)));
            continue;
        };
        let payment = case.evidence.payments.get(&row.payment);
        let all = payment.is_some_and(|payment| payment.refunded_amount == payment.amount);
        it.must(request.asked.map_or(all, |asked| asked == row.amount), || {
            format!("{}: asked for were {:?} of {payment:?}", name(row), request.asked)
        });
    }
    let given: BTreeSet<Uuid> =
        case.evidence.ledger.iter().filter(|it| it.kind == "REFUND").map(|it| it.charge).collect();
    for (key, requests) in &wanted {
        let Some(told) = requests.iter().find(|it| matches!(it.outcome, Outcome::Ok(_))) else {
            continue;
        };
        verdict.of(told.ride).must(given.contains(key), || {
            format!(
                "{} by {} was told OK, and the ledger has no {key}",
                What::RefundPayment,
                told.who
            )
        });
    }
    let asked = case.evidence.requests.iter().filter(|it| it.operation == "refund");
    for request in asked {
        let key = request.idempotency_key.parse::<Uuid>().unwrap_or_default();
        verdict.of(None).must(wanted.contains_key(&key), || {
            format!("the provider was asked for the refund {key}, which nobody wanted")
        });
    }
    verdict
}
