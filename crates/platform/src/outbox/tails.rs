//! The last event of each aggregate in the stream: what the next one has to come after.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::header::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures::{StreamExt, TryStreamExt};
use kernel::Uuid;

use super::row;
use crate::broker::{Broker, BrokerError, Delivery};
use crate::consumer::parse;

/// Tells the broker which subjects the expected last sequence is about.
pub(super) const OF_AGGREGATE: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// Beyond this many aggregates what is known is forgotten; it can be looked up.
const MOST: usize = 100_000;

/// The last event of one aggregate in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Its number there, 0 when there is none.
    pub(super) version: i64,
    /// Its place in the stream.
    pub(super) sequence: u64,
}

/// What a relay knows of the stream.
pub(super) struct Tails {
    context: &'static str,
    broker: Broker,
    /// Each with the number of the connection in which it was learnt.
    known: Mutex<HashMap<Uuid, (u64, Tail)>>,
}

impl Tails {
    pub(super) fn new(context: &'static str, broker: Broker) -> Tails {
        Tails { context, broker, known: Mutex::default() }
    }

    /// The last event before this one. What is remembered may only be wrong in a way that the broker
    /// refuses: that the event itself is there already, only the stream can tell.
    pub(super) async fn before(&self, event: &row::Model) -> Result<Tail, BrokerError> {
        let known = self.known().get(&event.aggregate).copied();
        match known {
            Some((learnt, tail))
                if learnt == self.broker.connections() && tail.version < event.version =>
            {
                Ok(tail)
            }
            None if event.version == 1 => Ok(Tail::default()),
            _ => self.look(event).await,
        }
    }

    /// The last event of this one's aggregate, from the stream's leader.
    pub(super) async fn look(&self, event: &row::Model) -> Result<Tail, BrokerError> {
        let connection = self.broker.connections();
        let stream = self.broker.stream().await?;
        let subjects = self.subjects(event);
        let tail = match stream.get_last_raw_message_by_subject(&subjects).await {
            Ok(last) => {
                let (sequence, own) = (last.sequence, is_own(&last.headers));
                let version = Delivery::parse(&last.headers, last.payload, sequence)?.version;
                let version = if own { version } else { highest(&stream, subjects).await? };
                Tail { version, sequence }
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                Tail::default()
            }
            Err(error) => return Err(error.into()),
        };
        self.note(event.aggregate, connection, tail);
        Ok(tail)
    }

    /// This is the last event of an aggregate, as was learnt in this connection.
    pub(super) fn note(&self, aggregate: Uuid, connection: u64, tail: Tail) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(aggregate, (connection, tail));
    }

    /// The subjects of all events of this one's aggregate.
    pub(super) fn subjects(&self, event: &row::Model) -> String {
        self.broker.subject(self.context, "*", event.correlation, event.aggregate)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, (u64, Tail)>> {
        // No code panics while it holds this lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a relay has published this: its message id is the event's. Others may put copies into
/// the stream, which say nothing about how far a history has come.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.as_str());
    text("Nats-Msg-Id").is_some() && text("Nats-Msg-Id") == text("ce-id")
}

/// The highest number of an event on these subjects.
async fn highest(stream: &Stream, subjects: String) -> Result<i64, BrokerError> {
    let config = pull::OrderedConfig { filter_subject: subjects, ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let present = usize::try_from(consumer.cached_info().num_pending)?;
    let mut messages = consumer.messages().await?.take(present);
    let mut highest = 0;
    while let Some(message) = messages.try_next().await? {
        highest = parse(&message)?.version.max(highest);
    }
    Ok(highest)
}
