//! A request that no driver answers.

use proto::allocation::v1::allocation::State;
use proto::message::v1::message::Template;
use testkit::{Mesh, eventually};

use crate::people::{Customer, Driver, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_request_expires_and_the_customer_is_told() {
    let setting = ("allocation", "TAXI_ALLOCATION__EXPIRE_AFTER", "1s");
    let mesh = Mesh::serve_with(env!("CARGO_BIN_EXE_taxi"), &[setting]).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let allocation = customer.request().await;
    customer.sees(&allocation.name, State::Expired).await;
    assert_eq!(driver.list().await, [], "no longer on any list");
    eventually(SOON, || async {
        let told: Vec<_> = customer.messages().await.iter().map(|m| m.template()).collect();
        if told.contains(&Template::AllocationExpired) { Ok(()) } else { Err(told) }
    })
    .await;
    customer.request().await;
}
