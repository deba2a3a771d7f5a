//! The fees of the scene: charged, declined, settled, given back, owed.

use kernel::Uuid;
use proto::driving::v1::driving::PaymentState;
use proto::message::v1::message::Template;
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};

use super::super::super::money::charge_key;
use super::rides::{FEE, Ride, payment_row, won};
use super::{PAYER, Scene, people, seen};
use crate::evidence::{Asked, Balance, Charge, Due, Movement, Payment, Refund};
use crate::history::{Seen, What};

/// The ride whose fee is declined, put off, taken, and given back in two parts.
pub(in super::super) const SETTLED: Ride = Ride {
    ride: Uuid::from_u128(0xa3),
    driving: Uuid::from_u128(0xd3),
    payment: Uuid::from_u128(0xe3),
};
/// The ride whose fee is declined.
pub(in super::super) const OWED: Ride = Ride {
    ride: Uuid::from_u128(0xa4),
    driving: Uuid::from_u128(0xd4),
    payment: Uuid::from_u128(0xe4),
};

impl Scene {
    pub(super) fn settled_ride(&mut self) {
        let Ride { ride, payment: id, .. } = SETTLED;
        let [allocation, customer, driving, payment] = SETTLED.names();
        self.declined(SETTLED);
        self.paid_by_hand(SETTLED, "DEFERRED");
        let deferred = PaymentDeferred {
            allocation: allocation.clone(),
            customer: customer.clone(),
            driving: driving.clone(),
            payment: payment.clone(),
            amount: won(FEE),
            ..Default::default()
        };
        let template = Some(Template::PaymentDeferred);
        self.commit(id, ride, outcome(id, 2), &deferred, template);
        let taken = PaymentApproved {
            allocation,
            customer,
            driving,
            payment,
            amount: won(FEE),
            ..Default::default()
        };
        let template = Some(Template::PaymentApproved);
        let taken = self.commit(id, ride, outcome(id, 3), &taken, template);
        self.driving_knows(SETTLED, taken, PaymentState::Approved);
        let reference = self.charged(SETTLED, 2, "approved");
        let first = self.given_back(Some(400), 400, 400);
        self.driving_knows(SETTLED, first, PaymentState::Refunded);
        self.given_back(None, FEE - 400, FEE);
        let row = Payment {
            version: 5,
            state: "REFUNDED".to_owned(),
            attempt_count: 3,
            charge_number: 2,
            provider_reference: reference,
            refunded_amount: FEE,
            ..payment_row(SETTLED)
        };
        self.evidence.payments.insert(id, row);
        self.evidence.dues.push(Due { payment: id, version: 5, debtor: None });
    }

    pub(super) fn owed_ride(&mut self) {
        self.declined(OWED);
        let id = OWED.payment;
        let row = Payment {
            state: "DECLINED".to_owned(),
            provider_reference: String::new(),
            ..payment_row(OWED)
        };
        self.evidence.payments.insert(id, row);
        let debtor = Some(PAYER.to_owned());
        self.evidence.dues.push(Due { payment: id, version: 1, debtor });
    }

    /// A ride whose fee the provider declines.
    fn declined(&mut self, it: Ride) {
        let finish = self.drive(it);
        let [allocation, customer, driving, payment] = it.names();
        let declined = PaymentDeclined {
            allocation,
            customer,
            driving,
            payment,
            amount: won(FEE),
            ..Default::default()
        };
        let template = Some(Template::PaymentDeclined);
        self.commit(it.payment, it.ride, outcome(it.payment, 1), &declined, template);
        let settlement = Uuid::new_v5(&finish, b"payment settled");
        self.driving_knows(it, settlement, PaymentState::Declined);
        self.charged(it, 1, "declined");
    }

    /// The customer settles a fee.
    fn paid_by_hand(&mut self, it: Ride, state: &str) {
        let told = Seen { state: state.to_owned(), ..seen(it.payment, "payments") };
        self.command(What::SettlePayment, it.ride, told);
    }

    /// An operator gives back a part of the settled fee: answers with the event.
    fn given_back(&mut self, asked: Option<i64>, amount: i64, all: i64) -> Uuid {
        let Ride { ride, driving: driven, payment: id } = SETTLED;
        let told = Seen { state: "REFUNDED".to_owned(), ..seen(id, "payments") };
        let request = self.command(What::RefundPayment, ride, told);
        self.operations.last_mut().expect("the refund").asked = asked;
        let key = Uuid::new_v5(&id, format!("refund operator:O1 {request}").as_bytes());
        let [allocation, customer, driving, payment] = SETTLED.names();
        self.asked("refund", key);
        self.evidence.refunds.push(Refund {
            id: format!("re_{}", self.evidence.refunds.len() + 1),
            idempotency_key: key.to_string(),
            charge: charge_key(driven, 2).to_string(),
            amount,
            driving: driving.clone(),
        });
        self.moved("REFUND", key, id, amount);
        let refunded = PaymentRefunded {
            allocation,
            customer,
            driving,
            payment,
            amount: won(FEE),
            refunded_amount: won(all),
            refund_time: None,
        };
        self.commit(id, ride, outcome(key, 1), &refunded, None)
    }

    /// The provider is asked for a charge, and decides: answers with its name for it.
    pub(super) fn charged(&mut self, it: Ride, number: i32, status: &str) -> String {
        let key = charge_key(it.driving, number);
        let id = format!("ch_{}", self.evidence.charges.len() + 1);
        self.asked("charge", key);
        self.evidence.charges.push(Charge {
            id: id.clone(),
            idempotency_key: key.to_string(),
            amount: FEE,
            customer: people(it.ride)[0].to_owned(),
            driving: format!("drivings/{}", it.driving),
            status: status.to_owned(),
        });
        if status == "approved" {
            self.moved("CHARGE", key, it.payment, FEE);
        }
        id
    }

    pub(in super::super) fn asked(&mut self, operation: &str, key: Uuid) {
        let operation = operation.to_owned();
        self.evidence.requests.push(Asked { operation, idempotency_key: key.to_string() });
    }

    fn moved(&mut self, kind: &str, charge: Uuid, payment: Uuid, amount: i64) {
        let (debit, credit) = match kind {
            "CHARGE" => ("provider_receivable", "fares_earned"),
            _ => ("fares_earned", "provider_receivable"),
        };
        self.evidence.ledger.push(Movement {
            charge,
            kind: kind.to_owned(),
            payment,
            debit: debit.to_owned(),
            credit: credit.to_owned(),
            amount,
            ..Movement::default()
        });
    }

    /// What the accounts come to.
    pub(super) fn balance(&mut self) {
        let charges = self.evidence.ledger.iter();
        let owed = charges.map(|it| if it.kind == "CHARGE" { it.amount } else { -it.amount }).sum();
        let of = |account: &str, amount| Balance { account: account.to_owned(), amount };
        self.evidence.balances = vec![of("provider_receivable", owed), of("fares_earned", -owed)];
    }
}

fn outcome(of: Uuid, attempt: u32) -> Uuid {
    Uuid::new_v5(&of, format!("outcome {attempt}").as_bytes())
}
