//! What can happen to money, and which invariant says so.

use kernel::Uuid;
use proto::message::v1::message::Template;

use super::super::money::charge_key;
use super::scene::{DRIVING, OWED, PAYER, PAYMENT, RIDE, SETTLED, Scene, refused, request, seen};
use super::{all_break, broken, judged};
use crate::evidence::{Charge, Due};
use crate::history::{Outcome, Seen, What};

#[test]
fn a_violation_names_its_ride() {
    let mut scene = Scene::good();
    scene.evidence.charges.remove(0);
    let verdicts = judged(&scene);
    let [violation] = &verdicts[0].violations[..] else { panic!("{verdicts:?}") };
    assert_eq!(violation.ride, Some(RIDE));
    assert_eq!(violation.why, "0 charges under key 1 of a payment that is APPROVED");
}

#[test]
fn a_fee_that_is_not_taken_once() {
    all_break(
        "I1",
        &[
            |s| s.evidence.payments.clear(),
            |s| s.evidence.charges.clear(),
            |s| s.evidence.charges.push(s.evidence.charges[0].clone()),
            |s| s.evidence.charges[0].amount = 999,
            |s| s.evidence.charges[0].customer = "customers/other".to_owned(),
            |s| s.evidence.charges[0].status = "declined".to_owned(),
            |s| s.evidence.charges[0].idempotency_key = Uuid::nil().to_string(),
            |s| s.evidence.charges[0].id = "ch_other".to_owned(),
            |s| s.evidence.charges[0].driving = format!("drivings/{}", Uuid::nil()),
            |s| s.driving(DRIVING).fare = Some(2000),
            |s| s.driving(DRIVING).state = "STARTED".to_owned(),
            |s| {
                let copy = s.evidence.payments[&PAYMENT].clone();
                s.evidence.payments.insert(Uuid::nil(), copy);
            },
            // Charged a second time, under another key, though the first was approved.
            |s| {
                let idempotency_key = charge_key(DRIVING, 2).to_string();
                let again = Charge { idempotency_key, ..s.evidence.charges[0].clone() };
                s.evidence.charges.push(again);
                s.payment().charge_number = 2;
            },
            // The refused key was charged, too.
            |s| charge(s, 1).status = "approved".to_owned(),
            // Settled under a key of which the provider knows nothing, or a refusal.
            |s| s.evidence.charges.retain(|it| it.id != "ch_3"),
            |s| charge(s, 2).status = "declined".to_owned(),
            |s| s.payment_of(SETTLED.payment).charge_number = 1,
            // Still owed, and taken.
            |s| charge(s, 3).status = "approved".to_owned(),
            |s| s.asked("charge", charge_key(DRIVING, 2)),
            |s| s.asked("look_up", Uuid::nil()),
        ],
    );
}

/// The charges are in the order of the scene: paid, refused, settled, still owed.
fn charge(scene: &mut Scene, number: usize) -> &mut Charge {
    &mut scene.evidence.charges[number]
}

#[test]
fn books_that_differ() {
    all_break(
        "I2",
        &[
            |s| s.evidence.charges[0].amount = 999,
            |s| s.payment().state = "UNKNOWN".to_owned(),
            |s| s.payment_of(OWED.payment).state = "APPROVED".to_owned(),
            // A charge is not in the ledger, is there twice, or with another sum.
            |s| drop(s.evidence.ledger.remove(0)),
            |s| s.evidence.ledger.push(s.evidence.ledger[0].clone()),
            |s| s.evidence.ledger[0].amount = 999,
            |s| s.evidence.ledger[0].charge = Uuid::nil(),
            |s| s.evidence.ledger[0].payment = OWED.payment,
            |s| {
                let row = &mut s.evidence.ledger[0];
                std::mem::swap(&mut row.debit, &mut row.credit);
            },
            // A refund is lost: in the ledger, at the provider, in the payment.
            |s| drop(s.evidence.ledger.pop()),
            |s| drop(s.evidence.refunds.pop()),
            |s| s.payment_of(SETTLED.payment).refunded_amount = 400,
            |s| s.payment_of(SETTLED.payment).state = "APPROVED".to_owned(),
            // Another sum, or another charge than the one that took the money.
            |s| s.evidence.refunds[0].amount = 399,
            |s| s.evidence.refunds[0].charge = charge_key(SETTLED.driving, 1).to_string(),
            // Given back twice.
            |s| {
                let mut again = s.evidence.refunds[0].clone();
                again.idempotency_key = Uuid::nil().to_string();
                s.evidence.refunds.push(again);
            },
            |s| s.evidence.balances[0].amount += 1,
            |s| s.evidence.balances.clear(),
        ],
    );
}

#[test]
fn a_refund_that_nobody_wanted_or_got() {
    all_break(
        "I13",
        &[
            |s| s.operation(What::RefundPayment).outcome = refused("REFUND_EXCEEDS_PAYMENT"),
            |s| s.operation(What::RefundPayment).asked = Some(401),
            |s| s.operation(What::RefundPayment).request_id = Some(request(99)),
            |s| s.operation(What::RefundPayment).who = "operators/other".to_owned(),
            // Told OK, and never given back.
            |s| s.evidence.ledger.retain(|row| row.kind == "CHARGE"),
            // All that was left was asked for, and something still is.
            |s| s.payment_of(SETTLED.payment).refunded_amount = 999,
            |s| s.asked("refund", Uuid::nil()),
        ],
    );
    let unanswered = broken(|s| {
        let (code, message) = (tonic::Code::Unavailable, String::new());
        s.operation(What::RefundPayment).outcome = Outcome::Unknown { code, message };
    });
    assert!(!unanswered.contains("I13"), "it may have been done: {unanswered:?}");
}

#[test]
fn somebody_who_owes_what_was_paid_or_not_what_was_declined() {
    all_break(
        "I14",
        &[
            |s| s.evidence.dues.clear(),
            |s| due(s, OWED.payment).debtor = None,
            |s| due(s, OWED.payment).debtor = Some("customers/other".to_owned()),
            |s| due(s, SETTLED.payment).debtor = Some(PAYER.to_owned()),
            |s| due(s, SETTLED.payment).version = 3,
            |s| s.evidence.dues.push(Due { payment: PAYMENT, version: 1, debtor: None }),
            |s| s.evidence.dues.push(Due { payment: Uuid::nil(), version: 1, debtor: None }),
            |s| s.payment_of(OWED.payment).state = "APPROVED".to_owned(),
            |s| {
                let no = refused("OUTSTANDING_PAYMENT");
                s.log("customers/other", What::RequestAllocation, Some(request(99)), RIDE, no);
            },
        ],
    );
    let owed = broken(|s| {
        let no = refused("OUTSTANDING_PAYMENT");
        s.log(PAYER, What::RequestAllocation, Some(request(99)), RIDE, no);
    });
    assert_eq!(owed, [].into(), "whoever owes is told so");
}

fn due(scene: &mut Scene, payment: Uuid) -> &mut Due {
    scene.evidence.dues.iter_mut().find(|it| it.payment == payment).expect("a due")
}

#[test]
fn something_untrue_of_a_fee() {
    all_break(
        "I15",
        &[
            |s| told(s, OWED.payment, OWED.ride, "APPROVED"),
            |s| told(s, PAYMENT, RIDE, "DECLINED"),
            |s| told(s, PAYMENT, RIDE, "REFUNDED"),
            // Taken, and then not.
            |s| told(s, SETTLED.payment, SETTLED.ride, "DEFERRED"),
            |s| s.told(What::FinishDriving).payment_state = Some("DECLINED".to_owned()),
        ],
    );
    let before = broken(|s| {
        told(s, SETTLED.payment, SETTLED.ride, "DEFERRED");
        s.operations.last_mut().expect("it").from = std::time::Duration::ZERO;
    });
    assert!(!before.contains("I15"), "it was asked before: {before:?}");
}

#[test]
fn a_last_word_that_is_not_told_last() {
    all_break(
        "I16",
        &[
            // The messages of the settled ride in another order.
            |s| exchange(s, Template::PaymentDeferred, Template::PaymentApproved),
            |s| exchange(s, Template::PaymentDeclined, Template::PaymentDeferred),
            // Driving says that it comes later, after the verdict.
            |s| {
                let at = place(s, Template::PaymentDeclined);
                let mut late = s.evidence.told[at].clone();
                late.cause = Some(s.evidence.stream[0].id);
                late.message.as_mut().expect("a message").template =
                    Template::PaymentDeferred.into();
                s.evidence.told.insert(at + 1, late);
            },
        ],
    );
}

/// Somebody reads a payment after all that was done to it.
fn told(scene: &mut Scene, payment: Uuid, ride: Uuid, state: &str) {
    let seen = Seen { state: state.to_owned(), ..seen(payment, "payments") };
    scene.log(PAYER, What::GetPayment, None, ride, Outcome::Ok(seen));
}

/// The place of the settled ride's message by this template.
fn place(scene: &Scene, template: Template) -> usize {
    let allocation = format!("allocations/{}", SETTLED.ride);
    let is = |message: &proto::message::v1::Message| {
        message.allocation == allocation && message.template() == template
    };
    let mut told = scene.evidence.told.iter();
    told.position(|it| it.message.as_ref().is_some_and(is)).expect("a message")
}

fn exchange(scene: &mut Scene, one: Template, other: Template) {
    let (one, other) = (place(scene, one), place(scene, other));
    scene.evidence.told.swap(one, other);
}
