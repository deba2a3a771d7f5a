//! How far the history of each aggregate has been told.
//!
//! Replicas draw from one consumer, and after a fail-over the broker delivers what a dead one had in
//! hand behind what came later. What a customer reads last must be the last word, so what comes too
//! early waits: the version that was told last is on record, under the aggregate's id.
//!
//! Order is kept, but nothing is left untold for it. A broker that lost power may have lost a message or
//! a record: so what is known already is told again, which makes no second message, and what waits for
//! something that does not come is told all the same.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kernel::{Failure, Uuid};
use platform::broker::{Broker, Delivery};
use platform::consumer::{InOrder, hold};
use tokio::time::Instant;

use crate::Config;
use crate::bucket::Bucket;

/// Beyond this many entries what is remembered starts anew.
const REMEMBERED: usize = 100_000;

/// What a dead replica had in hand is delivered again long before this time has passed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The histories of all aggregates.
pub(crate) struct Histories {
    bucket: Bucket,
    /// What is on record at least: another replica may have gone on.
    known: Mutex<HashMap<Uuid, i64>>,
    /// The events that wait for an earlier one, and since when.
    waiting: Mutex<HashMap<Uuid, Instant>>,
}

impl Histories {
    /// The histories beside the messages of this configuration.
    pub(crate) fn new(broker: &Broker, config: &Config) -> Histories {
        let name = format!("{}_HISTORIES", config.bucket);
        Histories {
            bucket: Bucket::new(broker.clone(), name),
            known: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// Whether it is this event's turn.
    pub(crate) async fn order(&self, event: &Delivery) -> Result<InOrder, Failure> {
        let known = lock(&self.known).get(&event.aggregate).copied().unwrap_or_default();
        if hold(known, event.version) != InOrder::Early {
            return Ok(InOrder::Next);
        }
        let told = match self.bucket.entry(&event.aggregate.to_string()).await? {
            Some(entry) => version(&entry.value)?,
            None => 0,
        };
        self.note(event.aggregate, told);
        let early = hold(told, event.version) == InOrder::Early && !self.has_waited(event);
        Ok(if early { InOrder::Early } else { InOrder::Next })
    }

    fn has_waited(&self, event: &Delivery) -> bool {
        let now = Instant::now();
        let mut waiting = lock(&self.waiting);
        // Another replica may have told some of them.
        if waiting.len() >= REMEMBERED {
            waiting.clear();
        }
        let since = *waiting.entry(event.id).or_insert(now);
        now.duration_since(since) >= PATIENCE
    }

    /// The event has been told, or never will be. What is on record never goes back.
    pub(crate) async fn passed(&self, event: &Delivery) -> Result<(), Failure> {
        let (key, value) = (event.aggregate.to_string(), Bytes::from(event.version.to_string()));
        let mut told = version(&self.bucket.first(key.clone(), value.clone()).await?)?;
        while told < event.version {
            let entry = self.bucket.entry(&key).await?;
            let entry = entry.ok_or_else(|| Failure::Unavailable("a history is gone".into()))?;
            told = version(&entry.value)?;
            if told < event.version
                && self.bucket.update(&key, entry.revision, value.clone()).await?
            {
                told = event.version;
            }
        }
        self.note(event.aggregate, told);
        lock(&self.waiting).remove(&event.id);
        Ok(())
    }

    fn note(&self, aggregate: Uuid, version: i64) {
        let mut known = lock(&self.known);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let at = known.entry(aggregate).or_default();
        *at = version.max(*at);
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version(value: &Bytes) -> Result<i64, Failure> {
    let version = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    version.ok_or_else(|| Failure::Internal("a history whose version is none".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Nats, event, requested};

    fn at(version: i64) -> Delivery {
        Delivery { version, ..event(7, &requested("ko")) }
    }

    #[tokio::test]
    async fn what_comes_too_early_waits_for_another_replica() {
        let nats = Nats::start().await;
        let config = Config { bucket: "TEST".to_owned() };
        let replica = || Histories::new(&nats.broker, &config);
        let (one, two) = (replica(), replica());
        let order = async |replica: &Histories, version| {
            replica.order(&at(version)).await.expect("an answer")
        };
        assert_eq!(order(&one, 1).await, InOrder::Next);
        assert_eq!(order(&two, 2).await, InOrder::Early);
        one.passed(&at(1)).await.expect("on record");
        assert_eq!(order(&two, 2).await, InOrder::Next);
        two.passed(&at(2)).await.expect("on record");
        assert_eq!(order(&one, 3).await, InOrder::Next);
        one.passed(&at(3)).await.expect("on record");

        // The slow one comes to an end behind all others.
        two.passed(&at(2)).await.expect("nothing to do");
        assert_eq!(order(&replica(), 3).await, InOrder::Next, "told again, which changes nothing");
        assert_eq!(order(&replica(), 4).await, InOrder::Next);
        assert_eq!(order(&replica(), 5).await, InOrder::Early);
    }

    #[tokio::test]
    async fn what_waits_for_something_that_does_not_come_is_told_all_the_same() {
        let nats = Nats::start().await;
        let histories = Histories::new(&nats.broker, &Config { bucket: "TEST".to_owned() });
        let order = async || histories.order(&at(5)).await.expect("an answer");
        assert_eq!(order().await, InOrder::Early);
        tokio::time::pause();
        tokio::time::advance(PATIENCE).await;
        tokio::time::resume();
        assert_eq!(order().await, InOrder::Next);
        histories.passed(&at(5)).await.expect("on record");
        assert!(lock(&histories.waiting).is_empty());
    }
}
