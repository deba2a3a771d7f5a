//! Fees through the front door, on SQLite and on Postgres, with a provider that has its moods.

mod admission;
mod contract;
mod house;
mod ledger;
mod reconciler;
mod refund;
mod settle;
mod webhook;

use std::time::Duration;

use futures::future::join_all;
use kernel::{Money, Role};
use platform::call::Deadline;
use platform::status::reason;
use proto::payment::v1::payment::State;
use proto::payment::v1::payment_service_server::PaymentService;
use proto::payment::v1::{GetPaymentRequest, ListPaymentsRequest, PayFeeRequest, Payment};
use proto::words;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::Config;
use crate::domain::CLAIM_TERM;

use self::house::{Mood, asked, everywhere, fee};

const SECOND: Duration = Duration::from_secs(1);

fn code_and_reason<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("refused");
    (status.code(), reason(&status).unwrap_or_default())
}

fn event(name: &str, version: i64) -> (String, i64) {
    (name.to_owned(), version)
}

#[tokio::test]
async fn a_fee_is_taken_once_whoever_asks_again() {
    everywhere(async |house| {
        let taken = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!((taken.state(), taken.attempt_count), (State::Approved, 1));
        assert!(taken.provider_reference.starts_with("ch_") && taken.approve_time.is_some());
        for request in [1, 2] {
            assert_eq!(house.pay(fee(1, request)).await.expect("an answer"), taken);
        }
        house.finished(fee(1, 0)).await.expect("nothing to do");
        assert_eq!(house.after(100 * SECOND).await, 0);
        assert_eq!(house.provider.counts(), (1, 1));
        assert_eq!(house.events().await, [event("PaymentApproved", 1)]);
    })
    .await;
}

#[tokio::test]
async fn calls_at_the_same_time_make_one_attempt() {
    everywhere(async |house| {
        house.provider.is([Mood::TakesItsTime]);
        // Two of each request: a client that repeats itself too early.
        let calls = join_all((0..8).map(|call| house.pay(fee(1, call / 2 + 1))));
        let answers = async {
            house.provider.charged.notified().await;
            house.provider.answers.notify_one();
        };
        let (calls, ()) = tokio::join!(calls, answers);
        let states = calls.into_iter().map(|answer| answer.expect("an answer").state());
        let states: Vec<State> = states.collect();
        assert!(states.contains(&State::Approved), "{states:?}");
        assert!(
            states.iter().all(|s| [State::Approved, State::InFlight].contains(s)),
            "{states:?}"
        );
        assert_eq!(house.provider.counts(), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_tried_again_and_the_customer_told_once() {
    everywhere(async |house| {
        house.provider.is([Mood::Away; 3]);
        let deferred = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!(deferred.state(), State::Deferred);
        let again = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!((again.state(), again.attempt_count), (State::Deferred, 2));

        let third = house.until_due(&again).await;
        assert_eq!((third.state(), third.attempt_count), (State::Deferred, 3));
        let pause = |payment: &Payment| {
            let times = [&payment.update_time, &payment.next_attempt_time];
            let [before, after] = times.map(|at| words::parse_time(at.as_ref().expect("a time")));
            after.since(before)
        };
        for (payment, whole) in [(&deferred, SECOND), (&again, 2 * SECOND), (&third, 4 * SECOND)] {
            assert!((whole / 2..=whole).contains(&pause(payment)), "{:?}", pause(payment));
        }
        assert_eq!(house.until_due(&third).await.state(), State::Approved);
        assert_eq!(house.after(60 * SECOND).await, 0);
        assert_eq!(house.provider.counts(), (4, 1));
        let told = [event("PaymentDeferred", 1), event("PaymentApproved", 2)];
        assert_eq!(house.events().await, told);
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_found_without_charging_again() {
    everywhere(async |house| {
        house.provider.is([Mood::LosesItsAnswer, Mood::Away]);
        for state in [State::Unknown, State::Unknown, State::Approved] {
            assert_eq!(house.pay(fee(1, 1)).await.expect("an answer").state(), state);
        }
        assert_eq!(house.provider.counts(), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_final() {
    everywhere(async |house| {
        house.provider.is([Mood::Declines]);
        let declined = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!(
            (declined.state(), declined.decline_reason.as_str()),
            (State::Declined, "no money")
        );
        assert_eq!(house.pay(fee(1, 2)).await.expect("an answer"), declined);
        assert_eq!(house.after(100 * SECOND).await, 0);
        assert_eq!(house.events().await, [event("PaymentDeclined", 1)]);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_dies_is_taken_over_after_its_term() {
    everywhere(async |house| {
        house.provider.is([Mood::TakesItsTime; 3]);
        for ride in [1, 2] {
            tokio::select! {
                answer = house.pay_here(fee(ride, ride)) => panic!("{answer:?}"),
                // The process is gone.
                () = house.provider.charged.notified() => {}
            }
        }
        house.wait(CLAIM_TERM - SECOND);
        let busy = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!((busy.state(), busy.attempt_count), (State::InFlight, 1));
        house.wait(SECOND);
        house.provider.answers.notify_one();
        let found = house.pay(fee(1, 1)).await.expect("an answer");
        assert_eq!((found.state(), found.attempt_count), (State::Approved, 2));
        assert_eq!(house.after(Duration::ZERO).await, 1, "the other one is the reconciler's");
        assert_eq!(house.pay(fee(2, 2)).await.expect("an answer").state(), State::Approved);
        assert_eq!(house.provider.counts(), (4, 2));
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_the_charge() {
    everywhere(async |house| {
        house.provider.is([Mood::TakesItsTime]);
        tokio::select! {
            answer = house.pay(fee(1, 1)) => panic!("{answer:?}"),
            () = house.provider.charged.notified() => {}
        }
        house.provider.answers.notify_one();
        testkit::eventually(SECOND * 10, || async {
            let payment = house.pay(fee(1, 1)).await.expect("an answer");
            let paid = (payment.state(), payment.attempt_count);
            if paid == (State::Approved, 1) { Ok(()) } else { Err(paid) }
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_too_late_changes_nothing() {
    everywhere(async |house| {
        house.provider.is([Mood::TakesItsTime]);
        let overtake = async {
            house.provider.charged.notified().await;
            assert_eq!(house.after(CLAIM_TERM).await, 1);
            house.provider.answers.notify_one();
        };
        let (late, ()) = tokio::join!(house.pay(fee(1, 1)), overtake);
        let late = late.expect("an answer");
        assert_eq!((late.state(), late.attempt_count), (State::Approved, 2));
        assert_eq!(house.events().await, [event("PaymentApproved", 1)]);
        assert_eq!(house.provider.counts(), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_fee_nobody_asks_for_is_taken_after_the_grace() {
    everywhere(async |house| {
        for _ in 0..2 {
            house.finished(fee(1, 0)).await.expect("a payment");
        }
        house.finished(fee(2, 0)).await.expect("a payment");
        assert_eq!(house.after(SECOND).await, 0);
        let asked_for = house.pay(fee(2, 1)).await.expect("an answer");
        assert_eq!((asked_for.state(), asked_for.attempt_count), (State::Approved, 1));
        assert_eq!(house.after(SECOND).await, 1);
        let taken = house.pay(fee(1, 2)).await.expect("an answer");
        assert_eq!((taken.state(), taken.attempt_count), (State::Approved, 1));
        assert_eq!(house.provider.counts(), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn without_time_left_the_provider_is_not_asked() {
    everywhere(async |house| {
        let mut request = asked(Role::Service, "driving", fee(1, 1));
        request.extensions_mut().insert(Deadline(Instant::now()));
        let deferred = house.grpc.pay_fee(request).await.expect("an answer").into_inner();
        assert_eq!(deferred.state(), State::Deferred);
        assert_eq!(house.provider.counts(), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_driving_is_not_charged_differently() {
    everywhere(async |house| {
        house.pay(fee(1, 1)).await.expect("an answer");
        let more = Some(words::money(Money::won(3001)));
        let refused = (Code::AlreadyExists, "DRIVING_CHARGED_DIFFERENTLY".to_owned());
        let another = house.pay(PayFeeRequest { amount: more, ..fee(1, 2) }).await;
        assert_eq!(code_and_reason(another), refused);
        let customer = fee(2, 0).customer;
        let another = house.pay(PayFeeRequest { customer, ..fee(1, 3) }).await;
        assert_eq!(code_and_reason(another), refused);
        let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(code_and_reason(house.pay(fee(2, 1)).await), reused);
        assert_eq!(house.provider.counts(), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn malformed_fees_are_refused() {
    everywhere(async |house| {
        let name = || "allocations/1".to_owned();
        for (request, expected) in [
            (PayFeeRequest { driving: name(), ..fee(1, 1) }, "INVALID_NAME"),
            (PayFeeRequest { allocation: name(), ..fee(1, 1) }, "INVALID_NAME"),
            (PayFeeRequest { customer: name(), ..fee(1, 1) }, "INVALID_NAME"),
            (PayFeeRequest { amount: None, ..fee(1, 1) }, "INVALID_AMOUNT"),
            (
                PayFeeRequest { amount: Some(words::money(Money::won(0))), ..fee(1, 1) },
                "INVALID_AMOUNT",
            ),
            (PayFeeRequest { request_id: "1".to_owned(), ..fee(1, 1) }, "INVALID_REQUEST_ID"),
        ] {
            let refused = (Code::InvalidArgument, expected.to_owned());
            assert_eq!(code_and_reason(house.pay(request).await), refused);
        }
    })
    .await;
}

#[tokio::test]
async fn customers_see_their_own_payments() {
    everywhere(async |house| {
        let names = [house.pay(fee(1, 1)).await, house.pay(fee(2, 2)).await]
            .map(|answer| answer.expect("an answer").name);
        let [first, second] = [&names[0], &names[1]].map(String::as_str);
        for (role, subject, sees) in [
            (Role::Customer, "C1", vec![first]),
            (Role::Customer, "C3", vec![]),
            (Role::Driver, "C1", vec![]),
            (Role::Operator, "O1", vec![second, first]),
        ] {
            let request = asked(role, subject, ListPaymentsRequest::default());
            let list = house.grpc.list_payments(request).await.expect("a page").into_inner();
            let listed: Vec<&str> = list.payments.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(listed, sees, "{subject}");
            let request = GetPaymentRequest { name: first.to_owned() };
            let got = house.grpc.get_payment(asked(role, subject, request)).await;
            assert_eq!(got.is_ok(), sees.contains(&first), "{subject}");
        }
        let states = vec![State::Declined.into()];
        let request = ListPaymentsRequest { states, ..Default::default() };
        let list = house.grpc.list_payments(asked(Role::Operator, "O1", request)).await;
        assert_eq!(list.expect("a page").into_inner().payments, []);
    })
    .await;
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let sound = Config::default;
    assert_eq!(sound().check(), Ok(()));
    for (config, key) in [
        (Config { provider_timeout: CLAIM_TERM, ..sound() }, "payment.provider_timeout"),
        (Config { provider_timeout: Duration::ZERO, ..sound() }, "payment.provider_timeout"),
        (Config { retry_first: 2 * sound().retry_max, ..sound() }, "payment.retry_first"),
        (Config { retry_first: Duration::ZERO, ..sound() }, "payment.retry_first"),
        (Config { queue: std::num::NonZeroUsize::MIN, ..sound() }, "payment.queue"),
    ] {
        let sentence = config.check().expect_err(key);
        assert!(sentence.starts_with(key), "{sentence}");
    }
}
