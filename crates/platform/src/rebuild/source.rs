//! The events of one shard, from one place in the stream to another.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures::StreamExt;

use crate::broker::{Broker, BrokerError, Delivery};
use crate::consumer::parse;

/// At most this many events in one batch.
const BATCH: usize = 1_000;
/// The broker has more events and sends none for this long: it is away.
const SILENCE: Duration = Duration::from_secs(10);

/// What is still to be read.
pub(super) struct Events {
    messages: pull::Ordered,
    /// The last place that has been read.
    at: i64,
    /// The last place to be read.
    to: i64,
    /// How many of the shard's events come behind it.
    pending: u64,
}

impl Events {
    /// The events of this shard behind `from`, up to `to`.
    pub(super) async fn between(
        broker: &Broker,
        stream: &Stream,
        shard: u64,
        from: i64,
        to: i64,
    ) -> Result<Events, BrokerError> {
        let config = pull::OrderedConfig {
            filter_subject: broker.subjects_in(shard),
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: u64::try_from(from)? + 1,
            },
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let pending = consumer.cached_info().num_pending;
        Ok(Events { messages: consumer.messages().await?, at: from, to, pending })
    }

    /// The next batch, none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Delivery>>, BrokerError> {
        let mut batch = Vec::new();
        while batch.len() < BATCH && self.at < self.to && self.pending > 0 {
            let message = tokio::time::timeout(SILENCE, self.messages.next()).await;
            let message = message.map_err(|_| "it has more events and sends none")?;
            let message = message.ok_or("the connection was closed")??;
            let info = message.info()?;
            self.pending = info.pending;
            let sequence = i64::try_from(info.stream_sequence)?;
            // A consumer that had to be made again may begin at the beginning.
            if sequence <= self.at {
                continue;
            }
            self.at = sequence;
            if sequence <= self.to {
                match parse(&message) {
                    Ok(event) => batch.push(event),
                    Err(error) => tracing::warn!(%error, subject = %message.subject, "no event"),
                }
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}
