//! What is told when: one policy for each event that customers hear of.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{Clock, CustomerId, DriverId, Failure, Rejection};
use platform::broker::Delivery;
use platform::consumer::{InOrder, Inbox as Bookkeeping, Part, Parts, Policies};
use platform::parked::Model as Parked;
use prost::Name;
use proto::allocation::v1::{AllocationExpired, AllocationRequested};
use proto::driving::v1::{DrivingApproved, DrivingFinished, DrivingStarted};
use proto::message::v1::Message;
use proto::message::v1::message::{Channel, State};
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred};
use proto::words::{parse_money, time};

use crate::inbox::Inbox;
use crate::languages::Languages;
use crate::parked::ParkedEvents;
use crate::templates::{Language, Notice};

/// The policies of the context: each tells a customer something, once.
pub(crate) struct Telling {
    /// Where messages go.
    pub(crate) inbox: Inbox,
    /// In which language.
    pub(crate) languages: Languages,
    /// For the time of telling.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Policies for Telling {
    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        match event.event() {
            AllocationRequested::NAME => self.when_allocation_requested(event).await,
            AllocationExpired::NAME => self.when_allocation_expired(event).await,
            DrivingApproved::NAME => self.when_driving_approved(event).await,
            DrivingStarted::NAME => self.when_driving_started(event).await,
            DrivingFinished::NAME => self.when_driving_finished(event).await,
            PaymentApproved::NAME => self.when_payment_approved(event).await,
            PaymentDeferred::NAME => self.when_payment_deferred(event).await,
            PaymentDeclined::NAME => self.when_payment_declined(event).await,
            // Customers hear of nothing else, least of all of the cancel they asked for themselves.
            _ => Ok(()),
        }
    }
}

impl Telling {
    async fn when_allocation_requested(&self, event: &Delivery) -> Result<(), Failure> {
        let body: AllocationRequested = event.decode()?;
        self.languages.learn(body.allocation.parse()?, Language::parse(&body.language));
        let destination = given("destination", body.destination)?.address;
        let notice = Notice::AllocationRequested { destination };
        self.tell(event, &body.customer, body.allocation, &notice).await
    }

    async fn when_allocation_expired(&self, event: &Delivery) -> Result<(), Failure> {
        let body: AllocationExpired = event.decode()?;
        self.tell(event, &body.customer, body.allocation, &Notice::AllocationExpired).await
    }

    async fn when_driving_approved(&self, event: &Delivery) -> Result<(), Failure> {
        let body: DrivingApproved = event.decode()?;
        let notice = Notice::AllocationApproved { driver: driver(&body.driver)? };
        self.tell(event, &body.customer, body.allocation, &notice).await
    }

    async fn when_driving_started(&self, event: &Delivery) -> Result<(), Failure> {
        let body: DrivingStarted = event.decode()?;
        let notice = Notice::DrivingStarted { driver: driver(&body.driver)? };
        self.tell(event, &body.customer, body.allocation, &notice).await
    }

    async fn when_driving_finished(&self, event: &Delivery) -> Result<(), Failure> {
        let body: DrivingFinished = event.decode()?;
        let fare = parse_money("fare", body.fare.as_ref())?;
        let minutes = given("fare_explanation", body.fare_explanation)?.minutes;
        let notice = Notice::DrivingFinished { minutes, fare };
        self.tell(event, &body.customer, body.allocation, &notice).await
    }

    async fn when_payment_approved(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentApproved = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentApproved { fee }).await
    }

    async fn when_payment_deferred(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentDeferred = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentDeferred { fee }).await
    }

    async fn when_payment_declined(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentDeclined = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentDeclined { fee }).await
    }

    /// Stores the message of an event: once, however often the event comes.
    async fn tell(
        &self,
        event: &Delivery,
        customer: &str,
        allocation: String,
        notice: &Notice,
    ) -> Result<(), Failure> {
        let customer: CustomerId = customer.parse()?;
        let language = self.languages.of(allocation.parse()?).await?;
        let now = Some(time(self.clock.now()));
        let message = Message {
            name: format!("messages/{}", event.id),
            customer: customer.to_string(),
            allocation,
            template: notice.template().into(),
            text: notice.text(language),
            language: language.tag().to_owned(),
            channel: Channel::Inbox.into(),
            state: State::Sent.into(),
            attempts: 1,
            create_time: now,
            send_time: now,
        };
        self.inbox.create(&customer, event.id, &message).await
    }
}

/// A driver as customers know them.
fn driver(name: &str) -> Result<String, Rejection> {
    Ok(name.parse::<DriverId>()?.subject().to_owned())
}

/// What an event must carry.
fn given<T>(field: &str, value: Option<T>) -> Result<T, Rejection> {
    let missing = || Rejection::invalid(field, "INVALID_EVENT", "is missing in the event");
    value.ok_or_else(missing)
}

/// The consumer's bookkeeping. There is none of what is known, since a key knows it, and no leader,
/// since two replicas at once make the same message; only what cannot be told is put aside.
pub(crate) struct Parking {
    /// What is put aside.
    pub(crate) parked: ParkedEvents,
    /// For the time of parking.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Bookkeeping for Parking {
    async fn order(&self, _event: &Delivery) -> Result<InOrder, Failure> {
        Ok(InOrder::Next)
    }

    async fn applied(&self, _event: &Delivery) -> Result<(), Failure> {
        Ok(())
    }

    async fn park(&self, event: &Delivery, why: &str) -> Result<(), Failure> {
        self.parked.insert(&Parked::new(event, why, self.clock.now())).await
    }

    async fn parts(&self) -> Result<Parts, Failure> {
        Ok(Parts { own: BTreeSet::from([Part::Whole]), surplus: BTreeSet::new() })
    }

    async fn release(&self, _part: Part) {}

    async fn leave(&self) {}

    async fn due(&self) -> Result<Vec<Delivery>, Failure> {
        self.parked.due().await
    }

    async fn tried_again(
        &self,
        event: &Delivery,
        outcome: Result<(), String>,
    ) -> Result<(), Failure> {
        match outcome {
            Ok(()) => self.parked.applied(event.id).await,
            Err(why) => self.parked.failed_again(event.id, &why).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{PageRequest, Uuid};
    use proto::message::v1::message::Template;

    use super::*;
    use testkit::TestClock;

    use crate::testing::{NOW, Nats, RIDE, event, requested};

    fn telling(nats: &Nats) -> Telling {
        Telling {
            inbox: nats.inbox(),
            languages: Languages::new(nats.broker.clone()),
            clock: Arc::new(TestClock::at(NOW)),
        }
    }

    fn approved() -> DrivingApproved {
        DrivingApproved {
            allocation: format!("allocations/{RIDE}"),
            customer: "customers/C1".to_owned(),
            driver: "drivers/D%7C1".to_owned(),
            ..Default::default()
        }
    }

    async fn messages(telling: &Telling) -> Vec<Message> {
        let customer = CustomerId::from_subject("C1");
        let page = PageRequest { size: 50, after: None };
        telling.inbox.list(&customer, &page).await.expect("a list").items
    }

    #[tokio::test]
    async fn an_event_is_told_once_in_the_language_of_its_ride() {
        let nats = Nats::start().await;
        let telling = telling(&nats);
        for _ in 0..2 {
            telling.apply(&event(1, &requested("en"))).await.expect("told");
            telling.apply(&event(2, &approved())).await.expect("told");
        }
        let [second, first] = &messages(&telling).await[..] else { panic!("not two messages") };
        assert_eq!(
            (first.template(), second.template()),
            (Template::AllocationRequested, Template::AllocationApproved)
        );
        assert!(first.text.contains("서울역") && second.text.contains("driver D|1"), "{second:?}");
        assert_eq!((first.language.as_str(), second.language.as_str()), ("en", "en"));
        assert_eq!(first.name, format!("messages/{}", Uuid::from_u128(1)));
        assert_eq!(first.allocation, format!("allocations/{RIDE}"));
        assert_eq!(
            (first.state(), first.channel(), first.attempts),
            (State::Sent, Channel::Inbox, 1)
        );
        assert_eq!((first.create_time, first.send_time), (Some(time(NOW)), Some(time(NOW))));
    }

    #[tokio::test]
    async fn the_language_is_read_back_from_the_stream() {
        let nats = Nats::start().await;
        nats.publish("allocation", &event(1, &requested("en"))).await;
        let telling = telling(&nats);
        telling.apply(&event(2, &approved())).await.expect("told");
        assert_eq!(messages(&telling).await[0].language, "en");
    }

    #[tokio::test]
    async fn an_unknown_language_is_korean() {
        let nats = Nats::start().await;
        let telling = telling(&nats);
        telling.apply(&event(2, &approved())).await.expect("told");
        assert_eq!(messages(&telling).await[0].language, "ko");
    }

    #[tokio::test]
    async fn a_cancel_is_not_told() {
        let nats = Nats::start().await;
        let telling = telling(&nats);
        let cancelled = proto::allocation::v1::AllocationCancelled::default();
        telling.apply(&event(1, &cancelled)).await.expect("nothing to do");
        assert!(messages(&telling).await.is_empty());
    }

    #[tokio::test]
    async fn an_event_without_its_data_is_refused_for_good() {
        let nats = Nats::start().await;
        let telling = telling(&nats);
        let nowhere = AllocationRequested { destination: None, ..requested("ko") };
        let nobody = DrivingApproved { driver: String::new(), ..approved() };
        let free = DrivingFinished { allocation: approved().allocation, ..Default::default() };
        for broken in [event(1, &nowhere), event(2, &nobody), event(3, &free)] {
            let refused = telling.apply(&broken).await;
            assert!(matches!(refused, Err(Failure::Rejected(_))), "{refused:?}");
        }
        assert!(messages(&telling).await.is_empty());
    }
}
