//! The same request twice has one effect, and the same answer.

use futures::future::join_all;
use proto::allocation::v1::ListAllocationsRequest;
use proto::allocation::v1::allocation::State;
use proto::driving::v1::FinishDrivingRequest;
use rstest::rstest;
use testkit::Backing;
use tonic::Code;

use crate::people::{Customer, Driver, dev, refusal, wish, with};

const ID: &str = "0192f0c1-7a3b-7c44-9d55-0123456789ab";

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_has_one_effect(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let request = || {
        let mut request = wish("Misa");
        request.request_id = ID.to_owned();
        request
    };
    let asks = (0..8).map(|_| {
        let mut client = customer.allocations.clone();
        async move { client.request_allocation(request()).await }
    });
    let mut answers: Vec<_> = join_all(asks)
        .await
        .into_iter()
        .map(|answer| answer.expect("the same request").into_inner())
        .collect();
    answers.dedup();
    assert_eq!(answers.len(), 1, "concurrent repetitions get the same answer");
    let first = answers.remove(0);

    // Whatever happens to the ride meanwhile, it stays the answer.
    let driver = Driver::new(&mesh, "D1").await;
    let open = driver.finds(&first.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    customer.sees(&first.name, State::Approved).await;
    assert_eq!(customer.ask(request()).await.expect("the same request").into_inner(), first);

    // The field wins over the header; the header is taken when the field is empty.
    let by_header = with(wish("Misa"), "idempotency-key", ID);
    let again = customer.allocations.request_allocation(by_header).await.expect("the same");
    assert_eq!(again.into_inner(), first);

    let mut other = request();
    other.allocation = wish("Gangnam").allocation;
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(refusal(customer.ask(other).await), reused);

    // Another customer's ids are their own.
    let mut neighbour = Customer::new(&mesh, "C2").await;
    let theirs = neighbour.ask(request()).await.expect("their own request").into_inner();
    assert_ne!(theirs.name, first.name);
    let list = customer.allocations.list_allocations(ListAllocationsRequest::default()).await;
    assert_eq!(list.expect("a list").into_inner().allocations.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn finishing_twice_takes_the_fee_once() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let finish = || async {
        let request = FinishDrivingRequest {
            name: open.name.clone(),
            request_id: ID.to_owned(),
            ..Default::default()
        };
        driver.drivings.clone().finish_driving(request).await
    };
    let mut answers: Vec<_> = join_all((0..4).map(|_| finish()))
        .await
        .into_iter()
        .map(|answer| answer.expect("the same request").into_inner())
        .collect();
    answers.push(finish().await.expect("the same request").into_inner());
    answers.dedup();
    let [finished] = answers.as_slice() else { panic!("one answer, not {answers:#?}") };
    assert_eq!(finished.fare.as_ref().map(|fare| fare.units), Some(1000));
    assert_eq!(customer.payments().await.len(), 1);
    let again = refusal(driver.finish(&open.name).await);
    assert_eq!(again, (Code::FailedPrecondition, "DRIVING_CLOSED".to_owned()));
}
