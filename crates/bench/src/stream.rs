//! The stream of events as the broker sees it: what fills it, who reads it, and when an event got
//! there.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind, stream};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};

use crate::Result;

/// As the defaults of the configuration have it.
const NAME: &str = "TAXI_EVENTS";
const PREFIX: &str = "taxi.events";
/// How many events may be on their way to the broker.
const WINDOW: usize = 2_000;
/// The broker of a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The consumer that does nothing but fetch and acknowledge.
const IDLER: &str = "idler";

/// The stream of a mesh.
#[derive(Debug)]
pub(crate) struct Stream {
    jetstream: jetstream::Context,
    stream: stream::Stream,
    shards: u32,
}

/// An event on its way into the stream.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// An event in the stream.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Message,
    /// When it got there, microseconds by the broker's clock.
    pub(crate) time: i64,
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// Everything, in order, without acknowledgements: as projections do.
    InOrder,
    /// What these contexts say, and acknowledges it: as policies do.
    Acknowledged(&'static [&'static str]),
}

impl Stream {
    /// The stream, which is there already.
    pub(crate) async fn connect(url: &str, shards: u32) -> Result<Stream> {
        let client = async_nats::connect(url).await?;
        let builder = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE);
        let jetstream = builder.max_ack_inflight(WINDOW).build(client);
        let stream = jetstream.get_stream(NAME).await?;
        Ok(Stream { jetstream, stream, shards })
    }

    /// How many shards it has.
    pub(crate) fn shards(&self) -> u32 {
        self.shards
    }

    /// Publishes all of them, and waits until the broker has them.
    pub(crate) async fn fill(&self, messages: impl Iterator<Item = Message>) -> Result<()> {
        let mut windows = futures::stream::iter(messages).chunks(WINDOW);
        while let Some(window) = windows.next().await {
            let mut acks = Vec::with_capacity(window.len());
            for Message { subject, headers, payload } in window {
                let event = PublishMessage::build().headers(headers).payload(payload);
                acks.push(self.jetstream.send_publish(subject, event).await?.into_future());
            }
            try_join_all(acks).await?;
        }
        Ok(())
    }

    /// Removes all events, or those of one context.
    pub(crate) async fn purge(&self, of: Option<&str>) -> Result<()> {
        match of {
            None => self.stream.purge().await?,
            Some(context) => {
                let subjects = format!("{PREFIX}.*.{context}.>");
                self.stream.purge().filter(subjects).await?
            }
        };
        Ok(())
    }

    /// The place of the last event.
    pub(crate) async fn end(&self) -> Result<u64> {
        Ok(self.stream.get_info().await?.state.last_sequence)
    }

    /// The place of the last event of each shard; 0 of one that has none.
    pub(crate) async fn ends(&self) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        for shard in 0..self.shards {
            let last = self.stream.get_last_raw_message_by_subject(&subjects(shard, "")).await;
            ends.push(last.map_or(0, |message| message.sequence));
        }
        Ok(ends)
    }

    /// Whether the consumers of a context have nothing left to do: one for each shard.
    pub(crate) async fn is_done(&self, context: &str) -> Result<bool> {
        let consumers: Vec<_> = self.stream.consumers().try_collect().await?;
        let own = consumers.iter().filter(|consumer| belongs(&consumer.name, context));
        let idle = own.filter(|it| it.num_pending == 0 && it.num_ack_pending == 0);
        Ok(idle.count() == self.shards as usize)
    }

    /// Removes the consumers of a context: they begin at the beginning again.
    pub(crate) async fn forget(&self, context: &str) -> Result<()> {
        let names: Vec<String> = self.stream.consumer_names().try_collect().await?;
        for name in names.iter().filter(|name| belongs(name, context)) {
            self.stream.delete_consumer(name).await?;
        }
        Ok(())
    }

    /// All events behind this place.
    pub(crate) async fn behind(&self, sequence: u64) -> Result<Vec<Stored>> {
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await?;
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await?;
        let mut all = Vec::new();
        while left > 0 {
            let message = messages.try_next().await?.ok_or("the broker closed")?;
            let info = message.info()?;
            left = info.pending;
            all.push(Stored {
                time: i64::try_from(info.published.unix_timestamp_nanos() / 1_000)?,
                message: Message {
                    subject: message.subject.to_string(),
                    headers: message.headers.clone().unwrap_or_default(),
                    payload: message.payload.clone(),
                },
            });
        }
        Ok(all)
    }

    /// Fetches everything that a context would, a consumer for each shard, and does nothing with it;
    /// answers how many events there were.
    pub(crate) async fn fetch(&self, how: Reading) -> Result<u64> {
        let shards = (0..self.shards).map(|shard| match how {
            Reading::InOrder => tokio::spawn(fetch_in_order(self.stream.clone(), shard)),
            Reading::Acknowledged(contexts) => {
                tokio::spawn(fetch_and_acknowledge(self.stream.clone(), shard, contexts))
            }
        });
        let counts = try_join_all(shards.collect::<Vec<_>>()).await?;
        let counts: Vec<u64> = counts.into_iter().collect::<Result<_>>()?;
        if matches!(how, Reading::Acknowledged(_)) {
            while !self.is_done(IDLER).await? {}
            self.forget(IDLER).await?;
        }
        Ok(counts.into_iter().sum())
    }
}

async fn fetch_in_order(stream: stream::Stream, shard: u32) -> Result<u64> {
    let config = pull::OrderedConfig { filter_subject: subjects(shard, ""), ..Default::default() };
    let consumer = stream.create_consumer(config).await?;
    let count = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await?;
    for _ in 0..count {
        messages.try_next().await?.ok_or("the broker closed")?;
    }
    Ok(count)
}

async fn fetch_and_acknowledge(
    stream: stream::Stream,
    shard: u32,
    contexts: &[&str],
) -> Result<u64> {
    let config = pull::Config {
        durable_name: Some(format!("{IDLER}-{shard}")),
        filter_subjects: contexts.iter().map(|context| subjects(shard, context)).collect(),
        ack_policy: AckPolicy::Explicit,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let count = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await?;
    for _ in 0..count {
        let message = messages.try_next().await?.ok_or("the broker closed")?;
        message.ack_with(AckKind::Ack).await?;
    }
    Ok(count)
}

/// Whether a consumer is one of a context's: they are named after it and the shard.
fn belongs(consumer: &str, context: &str) -> bool {
    consumer.strip_prefix(context).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The subjects of a shard, or of one context in it.
fn subjects(shard: u32, context: &str) -> String {
    match context {
        "" => format!("{PREFIX}.{shard}.>"),
        context => format!("{PREFIX}.{shard}.{context}.>"),
    }
}
