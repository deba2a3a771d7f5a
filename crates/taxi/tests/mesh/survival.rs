//! Five processes of their own: what is away is waited for, and catches up when it is back.

use proto::allocation::v1::allocation::State;
use proto::driving::v1::driving::{PaymentState, State as Driving};
use proto::message::v1::message::Template;
use proto::payment::v1::payment::State as Payment;
use testkit::{Mesh, eventually};

use crate::people::{Customer, Driver, SOON, consistency_token, serve};

/// A whole ride: its allocation, the token of its last command, and what became of the fee.
async fn ride(mesh: &Mesh, customer: &mut Customer) -> (String, String, PaymentState) {
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let finished = driver.finish(&open.name).await.expect("started");
    let token = consistency_token(&finished);
    let finished = finished.into_inner();
    assert_eq!(finished.state(), Driving::Finished);
    customer.sees(&allocation.name, State::DrivingFinished).await;
    (allocation.name, token, finished.payment_state())
}

#[tokio::test(flavor = "multi_thread")]
async fn rides_go_on_without_message_and_dashboard_which_catch_up() {
    let mut mesh = serve().await;
    mesh.kill("message");
    mesh.kill("dashboard");
    let mut customer = Customer::new(&mesh, "C1").await;
    let (name, token, paid) = ride(&mesh, &mut customer).await;
    assert_eq!(paid, PaymentState::Approved);
    mesh.start_context("message").await;
    mesh.start_context("dashboard").await;
    eventually(SOON, || async {
        let messages = customer.messages().await;
        if messages.len() == 5 { Ok(()) } else { Err(messages) }
    })
    .await;
    eventually(SOON, || async {
        let info = customer.info(&name, &token).await;
        if info.payment_status() == Payment::Approved { Ok(()) } else { Err(info) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_payment_the_driving_finishes_and_the_fee_is_taken_a_bit_later() {
    let mut mesh = serve().await;
    mesh.kill("payment");
    let mut customer = Customer::new(&mesh, "C1").await;
    let (_, _, paid) = ride(&mesh, &mut customer).await;
    assert_eq!(paid, PaymentState::Deferred);
    hears(&customer, &[Template::DrivingFinished, Template::PaymentDeferred]).await;
    mesh.start_context("payment").await;
    eventually(SOON, || async {
        let payments = customer.payments().await;
        let approved = payments.iter().filter(|p| p.state() == Payment::Approved).count();
        if (payments.len(), approved) == (1, 1) { Ok(()) } else { Err(payments) }
    })
    .await;
    hears(&customer, &[Template::PaymentDeferred, Template::PaymentApproved]).await;
}

/// Waits until the last that a customer was told is this.
async fn hears(customer: &Customer, news: &[Template]) {
    eventually(SOON, || async {
        let messages = customer.messages().await;
        let told: Vec<Template> = messages.iter().rev().map(|it| it.template()).collect();
        if told.ends_with(news) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_needs_no_broker_and_a_ride_goes_on_when_it_is_back() {
    let mut mesh = serve().await;
    let mut customer = Customer::new(&mesh, "C1").await;
    mesh.kill_nats().await;
    let allocation = customer.request().await;
    mesh.start_nats().await;
    let driver = Driver::new(&mesh, "D1").await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    customer.sees(&allocation.name, State::Approved).await;
}
