//! What is told when: one policy for each event that customers hear of.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{Clock, CustomerId, DriverId, Failure, Money, Rejection, Uuid};
use platform::broker::Delivery;
use platform::consumer::{InOrder, Inbox as Bookkeeping, Part, Parts, Policies};
use platform::parked::Model as Parked;
use prost::Name;
use proto::allocation::v1::{AllocationExpired, AllocationRequested};
use proto::driving::v1::driving::PaymentState;
use proto::driving::v1::{DrivingApproved, DrivingFinished, DrivingPaymentSettled, DrivingStarted};
use proto::message::v1::Message;
use proto::message::v1::message::{Channel, State};
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred};
use proto::words::{parse_money, time};

use crate::deferrals::Deferrals;
use crate::histories::Histories;
use crate::inbox::Inbox;
use crate::languages::Languages;
use crate::parked::ParkedEvents;
use crate::templates::{Language, Notice};

/// The policies of the context: each tells a customer something, once.
pub(crate) struct Telling {
    /// Where messages go.
    pub(crate) inbox: Inbox,
    /// Which of them tell of a fee that comes later.
    pub(crate) deferrals: Deferrals,
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
            DrivingPaymentSettled::NAME => self.when_driving_payment_settled(event).await,
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

    /// Payment could not be reached in time. Everything else payment tells itself.
    async fn when_driving_payment_settled(&self, event: &Delivery) -> Result<(), Failure> {
        let body: DrivingPaymentSettled = event.decode()?;
        if body.payment_state() != PaymentState::Deferred {
            return Ok(());
        }
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.tell_deferral(event, &body.driving, &body.customer, body.allocation, fee).await
    }

    async fn when_payment_approved(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentApproved = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.finish_deferral(&body.driving).await?;
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentApproved { fee }).await
    }

    async fn when_payment_deferred(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentDeferred = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        // Payment's first word is about the finish, as driving's. A later one is about an attempt to
        // settle what was declined: that is news.
        if event.version == 1 {
            return self
                .tell_deferral(event, &body.driving, &body.customer, body.allocation, fee)
                .await;
        }
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentDeferred { fee }).await
    }

    async fn when_payment_declined(&self, event: &Delivery) -> Result<(), Failure> {
        let body: PaymentDeclined = event.decode()?;
        let fee = parse_money("amount", body.amount.as_ref())?;
        self.finish_deferral(&body.driving).await?;
        self.tell(event, &body.customer, body.allocation, &Notice::PaymentDeclined { fee }).await
    }

    /// Tells that the fee of a finish comes later: once, whoever says so, and not behind the verdict.
    async fn tell_deferral(
        &self,
        event: &Delivery,
        driving: &str,
        customer: &str,
        allocation: String,
        fee: Money,
    ) -> Result<(), Failure> {
        let notice = Notice::PaymentDeferred { fee };
        let message = self.message(event, customer, allocation, &notice).await?;
        match self.deferrals.deferred(driving.parse()?, &message).await? {
            Some(first) => self.store(&first).await,
            None => Ok(()),
        }
    }

    /// Before a verdict is told, what was to be told of a delay is told, and nothing of it after.
    async fn finish_deferral(&self, driving: &str) -> Result<(), Failure> {
        match self.deferrals.settled(driving.parse()?).await? {
            Some(deferral) => self.store(&deferral).await,
            None => Ok(()),
        }
    }

    /// Tells of an event: once, however often the event comes.
    async fn tell(
        &self,
        event: &Delivery,
        customer: &str,
        allocation: String,
        notice: &Notice,
    ) -> Result<(), Failure> {
        self.store(&self.message(event, customer, allocation, notice).await?).await
    }

    /// The message of an event.
    async fn message(
        &self,
        event: &Delivery,
        customer: &str,
        allocation: String,
        notice: &Notice,
    ) -> Result<Message, Failure> {
        let customer: CustomerId = customer.parse()?;
        let language = self.languages.of(allocation.parse()?).await?;
        let now = Some(time(self.clock.now()));
        Ok(Message {
            name: format!("{COLLECTION}{}", event.id),
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
        })
    }

    /// Stores a message, once.
    async fn store(&self, message: &Message) -> Result<(), Failure> {
        let customer: CustomerId = message.customer.parse()?;
        let id = message.name.strip_prefix(COLLECTION).and_then(|id| Uuid::try_parse(id).ok());
        let id = id.ok_or_else(|| Failure::Internal("a message without a name".into()))?;
        self.inbox.create(&customer, id, message).await
    }
}

/// What the names of messages begin with.
const COLLECTION: &str = "messages/";

/// A driver as customers know them.
fn driver(name: &str) -> Result<String, Rejection> {
    Ok(name.parse::<DriverId>()?.subject().to_owned())
}

/// What an event must carry.
fn given<T>(field: &str, value: Option<T>) -> Result<T, Rejection> {
    let missing = || Rejection::invalid(field, "INVALID_EVENT", "is missing in the event");
    value.ok_or_else(missing)
}

/// The consumer's bookkeeping: what has been told, and what cannot be. There is no leader, since two
/// replicas at once make the same message.
pub(crate) struct Parking {
    /// What has been told.
    pub(crate) histories: Histories,
    /// What is put aside.
    pub(crate) parked: ParkedEvents,
    /// For the time of parking.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Bookkeeping for Parking {
    async fn order(&self, event: &Delivery) -> Result<InOrder, Failure> {
        self.histories.order(event).await
    }

    async fn applied(&self, event: &Delivery) -> Result<(), Failure> {
        self.histories.passed(event).await
    }

    /// Messages do not depend on each other: what follows is told all the same.
    async fn park(&self, event: &Delivery, why: &str) -> Result<(), Failure> {
        self.parked.insert(&Parked::new(event, why, self.clock.now())).await?;
        self.histories.passed(event).await
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
mod tests;
