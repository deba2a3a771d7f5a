//! What the harness itself puts into the stream: copies of events, and events that nobody can read.
//!
//! Everything it publishes has a message id that begins with `torture-`, so that the broker takes it
//! for new and the checker does not take it for the work of a relay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::{self, message::StreamMessage, stream::Stream};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use kernel::Uuid;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::timeout;

use crate::Result;
use crate::check::Expected;
use crate::plan::Order;

const STREAM: &str = "TAXI_EVENTS";
const SUBJECTS: &str = "taxi.events";
/// As many as the product is told to have.
const SHARDS: u128 = 8;
/// Copies are of events that are at most this far behind the end.
const LATELY: u64 = 400;
/// How long the broker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Kinds of events that consumers know: the context and the event's name.
const KINDS: [(&str, &str); 5] = [
    ("driving", "DrivingFinished"),
    ("allocation", "AllocationRequested"),
    ("payment", "PaymentApproved"),
    ("driving", "DrivingApproved"),
    ("allocation", "AllocationCancelRequested"),
];
/// What no message of the contract can be read from.
const UNREADABLE: [u8; 8] = [0xff; 8];

/// Publishes, and remembers what.
#[derive(Debug, Default)]
pub(crate) struct Injector {
    count: AtomicU64,
    expected: Mutex<Expected>,
}

/// An event of a kind that consumers know, which cannot be read.
#[derive(Debug)]
pub(crate) struct Poison {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    subject: String,
    headers: HeaderMap,
}

impl Injector {
    /// All that may have come to the stream.
    pub(crate) fn expected(&self) -> Expected {
        self.lock().clone()
    }

    /// Publishes events of the stream once more; answers how many.
    pub(crate) async fn again(
        &self,
        nats: &str,
        rng: &mut StdRng,
        events: usize,
        order: Order,
    ) -> Result<usize> {
        let (jetstream, stream) = open(nats).await?;
        let last = stream.get_info().await?.state.last_sequence;
        let first = last.saturating_sub(rng.random_range(0..LATELY)).max(1);
        let end = last.min(first + events as u64 - 1);
        let mut copies = Vec::new();
        for sequence in first..=end {
            copies.push(stream.get_raw_message(sequence).await?);
        }
        if order == Order::Reversed {
            copies.reverse();
        }
        for copy in &copies {
            self.lock().injected.extend(id_of(copy));
            let headers = self.with_new_id(&copy.headers);
            publish(&jetstream, copy.subject.to_string(), headers, copy.payload.clone()).await?;
        }
        Ok(copies.len())
    }

    /// An event for an aggregate of its own, from no ride.
    pub(crate) fn poison(&self, rng: &mut StdRng, which: usize) -> Poison {
        let (context, event) = KINDS[which % KINDS.len()];
        let kind = format!("taxi.{context}.v1.{event}");
        let [id, aggregate, correlation] = std::array::from_fn(|_| Uuid::from_u128(rng.random()));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", id.to_string()),
            ("ce-type", kind.clone()),
            ("ce-source", format!("/{context}")),
            ("ce-subject", aggregate.to_string()),
            ("ce-time", "2026-01-01T00:00:00.000000Z".to_owned()),
            ("ce-datacontenttype", "application/protobuf".to_owned()),
            ("correlation-id", correlation.to_string()),
            ("causation-id", id.to_string()),
            ("aggregate-version", "1".to_owned()),
        ] {
            headers.insert(name, value);
        }
        let shard = correlation.as_u128() % SHARDS;
        let subject = format!("{SUBJECTS}.{shard}.{context}.{event}.{aggregate}");
        self.lock().parked.push(id);
        Poison { id, kind, subject, headers: self.with_new_id(&headers) }
    }

    /// Publishes it; again under the same message id when nobody knows whether it has arrived.
    pub(crate) async fn spread(&self, nats: &str, poison: &Poison) -> Result<()> {
        let (jetstream, _) = open(nats).await?;
        let Poison { subject, headers, .. } = poison;
        publish(&jetstream, subject.clone(), headers.clone(), UNREADABLE.to_vec().into()).await
    }

    /// The event's own headers; those for the broker are between it and a relay.
    fn with_new_id(&self, headers: &HeaderMap) -> HeaderMap {
        let mut copy = HeaderMap::new();
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            if !name.to_ascii_lowercase().starts_with("nats-") {
                for value in values {
                    copy.append(name, value.clone());
                }
            }
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        copy.insert("Nats-Msg-Id", format!("torture-{number}"));
        copy
    }

    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(nats: &str) -> Result<(jetstream::Context, Stream)> {
    let client: Client = timeout(PATIENCE, async_nats::connect(nats)).await??;
    let jetstream = jetstream::new(client);
    let stream = timeout(PATIENCE, jetstream.get_stream(STREAM)).await??;
    Ok((jetstream, stream))
}

async fn publish(
    jetstream: &jetstream::Context,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<()> {
    let sent = async { jetstream.publish_with_headers(subject, headers, payload).await?.await };
    timeout(PATIENCE, sent).await??;
    Ok(())
}

fn id_of(message: &StreamMessage) -> Option<Uuid> {
    message.headers.get("ce-id").and_then(|id| Uuid::try_parse(id.as_str()).ok())
}
