//! The cancel rule: until the driving starts, decided by driving.

use proto::allocation::v1::WatchAllocationRequest;
use proto::allocation::v1::allocation::State;
use proto::driving::v1::DeclineDrivingRequest;
use proto::driving::v1::driving::State as Driving;
use proto::message::v1::message::Template;
use rstest::rstest;
use testkit::{Backing, eventually};
use tonic::Code;

use crate::people::{Customer, Driver, SOON, dev, refusal, serve};

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_driving_is_withdrawn_and_its_driver_is_free(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");

    let cancelled = customer.cancel(&allocation.name).await.expect("not started");
    assert_eq!(cancelled.state(), State::Cancelled);
    let watch =
        |resume_token| WatchAllocationRequest { name: allocation.name.clone(), resume_token };
    let mut last =
        customer.allocations.watch_allocation(watch(String::new())).await.expect("theirs");
    let last = last.get_mut().message().await.expect("a change").expect("the present state");
    let over = customer.allocations.watch_allocation(watch(last.resume_token)).await;
    let over = over.expect("theirs").into_inner().message().await.expect("a clean end");
    assert_eq!(over, None, "who has seen the end gets nothing but the end");
    assert_eq!(cancelled.cancel_reason, "changed my mind");
    let refused = refusal(driver.start(&open.name).await);
    assert_eq!(refused, (Code::FailedPrecondition, "DRIVING_CLOSED".to_owned()));

    let next = customer.request().await;
    let open = driver.finds(&next.name).await;
    driver.accept(&open.name).await.expect("the driver is free again");
    let told = eventually(SOON, || async {
        let told: Vec<_> = customer.messages().await.iter().map(|m| m.template()).collect();
        let approvals = told.iter().filter(|t| **t == Template::AllocationApproved).count();
        if approvals == 2 { Ok(told) } else { Err(told) }
    })
    .await;
    assert_eq!(told.len(), 4, "no message on cancel: {told:?}");
    assert_eq!(customer.payments().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_late_is_too_late() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let too_late = (Code::FailedPrecondition, "DRIVING_ALREADY_STARTED".to_owned());
    assert_eq!(refusal(customer.cancel(&allocation.name).await), too_late);
    let back = customer.sees(&allocation.name, State::DrivingStarted).await;
    assert_eq!(back.driver, "drivers/D1");
    let finished = driver.finish(&open.name).await.expect("it goes on").into_inner();
    assert_eq!(finished.state(), Driving::Finished);
    customer.sees(&allocation.name, State::DrivingFinished).await;
    assert_eq!(refusal(customer.cancel(&allocation.name).await), too_late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_driving_is_hidden_from_this_driver_only() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let (first, second) = (Driver::new(&mesh, "D1").await, Driver::new(&mesh, "D2").await);
    let allocation = customer.request().await;
    let open = first.finds(&allocation.name).await;
    let decline = DeclineDrivingRequest { name: open.name.clone(), ..Default::default() };
    first.drivings.clone().decline_driving(decline).await.expect("it is open");
    assert_eq!(first.list().await, []);
    assert_eq!(
        refusal(first.accept(&open.name).await),
        (Code::NotFound, "DRIVING_NOT_FOUND".into())
    );
    let open = second.finds(&allocation.name).await;
    second.accept(&open.name).await.expect("open to others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_without_driving_is_decided_when_driving_is_back() {
    let mut mesh = serve().await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let allocation = customer.request().await;
    mesh.kill("driving");
    let cancelling = customer.cancel(&allocation.name).await.expect("taken down");
    assert_eq!(cancelling.state(), State::Cancelling);
    mesh.start_context("driving").await;
    customer.sees(&allocation.name, State::Cancelled).await;
}
