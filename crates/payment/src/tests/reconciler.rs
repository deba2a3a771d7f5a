//! What has waited for the provider does not run it over, and replicas do not fight.

use std::num::NonZeroU32;

use kernel::DrivingId;

use super::house::{Mood, everywhere, everywhere_with, fee};
use super::*;

#[tokio::test]
async fn a_provider_that_comes_back_is_not_run_over() {
    let reconcile_rate = NonZeroU32::new(2).expect("not 0");
    everywhere_with(Config { reconcile_rate, ..Config::default() }, async |house| {
        house.provider.is([Mood::Away; 5]);
        for ride in 1..=5 {
            house.pay(fee(ride, ride)).await.expect("an answer");
        }
        assert_eq!(house.after(10 * SECOND).await, 2, "a second's worth");
        assert_eq!(house.after(Duration::ZERO).await, 0);
        assert_eq!(house.after(SECOND / 2).await, 1);
        assert_eq!(house.after(SECOND).await, 2);
        assert_eq!(house.after(10 * SECOND).await, 0);
        assert_eq!(house.provider.moved(), (15_000, 0));
    })
    .await;
}

#[tokio::test]
async fn two_replicas_make_one_attempt_of_each() {
    everywhere(async |house| {
        house.provider.is([Mood::Away; 16]);
        for ride in 1..=8 {
            house.pay(fee(ride, ride)).await.expect("an answer");
        }
        house.wait(10 * SECOND);
        let replica = house.replica().await;
        let (here, there) =
            tokio::join!(house.after(Duration::ZERO), replica.attempt_due(&house.tasks));
        assert!(here + there.expect("a database") >= 8);
        assert_eq!(house.provider.counts(), (16, 0), "what has just failed is not due");
        assert_eq!(house.after(60 * SECOND).await, 8);
        assert_eq!(house.provider.counts(), (24, 8));
    })
    .await;
}

#[tokio::test]
async fn news_from_the_provider_is_acted_upon_at_once() {
    everywhere(async |house| {
        house.provider.is([Mood::LosesItsAnswer]);
        let unknown = house.pay(fee(1, 1)).await.expect("an answer");
        let driving: DrivingId = unknown.driving.parse().expect("a name");
        let acting = house.act_on_news();
        house.grpc.payments.heard_of(driving).await.expect("a database");
        testkit::eventually(10 * SECOND, || async {
            let state = house.now(&unknown).await.state();
            if state == State::Approved { Ok(()) } else { Err(state) }
        })
        .await;
        let paid = house.now(&unknown).await;
        house.grpc.payments.heard_of(driving).await.expect("a duplicate");
        let nobody = DrivingId(kernel::Uuid::from_u128(99));
        house.grpc.payments.heard_of(nobody).await.expect("nothing to do");
        assert_eq!(house.now(&unknown).await, paid);
        assert_eq!(house.provider.counts(), (2, 1));
        house.tasks.trigger();
        acting.await.expect("ends when asked");
    })
    .await;
}
