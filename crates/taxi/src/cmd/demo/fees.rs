//! What must be true of the money: each fee is taken once, whole, and from whom it is due, by the
//! provider's own log. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kernel::Timestamp;
use proto::payment::v1::Payment;
use proto::words::parse_time;

use super::check::Facts;
use super::witness::{Charge, Log};

/// The fee of a finished ride, as the service tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fee {
    /// Which ride of the plan.
    pub(super) ride: usize,
    /// What the ride is called.
    pub(super) label: String,
    /// For what, by name.
    pub(super) driving: String,
    /// From whom, by name.
    pub(super) customer: String,
    /// How much, in won, by the driving.
    pub(super) fare: i64,
    /// How much was taken, in won, by the payment.
    pub(super) taken: i64,
    /// When that was.
    pub(super) approved: Option<Timestamp>,
    /// The provider's name of the charge, as payment knows it.
    pub(super) reference: String,
    /// It was declined before.
    pub(super) declined: bool,
}

impl Fee {
    /// The fee of a ride, if it has one.
    pub(super) fn of(ride: usize, label: &str, facts: &Facts) -> Option<Fee> {
        let driving = facts.driving.as_ref()?;
        let fare = driving.fare.as_ref()?.units;
        let payment = facts.payments.first();
        let time = |payment: &Payment| payment.approve_time.as_ref().map(parse_time);
        let approved = payment.and_then(time);
        let taken = payment.filter(|_| approved.is_some()).and_then(|it| it.amount.as_ref());
        Some(Fee {
            ride,
            label: label.to_owned(),
            driving: driving.name.clone(),
            customer: driving.customer.clone(),
            fare,
            taken: taken.map_or(0, |amount| amount.units),
            approved,
            reference: payment.map(|it| it.provider_reference.clone()).unwrap_or_default(),
            declined: facts.when("PaymentDeclined").is_some(),
        })
    }
}

/// What the provider has taken from some customers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// How often.
    pub(super) charges: usize,
    /// How much, in won.
    pub(super) won: i64,
    /// How often it has declined.
    pub(super) declined: usize,
}

impl Taken {
    /// From these customers.
    pub(super) fn from(customers: &BTreeSet<String>, log: &Log) -> Taken {
        let mut taken = Taken::default();
        for charge in log.charges.iter().filter(|it| customers.contains(&it.customer)) {
            match charge.status.as_str() {
                "approved" => {
                    taken.charges += 1;
                    taken.won += charge.amount;
                }
                _ => taken.declined += 1,
            }
        }
        taken
    }
}

/// Everything that is wrong between the fees of these customers and the provider's log.
pub(super) fn violations(fees: &[Fee], customers: &BTreeSet<String>, log: &Log) -> Vec<String> {
    let mut charges: BTreeMap<&str, Vec<&Charge>> = BTreeMap::new();
    for charge in log.charges.iter().filter(|charge| customers.contains(&charge.customer)) {
        charges.entry(&charge.driving).or_default().push(charge);
    }
    let mut said = Vec::new();
    for fee in fees {
        let charges = charges.remove(fee.driving.as_str()).unwrap_or_default();
        said.extend(of_one(fee, &charges).into_iter().map(|it| format!("{}: {it}", fee.label)));
        let refunds = log.refunds.iter().filter(|refund| refund.driving == fee.driving);
        said.extend(refunds.map(|refund| {
            format!(
                "{}: the provider gave {} back, and nobody asked for it",
                fee.label, refund.amount
            )
        }));
    }
    for charge in charges.into_values().flatten().filter(|charge| charge.status == "approved") {
        let Charge { id, amount, driving, .. } = charge;
        said.push(format!("the provider took {amount} for {driving} ({id}), which has no fee"));
    }
    let taken = Taken::from(customers, log).won;
    let known: i64 = fees.iter().map(|fee| fee.taken).sum();
    if taken != known {
        said.push(format!("the provider took {taken} in all, and payment knows of {known}"));
    }
    said
}

fn of_one(fee: &Fee, charges: &[&Charge]) -> Vec<String> {
    let mut said = Vec::new();
    let (taken, declined): (Vec<&Charge>, Vec<&Charge>) =
        charges.iter().copied().partition(|charge| charge.status == "approved");
    match taken.as_slice() {
        [charge] => {
            if (charge.amount, &charge.customer) != (fee.fare, &fee.customer) {
                let Charge { amount, customer, .. } = charge;
                let due = (fee.fare, &fee.customer);
                said.push(format!("the provider took {amount} from {customer}, not {due:?}"));
            }
            if charge.id != fee.reference {
                let (id, known) = (&charge.id, &fee.reference);
                said.push(format!("the provider's charge is {id}, and payment knows {known:?}"));
            }
        }
        several => {
            said.push(format!("the provider took the fee {} times, not once", several.len()))
        }
    }
    if !declined.is_empty() && !fee.declined {
        said.push("the provider declined it, and the rider's timeline does not say so".to_owned());
    }
    if declined.is_empty() && fee.declined {
        said.push("the provider never declined it, and the rider's timeline says so".to_owned());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::super::witness::Refund;
    use super::*;

    fn fee(n: u32, declined: bool) -> Fee {
        Fee {
            label: format!("ride {n}"),
            driving: format!("drivings/{n}"),
            customer: "customers/a".to_owned(),
            fare: 1_000,
            taken: 1_000,
            reference: format!("ch_{n}"),
            declined,
            ..Fee::default()
        }
    }

    fn charge(n: u32, status: &str) -> Charge {
        Charge {
            id: format!("ch_{n}"),
            amount: 1_000,
            customer: "customers/a".to_owned(),
            driving: format!("drivings/{n}"),
            status: status.to_owned(),
        }
    }

    /// Two fees, one of them declined at first; and somebody else's.
    fn sound() -> (Vec<Fee>, Log) {
        let others = Charge { customer: "customers/b".to_owned(), ..charge(9, "approved") };
        let declined = Charge { id: "ch_0".to_owned(), ..charge(2, "declined") };
        let charges = vec![charge(1, "approved"), others, declined, charge(2, "approved")];
        (vec![fee(1, false), fee(2, true)], Log { charges, refunds: vec![] })
    }

    #[track_caller]
    fn assert_wrong(change: impl FnOnce(&mut Vec<Fee>, &mut Log), says: &str) {
        let (mut fees, mut log) = sound();
        change(&mut fees, &mut log);
        let said = violations(&fees, &BTreeSet::from(["customers/a".to_owned()]), &log);
        assert!(said.iter().any(|it| it.contains(says)), "{says:?} is not in {said:#?}");
    }

    #[test]
    fn each_fee_once_is_sound() {
        let (fees, log) = sound();
        let ours = BTreeSet::from(["customers/a".to_owned()]);
        assert_eq!(violations(&fees, &ours, &log), [""; 0]);
        assert_eq!(Taken::from(&ours, &log), Taken { charges: 2, won: 2_000, declined: 1 });
    }

    #[test]
    fn a_fee_that_is_taken_wrongly_is_found() {
        assert_wrong(|_, log| drop(log.charges.remove(0)), "ride 1: the provider took the fee 0");
        assert_wrong(|_, log| log.charges.push(charge(1, "approved")), "the fee 2 times, not once");
        assert_wrong(|_, log| log.charges[0].amount = 999, "took 999 from customers/a, not (1000");
        assert_wrong(|_, log| log.charges[0].amount = 999, "took 1999 in all, and payment knows");
        assert_wrong(|fees, _| fees[0].taken = 0, "took 2000 in all, and payment knows of 1000");
        assert_wrong(|fees, _| fees[0].reference.clear(), "is ch_1, and payment knows \"\"");
        assert_wrong(|fees, _| fees[0].customer = "customers/c".to_owned(), "\"customers/c\")");
    }

    #[test]
    fn money_for_nothing_is_found() {
        assert_wrong(|fees, _| drop(fees.remove(0)), "took 1000 for drivings/1 (ch_1), which has");
        let refund = Refund { amount: 500, driving: "drivings/2".to_owned() };
        assert_wrong(|_, log| log.refunds.push(refund), "ride 2: the provider gave 500 back");
    }

    #[test]
    fn a_refusal_is_known_to_both_sides() {
        assert_wrong(|fees, _| fees[1].declined = false, "ride 2: the provider declined it, and");
        assert_wrong(|fees, _| fees[0].declined = true, "ride 1: the provider never declined it");
    }
}
