//! What was taken is given back, never more of it, and never twice.

use proto::payment::v1::RefundPaymentRequest;

use super::house::{House, Mood, asked, everywhere, fee};
use super::*;

fn won(payment: &Payment) -> (i64, i64) {
    let units = |money: Option<&proto::google::r#type::Money>| money.map_or(0, |it| it.units);
    (units(payment.refunded_amount.as_ref()), units(payment.pending_refund_amount.as_ref()))
}

async fn paid(house: &House) -> Payment {
    let paid = house.pay(fee(1, 100)).await.expect("an answer");
    assert_eq!(paid.state(), State::Approved);
    paid
}

fn refused(reason: &str) -> (Code, String) {
    (Code::FailedPrecondition, reason.to_owned())
}

#[tokio::test]
async fn a_payment_is_given_back_in_parts_and_never_more_of_it() {
    everywhere(async |house| {
        let paid = paid(house).await;
        let part = house.refund(&paid, 1, 1000).await.expect("an answer");
        assert_eq!((part.state(), won(&part)), (State::Refunded, (1000, 0)));
        assert_eq!(house.refund(&paid, 1, 1000).await.expect("an answer"), part, "once");
        let much = house.refund(&paid, 2, 2001).await;
        assert_eq!(code_and_reason(much), refused("REFUND_EXCEEDS_PAYMENT"));
        let all = house.refund(&paid, 3, None).await.expect("an answer");
        assert_eq!((all.state(), won(&all)), (State::Refunded, (3000, 0)));
        let more = house.refund(&paid, 4, None).await;
        assert_eq!(code_and_reason(more), refused("REFUND_EXCEEDS_PAYMENT"));
        let settle = house.settle(&paid, 5).await;
        assert_eq!(code_and_reason(settle), refused("PAYMENT_NOT_OUTSTANDING"));
        assert_eq!(house.provider.moved(), (3000, 3000));
        let told = ["PaymentApproved", "PaymentRefunded", "PaymentRefunded"];
        let told: Vec<_> = told.iter().zip(1..).map(|(name, at)| event(name, at)).collect();
        assert_eq!(house.events().await, told);
    })
    .await;
}

#[tokio::test]
async fn a_refund_without_an_answer_is_asked_for_again_under_the_same_key() {
    everywhere(async |house| {
        let paid = paid(house).await;
        house.provider.is([Mood::LosesItsAnswer, Mood::Away]);
        let pending = house.refund(&paid, 1, 1000).await.expect("an answer");
        assert_eq!((pending.state(), won(&pending)), (State::Approved, (0, 1000)));
        let another = house.refund(&paid, 2, 500).await;
        assert_eq!(code_and_reason(another), refused("REFUND_IN_PROGRESS"));
        assert_eq!(house.refund(&paid, 1, 1000).await.expect("an answer"), pending);

        let pending = house.until_due(&pending).await;
        assert_eq!((pending.state(), won(&pending)), (State::Approved, (0, 1000)));
        let given = house.until_due(&pending).await;
        assert_eq!((given.state(), won(&given)), (State::Refunded, (1000, 0)));
        assert_eq!(house.refund(&paid, 1, 1000).await.expect("an answer"), given);
        assert_eq!(given.attempt_count, 1, "of the charge");
        assert_eq!(house.provider.moved(), (3000, 1000));
        assert_eq!(house.after(60 * SECOND).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_refund_that_the_provider_refuses_is_none() {
    everywhere(async |house| {
        let paid = paid(house).await;
        house.provider.is([Mood::Declines]);
        for _ in 0..2 {
            let said = house.refund(&paid, 1, 1000).await;
            assert_eq!(code_and_reason(said), refused("REFUND_REFUSED"));
        }
        let kept = house.now(&paid).await;
        assert_eq!((kept.state(), won(&kept)), (State::Approved, (0, 0)));
        assert_eq!(house.provider.counts(), (2, 1), "a repetition does not ask again");
        let given = house.refund(&paid, 2, None).await.expect("an answer");
        assert_eq!(won(&given), (3000, 0), "a new request does");
    })
    .await;
}

#[tokio::test]
async fn a_refund_whose_process_dies_is_taken_over_after_its_term() {
    everywhere(async |house| {
        let paid = paid(house).await;
        house.provider.is([Mood::TakesItsTime]);
        tokio::select! {
            answer = house.refund_here(&paid, 1000) => panic!("{answer:?}"),
            // The process is gone.
            () = house.provider.charged.notified() => {}
        }
        let pending = house.now(&paid).await;
        assert_eq!((pending.state(), won(&pending)), (State::Approved, (0, 1000)));
        assert_eq!(house.after(CLAIM_TERM - SECOND).await, 0);
        assert_eq!(house.after(SECOND).await, 1);
        assert_eq!(won(&house.now(&paid).await), (1000, 0));
        assert_eq!(house.provider.moved(), (3000, 1000));
    })
    .await;
}

#[tokio::test]
async fn what_was_not_taken_is_not_given_back() {
    everywhere(async |house| {
        for (ride, mood) in [(1, Mood::Declines), (2, Mood::Away), (3, Mood::Hangs)] {
            house.provider.is([mood]);
            let payment = house.pay(fee(ride, ride)).await.expect("an answer");
            let said = house.refund(&payment, 100 + ride, None).await;
            assert_eq!(code_and_reason(said), refused("PAYMENT_NOT_TAKEN"), "{mood:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn malformed_refunds_are_refused() {
    everywhere(async |house| {
        let paid = paid(house).await;
        let sound = || RefundPaymentRequest { name: paid.name.clone(), ..Default::default() };
        let money = |won| Some(words::money(Money::won(won)));
        for (request, code, reason) in [
            (RefundPaymentRequest { amount: money(0), ..sound() }, 3, "INVALID_AMOUNT"),
            (RefundPaymentRequest { amount: money(-5), ..sound() }, 3, "INVALID_AMOUNT"),
            (RefundPaymentRequest { reason: "\0".to_owned(), ..sound() }, 3, "INVALID_REASON"),
            (RefundPaymentRequest { name: "payments/1".to_owned(), ..sound() }, 3, "INVALID_NAME"),
            (RefundPaymentRequest { etag: "\"0\"".to_owned(), ..sound() }, 10, "ETAG_MISMATCH"),
        ] {
            let said = house.grpc.refund_payment(asked(Role::Operator, "O1", request)).await;
            assert_eq!(code_and_reason(said), (Code::from_i32(code), reason.to_owned()));
        }
        let two = [asked(Role::Operator, "O1", sound()), asked(Role::Operator, "O2", sound())];
        for (mut request, won) in two.into_iter().zip([1000, 500]) {
            request.get_mut().request_id = kernel::Uuid::from_u128(9).to_string();
            request.get_mut().amount = money(won);
            house.grpc.refund_payment(request).await.expect("two operators, two refunds");
        }
        assert_eq!(house.provider.moved(), (3000, 1500));
    })
    .await;
}
