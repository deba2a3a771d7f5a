//! What is outstanding is taken when somebody asks for it.

use super::house::{Mood, asked, everywhere, fee};
use super::*;
use proto::payment::v1::SettlePaymentRequest;

fn settle_of(payment: &Payment, request: &str, etag: &str) -> SettlePaymentRequest {
    let request_id = request.to_owned();
    SettlePaymentRequest { name: payment.name.clone(), request_id, etag: etag.to_owned() }
}

#[tokio::test]
async fn a_refused_fee_is_settled_under_a_new_key_and_once_a_request() {
    everywhere(async |house| {
        house.provider.is([Mood::Declines, Mood::Declines]);
        let declined = house.pay(fee(1, 1)).await.expect("an answer");
        let again = house.settle(&declined, 2).await.expect("an answer");
        assert_eq!((again.state(), again.attempt_count), (State::Declined, 2));
        assert_eq!(house.settle(&declined, 2).await.expect("an answer"), again, "no new attempt");
        let paid = house.settle(&declined, 3).await.expect("an answer");
        assert_eq!((paid.state(), paid.attempt_count), (State::Approved, 3));
        assert_eq!(paid.decline_reason, "");
        // Whoever repeats an old request reads the present.
        assert_eq!(house.settle(&declined, 2).await.expect("an answer"), paid);
        assert_eq!(house.provider.counts(), (3, 3));
        let told = ["PaymentDeclined", "PaymentDeclined", "PaymentApproved"];
        let told: Vec<_> = told.iter().zip(1..).map(|(name, at)| event(name, at)).collect();
        assert_eq!(house.events().await, told);
    })
    .await;
}

#[tokio::test]
async fn a_deferred_fee_is_tried_now() {
    everywhere(async |house| {
        house.provider.is([Mood::Away]);
        let deferred = house.pay(fee(1, 1)).await.expect("an answer");
        let paid = house.settle(&deferred, 2).await.expect("an answer");
        assert_eq!((paid.state(), paid.attempt_count), (State::Approved, 2));
        assert_eq!(house.after(60 * SECOND).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_requested_fee_is_tried_now() {
    everywhere(async |house| {
        house.finished(fee(1, 0)).await.expect("a payment");
        let list = ListPaymentsRequest::default();
        let list = house.grpc.list_payments(asked(Role::Operator, "O1", list)).await;
        let requested = list.expect("a page").into_inner().payments.pop().expect("a payment");
        assert_eq!(requested.state(), State::Requested);
        let paid = house.settle(&requested, 2).await.expect("an answer");
        assert_eq!((paid.state(), paid.attempt_count), (State::Approved, 1));
    })
    .await;
}

#[tokio::test]
async fn an_unknown_fee_is_looked_up_and_charged_only_if_the_provider_knows_of_none() {
    everywhere(async |house| {
        for (ride, lost) in [(1, Mood::LosesItsAnswer), (2, Mood::Hangs)] {
            house.provider.is([lost]);
            let request = u128::from(ride as u8) * 10;
            let unknown = house.pay(fee(ride, request)).await.expect("an answer");
            assert_eq!(unknown.state(), State::Unknown);
            let paid = house.settle(&unknown, request + 1).await.expect("an answer");
            assert_eq!(paid.state(), State::Approved);
        }
        // One look is enough for what was taken; the other one is looked up, then charged.
        assert_eq!(house.provider.counts(), (5, 2));
        assert_eq!(house.provider.moved(), (6000, 0));
    })
    .await;
}

#[tokio::test]
async fn a_look_that_finds_a_refusal_settles_the_doubt() {
    everywhere(async |house| {
        house.provider.is([Mood::Declines]);
        let declined = house.pay(fee(1, 1)).await.expect("an answer");
        house.provider.is([Mood::Hangs, Mood::Away]);
        let unknown = house.settle(&declined, 2).await.expect("an answer");
        assert_eq!(unknown.state(), State::Unknown);
        let still = house.settle(&declined, 3).await.expect("an answer");
        assert_eq!((still.state(), still.attempt_count), (State::Unknown, 3));
        let paid = house.until_due(&still).await;
        assert_eq!((paid.state(), paid.attempt_count), (State::Approved, 4));
        assert_eq!(house.provider.moved(), (3000, 0));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_outstanding_is_not_settled() {
    everywhere(async |house| {
        let refused = |reason: &str| (Code::FailedPrecondition, reason.to_owned());
        let paid = house.pay(fee(1, 1)).await.expect("an answer");
        let said = house.settle(&paid, 2).await;
        assert_eq!(code_and_reason(said), refused("PAYMENT_NOT_OUTSTANDING"));

        house.provider.is([Mood::TakesItsTime]);
        let busy = async {
            house.provider.charged.notified().await;
            let list = ListPaymentsRequest::default();
            let list = house.grpc.list_payments(asked(Role::Operator, "O1", list)).await;
            let flying = list.expect("a page").into_inner().payments.swap_remove(0);
            let said = house.settle(&flying, 4).await;
            house.provider.answers.notify_one();
            assert_eq!(code_and_reason(said), refused("PAYMENT_IN_FLIGHT"));
        };
        let (paid, ()) = tokio::join!(house.pay(fee(2, 3)), busy);
        assert_eq!(paid.expect("an answer").state(), State::Approved);
        assert_eq!(house.provider.counts(), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn customers_settle_their_own_payments_as_they_saw_them() {
    everywhere(async |house| {
        house.provider.is([Mood::Declines]);
        let declined = house.pay(fee(1, 1)).await.expect("an answer");
        let settle = async |subject, etag: &str| {
            let request = asked(Role::Customer, subject, settle_of(&declined, "", etag));
            house.grpc.settle_payment(request).await
        };
        let missing = (Code::NotFound, "PAYMENT_NOT_FOUND".to_owned());
        assert_eq!(code_and_reason(settle("C2", "").await), missing);
        let outdated = (Code::Aborted, "ETAG_MISMATCH".to_owned());
        assert_eq!(code_and_reason(settle("C1", "\"0\"").await), outdated);
        let paid = settle("C1", &declined.etag).await.expect("an answer").into_inner();
        assert_eq!(paid.state(), State::Approved);
    })
    .await;
}
