//! 메시지: what a customer is told, exactly once per cause, in Korean or English.
//!
//! A generic subdomain, flat on purpose: it decides nothing, it tells. Every message is the answer
//! to one event of another context; nobody can send one by rpc.
//!
//! | event | template |
//! |---|---|
//! | allocation: AllocationRequested | `ALLOCATION_REQUESTED` |
//! | allocation: AllocationExpired | `ALLOCATION_EXPIRED` |
//! | driving: DrivingApproved | `ALLOCATION_APPROVED` |
//! | driving: DrivingStarted | `DRIVING_STARTED` |
//! | driving: DrivingFinished | `DRIVING_FINISHED` |
//! | driving: DrivingPaymentSettled, DEFERRED | `PAYMENT_DEFERRED`, if nobody has said so before |
//! | payment: PaymentDeferred | `PAYMENT_DEFERRED`, if driving has not said so before |
//! | payment: PaymentApproved | `PAYMENT_APPROVED` |
//! | payment: PaymentDeclined | `PAYMENT_DECLINED` |
//! | every other one, cancels above all | no message |
//!
//! **Store.** One NATS key-value bucket. The key is `<customer>.<message id>`, and the message's id
//! is the id of the event that caused it.
//!
//! **Invariants.**
//! * One event makes at most one message: the key is made of the cause, and a key is created only
//!   when it is absent. So a repeated delivery, a second replica and an unknown outcome are harmless,
//!   and no replica has to be the leader.
//! * One event makes at least one message: it is acknowledged only after its message is stored.
//! * A message has the language in which its customer asked for the car, for ever. Later events of
//!   the ride do not carry it; it is read back from the ride's first event in the stream.
//! * A customer sees only their own messages: whose a message is stands in its key.
//! * That a fee comes later is told once for each finish, whether driving says so first, which could
//!   not reach payment, or payment, which could not reach the provider; and never behind the verdict.
//!   See [`deferrals`]. It never says that nothing was taken: nobody may know yet.
//! * What is told of an allocation, a driving or a payment is told in the order of its history, so the
//!   last message is the last word. See [`histories`].
//! * Otherwise messages do not depend on each other: an event that can never become one is parked alone,
//!   in the bucket `<bucket>_PARKED`, and what follows it is told all the same.
//!
//! **When others are down.** Without the broker the rpcs answer UNAVAILABLE at once or after three
//! seconds, watches fall silent and go on where they were, and events wait in the stream. Allocation,
//! driving and payment are never called: while one of them is down there is nothing new to tell.
//!
//! For now the only channel is the inbox: the store itself. A stored message is a sent message.

mod bucket;
mod deferrals;
mod grpc;
mod histories;
mod inbox;
mod languages;
mod parked;
mod policies;
mod probe;
mod templates;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use kernel::Clock;
use platform::broker::Broker;
use platform::consumer::Consumer;
use platform::server::Routes;
use platform::shutdown::Shutdown;
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::deferrals::Deferrals;
use crate::histories::Histories;
use crate::inbox::Inbox;
use crate::languages::Languages;
pub use crate::parked::ParkedEvents;
use crate::policies::{Parking, Telling};

/// The context's name: of its service, its consumer and its part of the configuration.
pub const NAME: &str = "message";

/// The context's part of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key-value bucket of all messages, such as `TAXI_MESSAGES`; letters, digits, `-` and `_`.
    pub bucket: String,
}

/// Starts to tell customers what happens, and returns the service in which they read it.
pub fn start(broker: &Broker, clock: Arc<dyn Clock>, tasks: &Shutdown, config: Config) -> Routes {
    let inbox = Inbox::new(Bucket::new(broker.clone(), config.bucket.clone()));
    let parked = ParkedEvents::new(broker, &config);
    let consumer = Consumer {
        name: NAME,
        listens_to: &["allocation", "driving", "payment"],
        broker: broker.clone(),
        policies: Telling {
            inbox: inbox.clone(),
            deferrals: Deferrals::new(broker, &config),
            languages: Languages::new(broker.clone()),
            clock: clock.clone(),
        },
        inbox: Parking { histories: Histories::new(broker, &config), parked, clock },
    };
    tasks.spawn("message consumer", consumer.run(tasks.clone()));
    tasks.spawn("message probe", probe::run(broker.clone(), config, tasks.clone()));
    grpc::routes(inbox, tasks.clone())
}

#[cfg(test)]
mod tests {
    use kernel::{CustomerId, PageRequest, Uuid};
    use platform::broker::Delivery;
    use proto::allocation::v1::AllocationRequested;

    use super::*;
    use testkit::TestClock;

    use crate::testing::{NOW, Nats, PATIENCE, event, requested};

    #[tokio::test]
    async fn what_is_in_the_stream_is_told_or_parked() {
        let nats = Nats::start().await;
        let broken = AllocationRequested { destination: None, ..requested("ko") };
        let second = Delivery { version: 2, ..event(2, &requested("ko")) };
        nats.publish("allocation", &second).await;
        nats.publish("allocation", &event(1, &broken)).await;
        nats.publish("dashboard", &event(3, &requested("ko"))).await;
        nats.publish("allocation", &second).await;

        let tasks = Shutdown::new();
        let config = Config { bucket: "TEST".to_owned() };
        start(&nats.broker, Arc::new(TestClock::at(NOW)), &tasks, config);

        let inbox = nats.inbox();
        let told = || async {
            let page = PageRequest { size: 50, after: None };
            let page = inbox.list(&CustomerId::from_subject("C1"), &page).await;
            let names = page.map(|page| page.items.into_iter().map(|message| message.name));
            let names: Vec<String> = names.map_err(|error| error.to_string())?.collect();
            if names.is_empty() { Err("nothing yet".to_owned()) } else { Ok(names) }
        };
        let names = testkit::eventually(PATIENCE, told).await;
        assert_eq!(names, [format!("messages/{}", Uuid::from_u128(2))]);

        let parked = || async {
            let store = nats.broker.jetstream().get_key_value("TEST_PARKED").await;
            let store = store.map_err(|error| error.to_string())?;
            let found = store.get(Uuid::from_u128(1).to_string()).await;
            found.map_err(|error| error.to_string())?.ok_or("nothing yet".to_owned())
        };
        testkit::eventually(PATIENCE, parked).await;
        tasks.trigger();
        assert!(tasks.wait(PATIENCE).await.is_empty());
    }
}
