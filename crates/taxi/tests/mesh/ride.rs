//! The ride from the first request to the paid fare.

use proto::allocation::v1::WatchAllocationRequest;
use proto::allocation::v1::allocation::State;
use proto::driving::v1::driving::{PaymentState, State as Driving};
use proto::message::v1::WatchMessagesRequest;
use proto::message::v1::message::{State as Sent, Template};
use proto::payment::v1::payment::State as Payment;
use rstest::rstest;
use testkit::{Backing, eventually};

use crate::people::{Customer, Driver, SOON, consistency_token, dev, wish, with};

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_ride_from_the_first_request_to_the_paid_fare(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let mut customer = Customer::new(&mesh, "auth0|a.b*>").await;
    let driver = Driver::new(&mesh, "D1").await;

    let requested = customer.ask(wish("Misa")).await.expect("a car is asked for");
    let token = consistency_token(&requested);
    let allocation = requested.into_inner();
    assert_eq!(allocation.state(), State::Requested);
    assert_eq!(allocation.customer, "customers/auth0%7Ca.b%2A%3E");
    let info = customer.info(&allocation.name, &token).await;
    assert_eq!(info.alloc_status(), State::Requested, "the view has what was written");

    let watch = WatchAllocationRequest { name: allocation.name.clone(), ..Default::default() };
    let watch = customer.allocations.watch_allocation(watch).await.expect("it is theirs");
    let states = tokio::spawn(async move {
        let mut changes = watch.into_inner();
        let mut states = Vec::new();
        while let Some(change) = changes.message().await.expect("the stream ends well") {
            states.push(change.allocation.expect("always there").state());
        }
        states.dedup();
        states
    });

    let open = driver.finds(&allocation.name).await;
    assert_eq!(open.state(), Driving::Requested);
    assert_eq!(open.destination.as_ref().map(|at| at.address.as_str()), Some("Misa"));
    let accepted = driver.accept(&open.name).await.expect("nobody else is there").into_inner();
    assert_eq!((accepted.state(), accepted.driver.as_str()), (Driving::Approved, "drivers/D1"));
    customer.sees(&allocation.name, State::Approved).await;

    let started = driver.start(&open.name).await.expect("accepted").into_inner();
    assert_eq!(started.state(), Driving::Started);
    customer.sees(&allocation.name, State::DrivingStarted).await;

    let finished = driver.finish(&open.name).await.expect("started");
    let token = consistency_token(&finished);
    let finished = finished.into_inner();
    assert_eq!(finished.state(), Driving::Finished);
    assert_eq!(finished.payment_state(), PaymentState::Approved, "paid at once");
    assert_eq!(finished.fare.as_ref().map(|fare| fare.units), Some(1000), "one minute at least");
    let why = finished.fare_explanation.as_ref().expect("a fare is explained");
    assert_eq!((why.minutes, why.rate_per_minute.as_ref().map(|rate| rate.units)), (1, Some(1000)));
    customer.sees(&allocation.name, State::DrivingFinished).await;

    let payments = customer.payments().await;
    let [payment] = payments.as_slice() else { panic!("one payment, not {payments:?}") };
    assert_eq!((payment.state(), &payment.name), (Payment::Approved, &finished.payment));
    assert_eq!(payment.amount, finished.fare);

    let info = customer.info(&allocation.name, &token).await;
    assert_eq!(info.alloc_status(), State::DrivingFinished);
    assert_eq!(info.driving_status(), Driving::Finished);
    assert_eq!((&info.fee, &info.payment), (&finished.fare, &finished.payment));
    assert_eq!((&info.driving, &info.driver), (&open.name, &driver.name));
    let info = eventually(SOON, || async {
        let info = customer.info(&allocation.name, "").await;
        if info.payment_status() == Payment::Approved { Ok(info) } else { Err(info) }
    })
    .await;
    let timeline: Vec<_> = info.timeline.iter().map(|entry| entry.event.as_str()).collect();
    for event in ["AllocationRequested", "DrivingApproved", "DrivingFinished", "PaymentApproved"] {
        assert_eq!(timeline.iter().filter(|seen| **seen == event).count(), 1, "{timeline:?}");
    }

    use State::{Approved, DrivingFinished, DrivingStarted, Requested};
    let states = states.await.expect("the watcher lives");
    assert_eq!(states, [Requested, Approved, DrivingStarted, DrivingFinished]);

    let told = eventually(SOON, || async {
        let messages = customer.messages().await;
        if messages.len() >= 5 { Ok(messages) } else { Err(messages) }
    })
    .await;
    assert!(told.iter().all(|message| message.state() == Sent::Sent && message.language == "ko"));
    assert!(told.iter().all(|message| message.allocation == allocation.name));
    let mut templates: Vec<_> = told.iter().map(|message| message.template()).collect();
    templates.sort();
    assert_eq!(
        templates,
        [
            Template::AllocationRequested,
            Template::AllocationApproved,
            Template::DrivingStarted,
            Template::DrivingFinished,
            Template::PaymentApproved,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_told_in_their_language_as_it_happens() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let watch = WatchMessagesRequest { parent: customer.name.clone(), ..Default::default() };
    let watch = customer.messages.watch_messages(watch).await.expect("their own inbox");
    let mut watch = watch.into_inner();

    let request = with(wish("Misa"), "accept-language", "en-US,en;q=0.9");
    let allocation = customer.allocations.request_allocation(request).await.expect("asked");
    let first = watch.message().await.expect("a message").expect("no end");
    let message = first.message.expect("always there");
    assert_eq!(
        (message.template(), message.language.as_str()),
        (Template::AllocationRequested, "en")
    );
    assert!(message.text.contains("Misa") && message.text.is_ascii(), "{}", message.text);

    let open = driver.finds(&allocation.get_ref().name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    let second = watch.message().await.expect("a message").expect("no end");
    assert_eq!(second.message.expect("always there").language, "en");

    // A reader who comes back with the first token misses nothing and hears nothing twice.
    let again =
        WatchMessagesRequest { parent: customer.name.clone(), resume_token: first.resume_token };
    let again = customer.messages.watch_messages(again).await.expect("their own inbox");
    let next = again.into_inner().message().await.expect("a message").expect("no end");
    assert_eq!(next.message.expect("always there").template(), Template::AllocationApproved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_fee_is_said_so_and_the_driving_still_finishes() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "declined-1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let finished = driver.finish(&open.name).await.expect("started").into_inner();
    assert_eq!(finished.state(), Driving::Finished);
    assert_eq!(finished.payment_state(), PaymentState::Declined);
    let payments = customer.payments().await;
    assert_eq!(
        payments.iter().map(|payment| payment.state()).collect::<Vec<_>>(),
        [Payment::Declined]
    );
}
