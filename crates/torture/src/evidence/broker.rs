//! What the broker keeps: the stream, its durable consumers, and the buckets of message.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context};
use futures::TryStreamExt;
use kernel::Uuid;
use prost::Message as _;
use proto::message::v1::Message;
use serde::Deserialize;

use super::rows::Parked;
use super::{Event, Evidence, MESSAGES, PARKED_MESSAGES, Records, STREAM};

/// How long the broker may take to show all it has.
const PATIENCE: Duration = Duration::from_secs(60);

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// A message of the stream that is no event.
#[derive(Clone, Debug)]
pub(crate) struct Stranger {
    /// Its place in the stream.
    pub(crate) sequence: u64,
    /// What is wrong with it.
    pub(crate) why: String,
}

/// A durable consumer.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    /// Its name.
    pub(crate) name: String,
    /// Messages it has not been given.
    pub(crate) pending: u64,
    /// Messages it has been given and has not acknowledged.
    pub(crate) unacknowledged: u64,
}

impl Consumer {
    /// Whether it has nothing left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.pending == 0 && self.unacknowledged == 0
    }
}

/// Something a customer was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its place in the bucket.
    pub(crate) sequence: u64,
    /// The last word of its key: the event that caused it.
    pub(crate) cause: Option<Uuid>,
    /// The message; nothing when the value is none.
    pub(crate) message: Option<Message>,
}

/// One message of a stream.
struct Kept {
    sequence: u64,
    stored_at: i64,
    subject: String,
    headers: HeaderMap,
    payload: Vec<u8>,
}

/// Reads all that is kept.
pub(super) async fn collect(nats: &str, evidence: &mut Evidence) -> Result<(), String> {
    let read = async {
        let jetstream = connect(nats).await?;
        let stream = jetstream.get_stream(STREAM).await?;
        evidence.shards = shards(&stream);
        evidence.consumers = consumers(&stream).await?;
        events(read_all(&stream).await?, evidence);
        messages(&jetstream, evidence).await?;
        let parked = parked(&jetstream).await?;
        evidence.records.insert("message".to_owned(), parked);
        Ok::<_, Trouble>(())
    };
    patiently(read).await
}

/// The number of the stream's last message.
pub(super) async fn length(nats: &str) -> Result<u64, String> {
    let read = async {
        let stream = connect(nats).await?.get_stream(STREAM).await?;
        Ok(stream.cached_info().state.last_sequence)
    };
    patiently(read).await
}

/// Where the stream, its consumers and its shards stand.
pub(super) struct Look {
    pub(super) length: u64,
    pub(super) consumers: Vec<Consumer>,
    /// The last message of each shard.
    pub(super) ends: Vec<(i32, i64)>,
}

/// Looks at the stream without reading it.
pub(super) async fn look(nats: &str) -> Result<Look, String> {
    let read = async {
        let stream = connect(nats).await?.get_stream(STREAM).await?;
        let length = stream.cached_info().state.last_sequence;
        let mut ends = Vec::new();
        for shard in 0..shards(&stream) {
            if let Some(end) = last_of(&stream, shard).await? {
                ends.push((shard, end));
            }
        }
        Ok(Look { length, consumers: consumers(&stream).await?, ends })
    };
    patiently(read).await
}

async fn last_of(stream: &Stream, shard: i32) -> Result<Option<i64>, Trouble> {
    use jetstream::stream::DirectGetErrorKind::NotFound;
    match stream.direct_get_last_for_subject(format!("taxi.events.{shard}.>")).await {
        Ok(message) => Ok(Some(i64::try_from(message.sequence)?)),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn patiently<T>(read: impl Future<Output = Result<T, Trouble>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(format!("the broker: {error}")),
        Err(_) => Err("the broker does not answer".to_owned()),
    }
}

async fn connect(nats: &str) -> Result<Context, Trouble> {
    Ok(jetstream::new(async_nats::connect(nats).await?))
}

/// How many shards the stream was created with.
fn shards(stream: &Stream) -> i32 {
    let metadata = &stream.cached_info().config.metadata;
    metadata.get("shards").and_then(|shards| shards.parse().ok()).unwrap_or(1)
}

async fn consumers(stream: &Stream) -> Result<Vec<Consumer>, Trouble> {
    let all: Vec<_> = stream.consumers().try_collect().await?;
    let durable = all.into_iter().filter(|info| info.config.durable_name.is_some());
    let consumers = durable.map(|info| Consumer {
        name: info.name,
        pending: info.num_pending,
        unacknowledged: info.num_ack_pending as u64,
    });
    Ok(consumers.collect())
}

/// Reads a stream from its first message to the one that is its last now.
async fn read_all(stream: &Stream) -> Result<Vec<Kept>, Trouble> {
    let state = stream.get_info().await?.state;
    let mut kept = Vec::new();
    if state.messages == 0 {
        return Ok(kept);
    }
    let consumer = stream.create_consumer(OrderedConfig::default()).await?;
    let mut messages = consumer.messages().await?;
    loop {
        let message = messages.try_next().await?.ok_or("the stream broke off")?;
        let info = message.info()?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        kept.push(Kept {
            sequence,
            stored_at: i64::try_from(info.published.unix_timestamp_nanos() / 1_000)?,
            subject: message.subject.to_string(),
            headers: message.headers.clone().unwrap_or_default(),
            payload: message.payload.to_vec(),
        });
        if sequence >= state.last_sequence || pending == 0 {
            return Ok(kept);
        }
    }
}

fn events(kept: Vec<Kept>, evidence: &mut Evidence) {
    for Kept { sequence, stored_at, subject, headers, payload } in kept {
        match Event::parse(&subject, &headers, &payload, (sequence, stored_at)) {
            Ok(event) => evidence.stream.push(event),
            Err(why) => evidence.strangers.push(Stranger { sequence, why }),
        }
    }
}

/// The stream behind a bucket, once somebody has created it.
async fn bucket(jetstream: &Context, name: &str) -> Result<Option<Stream>, Trouble> {
    use jetstream::ErrorCode;
    use jetstream::context::GetStreamErrorKind::JetStream;
    match jetstream.get_stream(format!("KV_{name}")).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            _ => Err(error.into()),
        },
    }
}

async fn messages(jetstream: &Context, evidence: &mut Evidence) -> Result<(), Trouble> {
    let Some(stream) = bucket(jetstream, MESSAGES).await? else { return Ok(()) };
    let told = read_all(&stream).await?.into_iter().map(|kept| Told {
        sequence: kept.sequence,
        cause: kept.subject.rsplit('.').next().and_then(|id| id.parse().ok()),
        message: Message::decode(&*kept.payload).ok(),
    });
    evidence.told = told.collect();
    evidence.told_ever = stream.get_info().await?.state.last_sequence;
    Ok(())
}

/// What message has put aside: JSON, keyed by the event's id.
async fn parked(jetstream: &Context) -> Result<Records, Trouble> {
    #[derive(Deserialize)]
    struct Value {
        event: String,
        aggregate: String,
        version: i64,
        kind: String,
        reason: String,
    }
    let mut records = Records::default();
    let Some(stream) = bucket(jetstream, PARKED_MESSAGES).await? else { return Ok(records) };
    for kept in read_all(&stream).await? {
        if kept.payload.is_empty() {
            // What remains of one that was dropped.
            continue;
        }
        let Value { event, aggregate, version, kind, reason } =
            serde_json::from_slice(&kept.payload)?;
        let (event, aggregate) = (event.parse()?, aggregate.parse()?);
        records.parked.insert(event, Parked { event, aggregate, version, kind, reason });
    }
    Ok(records)
}
