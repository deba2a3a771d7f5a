//! More callers than there is room for.

use std::num::NonZeroUsize;

use platform::status::retry_after;

use super::house::{House, Mood, everywhere_with, fee};
use super::*;

pub(super) fn room(concurrency: usize, queue: usize) -> Config {
    let bound = |bound| NonZeroUsize::new(bound).expect("not 0");
    Config { concurrency: bound(concurrency), queue: bound(queue), ..Config::default() }
}

/// While one caller is being served, with a provider that takes its time.
async fn while_busy(house: &House, test: impl AsyncFn()) {
    house.provider.is([Mood::TakesItsTime]);
    let meanwhile = async {
        house.provider.charged.notified().await;
        test().await;
        house.provider.answers.notify_one();
    };
    let (served, ()) = tokio::join!(house.pay(fee(9, 900)), meanwhile);
    assert_eq!(served.expect("an answer").state(), State::Approved);
}

#[tokio::test]
async fn over_the_first_bound_a_fee_is_deferred_without_asking() {
    everywhere_with(room(1, 8), async |house| {
        let paid = house.pay(fee(1, 1)).await.expect("an answer");
        while_busy(house, async || {
            let asked = house.provider.counts();
            let deferred = house.pay(fee(2, 2)).await.expect("an answer");
            assert_eq!((deferred.state(), deferred.attempt_count), (State::Deferred, 0));
            assert!(deferred.next_attempt_time.is_some());
            assert_eq!(house.pay(fee(2, 2)).await.expect("an answer"), deferred);
            assert_eq!(house.pay(fee(2, 3)).await.expect("an answer"), deferred);
            // What is settled is only read.
            assert_eq!(house.pay(fee(1, 4)).await.expect("an answer"), paid);
            let differently = PayFeeRequest { customer: "customers/C7".into(), ..fee(1, 5) };
            let refused = (Code::AlreadyExists, "DRIVING_CHARGED_DIFFERENTLY".to_owned());
            assert_eq!(code_and_reason(house.pay(differently).await), refused);
            assert_eq!(house.provider.counts(), asked);
        })
        .await;
        assert_eq!(house.after(SECOND).await, 1);
        assert_eq!(house.pay(fee(2, 2)).await.expect("an answer").state(), State::Approved);
        let told = ["PaymentApproved", "PaymentDeferred", "PaymentApproved", "PaymentApproved"];
        let events = house.events().await;
        assert_eq!(events.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), told);
    })
    .await;
}

#[tokio::test]
async fn over_the_first_bound_nothing_is_settled_or_given_back() {
    everywhere_with(room(1, 8), async |house| {
        house.provider.is([Mood::Declines]);
        let declined = house.pay(fee(1, 1)).await.expect("an answer");
        while_busy(house, async || {
            for said in [house.settle(&declined, 2).await, house.refund(&declined, 3, None).await] {
                let refused = (Code::ResourceExhausted, "OVERLOADED".to_owned());
                assert_eq!(code_and_reason(said), refused);
            }
        })
        .await;
        assert_eq!(house.now(&declined).await, declined);
        assert_eq!(house.settle(&declined, 2).await.expect("not spent").state(), State::Approved);
    })
    .await;
}

#[tokio::test]
async fn over_the_second_bound_callers_are_sent_away_before_anything_is_stored() {
    everywhere_with(room(1, 1), async |house| {
        while_busy(house, async || {
            let refused = house.pay(fee(2, 2)).await.expect_err("no room");
            assert!(retry_after(&refused).is_some(), "says when to come back");
            let overloaded = (Code::ResourceExhausted, "OVERLOADED".to_owned());
            assert_eq!(code_and_reason::<()>(Err(refused)), overloaded);
        })
        .await;
        assert_eq!(house.events().await.len(), 1);
        assert_eq!(house.pay(fee(2, 2)).await.expect("an answer").attempt_count, 1);
    })
    .await;
}
