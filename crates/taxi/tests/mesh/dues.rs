//! A fee that the provider refuses is settled before the next ride.

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::stream::Stream;
use futures::TryStreamExt as _;
use proto::driving::v1::driving::PaymentState;
use proto::message::v1::message::Template;
use proto::payment::v1::payment::State as Payment;
use proto::payment::v1::{RefundPaymentRequest, SettlePaymentRequest};
use testkit::{Backing, Mesh, Role, eventually};
use tonic::{Code, Status};

use crate::people::{Customer, Driver, SOON, dev, reason, serve, wish};

/// A ride that is under way: its driver, its driving and its allocation.
async fn under_way(mesh: &Mesh, customer: &mut Customer) -> (Driver, String, String) {
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    (driver, open.name, allocation.name)
}

/// What the driver is told of the fee.
async fn finish(driver: &Driver, driving: &str) -> PaymentState {
    driver.finish(driving).await.expect("started").into_inner().payment_state()
}

/// The customer tries to pay.
async fn settle(customer: &Customer, payment: &str) -> Payment {
    let request = SettlePaymentRequest { name: payment.to_owned(), ..Default::default() };
    let settled = customer.payments.clone().settle_payment(request).await;
    settled.expect("an answer").into_inner().state()
}

/// The customer may not ask for a car, once that is known.
async fn is_refused(customer: &Customer) -> Status {
    eventually(SOON, || async {
        let asked = customer.allocations.clone().request_allocation(wish("Misa")).await;
        let status = asked.err().ok_or_else(|| "asked".to_owned())?;
        let reason = reason(&status);
        if reason == "OUTSTANDING_PAYMENT" { Ok(status) } else { Err(reason) }
    })
    .await
}

/// The dashboard's word on the payment, once it is this.
async fn shows(customer: &Customer, allocation: &str, state: Payment) {
    eventually(SOON, || async {
        let shown = customer.info(allocation, "").await.payment_status();
        if shown == state { Ok(()) } else { Err(shown) }
    })
    .await;
}

/// What the customer was told of the fee, once it is so many things.
async fn told(customer: &Customer, count: usize) -> Vec<Template> {
    eventually(SOON, || async {
        let messages = customer.messages().await;
        let templates = messages.iter().rev().map(|message| message.template());
        let of_the_fee =
            [Template::PaymentApproved, Template::PaymentDeferred, Template::PaymentDeclined];
        let told: Vec<_> = templates.filter(|it| of_the_fee.contains(it)).collect();
        if told.len() == count { Ok(told) } else { Err(told) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owes_a_fee_settles_it_before_the_next_ride() {
    let mesh = dev(Backing::Sqlite).await;
    let mut customer = Customer::new(&mesh, "C1").await;
    mesh.provider().set_fault("provider.declines", "1").await.expect("set");
    let (driver, driving, allocation) = under_way(&mesh, &mut customer).await;
    assert_eq!(finish(&driver, &driving).await, PaymentState::Declined);
    let payment = customer.payments().await[0].name.clone();
    shows(&customer, &allocation, Payment::Declined).await;

    // The next request waits for the settlement, which is declined once more.
    let refused = is_refused(&customer).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&format!("SettlePayment of {payment}")), "{refused:?}");
    assert_eq!(settle(&customer, &payment).await, Payment::Declined);
    assert_eq!(told(&customer, 2).await, [Template::PaymentDeclined; 2]);

    mesh.provider().clear_faults().await.expect("cleared");
    assert_eq!(settle(&customer, &payment).await, Payment::Approved);
    shows(&customer, &allocation, Payment::Approved).await;
    assert_eq!(told(&customer, 3).await[2], Template::PaymentApproved);
    eventually(SOON, || async {
        let asked = customer.allocations.clone().request_allocation(wish("Misa")).await;
        asked.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let charges = mesh.provider().charges().await.expect("a log");
    let verdicts: Vec<&str> = charges.iter().map(|charge| charge.status.as_str()).collect();
    assert_eq!(verdicts, ["declined", "declined", "approved"], "taken once");

    // Given back, it is nobody's due.
    let operator = mesh.payment(&mesh.token(Role::Operator, "O1").await);
    let refund = RefundPaymentRequest { name: payment, ..Default::default() };
    operator.clone().refund_payment(refund).await.expect("given back");
    shows(&customer, &allocation, Payment::Refunded).await;
}

/// The shards of the stream.
const SHARDS: u64 = 8;

/// Lets allocation's consumers hear of driving alone, as an earlier version did.
async fn narrow(stream: &Stream) -> Vec<PullConsumer> {
    let mut narrow = Vec::new();
    for shard in 0..SHARDS {
        let name = format!("allocation-{shard}");
        let mut info = stream.consumer_info(&name).await.expect("allocation has it");
        info.config.filter_subjects.retain(|subject| subject.contains(".driving."));
        assert_eq!(info.config.filter_subjects.len(), 1);
        let config = pull::Config {
            durable_name: Some(name),
            filter_subjects: info.config.filter_subjects,
            ack_policy: info.config.ack_policy,
            ack_wait: info.config.ack_wait,
            max_ack_pending: info.config.max_ack_pending,
            ..Default::default()
        };
        narrow.push(stream.create_consumer(config).await.expect("changed"));
    }
    narrow
}

/// Takes what they hear of up to this event, and so passes over what they do not hear of before it.
async fn pass_over(consumers: Vec<PullConsumer>, last: &str) {
    eventually(SOON, || async {
        let mut heard = Vec::new();
        for consumer in &consumers {
            let mut messages = consumer.fetch().messages().await.expect("there are");
            while let Some(message) = messages.try_next().await.expect("an event") {
                message.double_ack().await.expect("acknowledged");
                heard.push(message.subject.to_string());
            }
        }
        heard.iter().any(|subject| subject.contains(last)).then_some(()).ok_or(heard)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_that_listens_to_more_than_before_hears_what_it_has_passed_over() {
    let mut mesh = serve().await;
    mesh.provider().set_fault("provider.declines", "1").await.expect("set");
    let mut customer = Customer::new(&mesh, "C1").await;
    let (driver, driving, allocation) = under_way(&mesh, &mut customer).await;
    mesh.stop("allocation").await;
    let client = async_nats::connect(&mesh.ready().nats).await.expect("a broker");
    let jetstream = async_nats::jetstream::new(client);
    let stream = jetstream.get_stream("TAXI_EVENTS").await.expect("a stream");
    let narrow = narrow(&stream).await;
    assert_eq!(finish(&driver, &driving).await, PaymentState::Declined);
    shows(&customer, &allocation, Payment::Declined).await;
    pass_over(narrow, ".DrivingPaymentSettled.").await;

    mesh.start_context("allocation").await;
    is_refused(&customer).await;
}
