//! The events that could not be told, for an operator.
//!
//! They lie in a bucket of their own, one a key, which is the event's id. Messages do not depend on
//! each other, so nothing ever waits behind one of them.

use bytes::Bytes;
use kernel::{Failure, Timestamp, Uuid};
use platform::broker::{Broker, Delivery};
use platform::parked::{Model, not_parked};

use crate::Config;
use crate::bucket::Bucket;

/// The parked events of this context.
pub struct ParkedEvents(Bucket);

impl ParkedEvents {
    /// Those of the context with this configuration; nothing is asked of the broker yet.
    pub fn new(broker: &Broker, config: &Config) -> ParkedEvents {
        ParkedEvents(Bucket::new(broker.clone(), format!("{}_PARKED", config.bucket)))
    }

    /// All of them, in the order of the stream.
    pub async fn list(&self) -> Result<Vec<Model>, Failure> {
        if !self.0.exists().await? {
            return Ok(Vec::new());
        }
        let values = self.0.values().await?;
        let mut parked = values.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        parked.sort_by_key(|event| event.sequence);
        Ok(parked)
    }

    /// One of them.
    pub async fn get(&self, event: Uuid) -> Result<Model, Failure> {
        Ok(self.find(event).await?.0)
    }

    /// Asks for another try of an event.
    pub async fn retry(&self, event: Uuid, now: Timestamp) -> Result<(), Failure> {
        self.change(event, |parked| parked.retry_at = Some(now.micros())).await
    }

    /// Gives an event up: nobody will be told of it.
    pub async fn discard(&self, event: Uuid) -> Result<(), Failure> {
        self.find(event).await?;
        self.0.remove(&event.to_string()).await
    }

    /// Puts an event aside; once is enough.
    pub(crate) async fn insert(&self, parked: &Model) -> Result<(), Failure> {
        self.0.create(parked.event.to_string(), write(parked)?).await.map(drop)
    }

    /// The events to be tried again. One that cannot be read back stays parked for that reason.
    pub(crate) async fn due(&self) -> Result<Vec<Delivery>, Failure> {
        let mut due = Vec::new();
        for value in self.0.values().await? {
            let parked = read(&value)?;
            if parked.retry_at.is_none() {
                continue;
            }
            match parked.delivery() {
                Ok(event) => due.push(event),
                Err(error) => self.failed_again(parked.event, &error.to_string()).await?,
            }
        }
        Ok(due)
    }

    /// Removes an event that has been told.
    pub(crate) async fn applied(&self, event: Uuid) -> Result<(), Failure> {
        self.0.remove(&event.to_string()).await
    }

    /// Leaves an event parked after another try that came to nothing, unless it was given up.
    pub(crate) async fn failed_again(&self, event: Uuid, why: &str) -> Result<(), Failure> {
        let changed = self.change(event, |parked| {
            parked.reason = why.to_owned();
            parked.retry_at = None;
        });
        match changed.await {
            Err(Failure::Rejected(_)) => Ok(()),
            changed => changed,
        }
    }

    /// Changes what is on record, whoever else does so at the same time.
    async fn change(&self, event: Uuid, change: impl Fn(&mut Model)) -> Result<(), Failure> {
        loop {
            let (mut parked, revision) = self.find(event).await?;
            change(&mut parked);
            if self.0.update(&event.to_string(), revision, write(&parked)?).await? {
                return Ok(());
            }
        }
    }

    async fn find(&self, event: Uuid) -> Result<(Model, u64), Failure> {
        let entry = match self.0.exists().await? {
            true => self.0.entry(&event.to_string()).await?,
            false => None,
        };
        let entry = entry.ok_or_else(|| not_parked(event))?;
        Ok((read(&entry.value)?, entry.revision))
    }
}

/// A parked event as JSON, for a person to read.
fn write(parked: &Model) -> Result<Bytes, Failure> {
    Ok(serde_json::to_vec(parked).map_err(defect)?.into())
}

/// A parked event from its JSON.
fn read(value: &Bytes) -> Result<Model, Failure> {
    serde_json::from_slice(value).map_err(defect)
}

fn defect(error: serde_json::Error) -> Failure {
    Failure::Internal(error.into())
}

#[cfg(test)]
mod tests {
    use kernel::Rejection;

    use super::*;
    use crate::testing::{NOW, Nats, event, requested};

    fn config() -> Config {
        Config { bucket: "TEST".to_owned() }
    }

    fn at(sequence: u64, id: u128) -> Model {
        let event = Delivery { sequence, ..event(id, &requested("ko")) };
        Model::new(&event, "no destination", NOW)
    }

    fn refused(outcome: Result<(), Failure>) -> Rejection {
        match outcome {
            Err(Failure::Rejected(no)) => no,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn parked_events_are_listed_asked_for_and_given_up() {
        let nats = Nats::start().await;
        let parked = ParkedEvents::new(&nats.broker, &config());
        for event in [at(20, 7), at(10, 8), Model { reason: "again".to_owned(), ..at(10, 8) }] {
            parked.insert(&event).await.expect("parked, or parked before");
        }
        let [first, second] = &parked.list().await.expect("a list")[..] else { panic!("not two") };
        assert_eq!((first.event, second.event), (Uuid::from_u128(8), Uuid::from_u128(7)));
        assert_eq!((first.reason.as_str(), first.retry_at), ("no destination", None));

        parked.retry(first.event, NOW).await.expect("asked for");
        let [due] = &parked.due().await.expect("a list")[..] else { panic!("not one") };
        assert_eq!((due.id, due.payload.to_vec()), (first.event, first.payload.clone()));
        parked.failed_again(first.event, "still none").await.expect("noted");
        let tried = Model { reason: "still none".to_owned(), ..first.clone() };
        assert_eq!(parked.get(first.event).await.expect("still parked"), tried);
        assert!(parked.due().await.expect("a list").is_empty());

        parked.discard(first.event).await.expect("given up");
        assert_eq!(refused(parked.get(first.event).await.map(drop)).reason, "EVENT_NOT_PARKED");
        assert_eq!(refused(parked.retry(first.event, NOW).await).reason, "EVENT_NOT_PARKED");
        assert_eq!(refused(parked.discard(first.event).await).reason, "EVENT_NOT_PARKED");
        parked.failed_again(first.event, "too late").await.expect("nothing to note");
        parked.applied(second.event).await.expect("told");
        assert_eq!(parked.list().await.expect("a list"), []);
    }

    #[tokio::test]
    async fn what_cannot_be_read_back_says_so() {
        let nats = Nats::start().await;
        let parked = ParkedEvents::new(&nats.broker, &config());
        parked.insert(&Model { headers: String::new(), ..at(10, 8) }).await.expect("parked");
        parked.retry(Uuid::from_u128(8), NOW).await.expect("asked for");
        assert!(parked.due().await.expect("a list").is_empty());
        let why = parked.get(Uuid::from_u128(8)).await.expect("still parked");
        assert_ne!((why.reason.as_str(), why.retry_at), ("no destination", Some(NOW.micros())));
    }

    #[tokio::test]
    async fn looking_makes_no_bucket() {
        let nats = Nats::start().await;
        let parked = ParkedEvents::new(&nats.broker, &config());
        assert_eq!(parked.list().await.expect("an empty list"), []);
        let nothing = parked.get(Uuid::from_u128(7)).await.map(drop);
        assert_eq!(refused(nothing).reason, "EVENT_NOT_PARKED");
        nats.broker.jetstream().get_key_value("TEST_PARKED").await.expect_err("no bucket");
    }
}
