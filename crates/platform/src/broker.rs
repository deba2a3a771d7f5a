//! The message broker: one JetStream stream of events, and what travels in it.
//!
//! An event is a protobuf payload with CloudEvents 1.0 attributes as NATS headers. Its subject is
//! `<prefix>.<shard>.<context>.<event>.<aggregate>`; the shard comes from the correlation id, so all
//! that belongs together has one order.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, HeaderName};
use bytes::Bytes;
use kernel::{Cause, Failure, Origin, Timestamp, Uuid};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::telemetry::current_traceparent;

/// How the broker is reached and how the stream is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `nats://host:port` or `nats://user:password@host:port`, several separated by commas.
    pub url: String,
    /// The stream of all domain events.
    pub stream: String,
    /// What event subjects start with.
    pub prefix: String,
    /// Fixed when the stream is created.
    pub shards: u64,
    /// Copies of the stream in a NATS cluster.
    pub replicas: usize,
}

/// A connection to the broker that outlives the broker's absences.
#[derive(Clone)]
pub struct Broker {
    config: Arc<BrokerConfig>,
    client: Client,
    jetstream: jetstream::Context,
    trouble: Arc<Mutex<Option<String>>>,
}

/// Where the stream keeps the number of its shards.
const SHARDS: &str = "shards";

/// Why the broker could not be used.
pub type BrokerError = Box<dyn std::error::Error + Send + Sync>;

impl Broker {
    /// Prepares to connect; a broker that is away is waited for, a malformed URL is an error.
    pub async fn connect(config: BrokerConfig, name: &str) -> Result<Broker, BrokerError> {
        let addresses = config
            .url
            .split(',')
            .map(|url| url.trim().parse::<async_nats::ServerAddr>())
            .collect::<Result<Vec<_>, _>>()?;
        // Given in the address, and yet the client does not take them from there.
        let credentials = addresses.iter().find_map(credentials);
        let client = credentials
            .map_or_else(ConnectOptions::new, |(user, password)| {
                ConnectOptions::with_user_and_password(user, password)
            })
            .name(name)
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            // A connection that has fallen silent is noticed after three of them.
            .ping_interval(Duration::from_secs(3))
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis((10 * attempt as u64).min(500))
            })
            .connect(addresses)
            .await?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(Duration::from_secs(5))
            .ack_timeout(Duration::from_secs(5))
            .max_ack_inflight(4096)
            .build(client.clone());
        Ok(Broker { config: Arc::new(config), client, jetstream, trouble: Arc::default() })
    }

    /// The connection itself, for best-effort messages.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The JetStream API.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Copies of each stream and bucket.
    pub fn replicas(&self) -> usize {
        self.config.replicas
    }

    /// Whether the server answers right now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// What the broker, though it answers, cannot do right now: its disk is full, say.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how an attempt to store something has ended.
    pub fn stored(&self, outcome: Result<(), String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err();
    }

    /// How often a connection has been made. What was known of the stream may not be so in the next
    /// one: a broker that has lost its power may have lost the end of the stream.
    pub(crate) fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// The stream of all events, created when it is not there yet.
    pub async fn stream(&self) -> Result<stream::Stream, BrokerError> {
        let config = stream::Config {
            name: self.config.stream.clone(),
            subjects: vec![format!("{}.>", self.config.prefix)],
            storage: stream::StorageType::File,
            num_replicas: self.config.replicas,
            allow_direct: true,
            // Each event says where it belongs; a memory of ids would refuse what is sent again
            // because the stream has lost it.
            duplicate_window: Duration::from_millis(100),
            metadata: HashMap::from([(SHARDS.to_owned(), self.config.shards.to_string())]),
            ..Default::default()
        };
        let stream = self.jetstream.get_or_create_stream(config).await?;
        let fixed = stream.cached_info().config.metadata.get(SHARDS);
        match fixed.filter(|fixed| **fixed != self.config.shards.to_string()) {
            Some(fixed) => {
                Err(format!("the stream has {fixed} shards: set broker.shards to that").into())
            }
            None => Ok(stream),
        }
    }

    /// How many shards the stream has.
    pub fn shards(&self) -> u64 {
        self.config.shards.max(1)
    }

    /// The shard of all that belongs together.
    pub fn shard_of(&self, correlation: Uuid) -> u64 {
        // The last bits of a UUIDv7 are random, and the same to everybody for ever.
        (correlation.as_u128() % u128::from(self.shards())) as u64
    }

    /// The shard that a subject names.
    pub(crate) fn shard_in(&self, subject: &str) -> Option<u64> {
        let rest = subject.strip_prefix(&*self.config.prefix)?.strip_prefix('.')?;
        rest.split('.').next()?.parse().ok()
    }

    /// The subject of one event.
    pub fn subject(
        &self,
        context: &str,
        event: &str,
        correlation: Uuid,
        aggregate: Uuid,
    ) -> String {
        let shard = self.shard_of(correlation);
        format!("{}.{shard}.{context}.{event}.{aggregate}", self.config.prefix)
    }

    /// What the subjects of one kind of event look like.
    pub(crate) fn subject_template(&self, context: &str, event: &str) -> String {
        format!("{}.{{shard}}.{context}.{event}.{{aggregate}}", self.config.prefix)
    }

    /// The subjects of all events of one context, in one shard or in all.
    pub(crate) fn subjects_of(&self, context: &str, shard: Option<u64>) -> String {
        let shard = shard.map_or_else(|| "*".to_owned(), |shard| shard.to_string());
        format!("{}.{shard}.{context}.>", self.config.prefix)
    }

    /// The subjects of all events of one shard.
    pub(crate) fn subjects_in(&self, shard: u64) -> String {
        format!("{}.{shard}.>", self.config.prefix)
    }

    /// The subjects of all events.
    pub fn all_subjects(&self) -> String {
        format!("{}.>", self.config.prefix)
    }

    /// The subject on which replicas of a context tell each other that something was committed.
    pub(crate) fn poke_subject(&self, context: &str) -> String {
        format!("poke.{}.{context}", self.config.stream)
    }

    /// The latest event with exactly this subject.
    pub async fn last_on(&self, subject: &str) -> Result<Option<Delivery>, BrokerError> {
        match self.stream().await?.direct_get_last_for_subject(subject).await {
            Ok(message) => {
                Delivery::parse(&message.headers, message.payload, message.sequence).map(Some)
            }
            Err(error) if error.kind() == stream::DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// One event, as it is published and as it arrives.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event's id, also the broker's message id.
    pub id: Uuid,
    /// The full protobuf name of the payload, such as `shop.order.v1.OrderPlaced`.
    pub kind: String,
    /// The context it comes from.
    pub context: String,
    /// What it happened to.
    pub aggregate: Uuid,
    /// Its number in the history of that aggregate.
    pub version: i64,
    /// What it belongs to, across all contexts.
    pub correlation: Uuid,
    /// The request or the event that led to it.
    pub causation: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// The W3C `traceparent` under which it happened.
    pub trace: Option<String>,
    /// The protobuf message.
    pub payload: Bytes,
    /// Its place in the stream.
    pub sequence: u64,
}

/// Who we are, when the address says so.
fn credentials(address: &async_nats::ServerAddr) -> Option<(String, String)> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((plain(address.username()?), plain(address.password()?)))
}

impl Delivery {
    /// The event's own name: the last word of its kind.
    pub fn event(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }

    /// The cause of what a context does because of this event.
    pub fn cause(&self, context: &str) -> Cause {
        Cause {
            // From within the span that applies it.
            trace: current_traceparent().or_else(|| self.trace.clone()),
            origin: Some(Origin { aggregate: self.aggregate, version: self.version }),
            ..Cause::own(self.id, context)
        }
    }

    /// The protobuf message.
    pub fn decode<M: prost::Message + Default>(&self) -> Result<M, Failure> {
        M::decode(self.payload.clone()).map_err(|error| Failure::Internal(error.into()))
    }

    /// Writes the attributes as headers.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: String| {
            headers.insert(HeaderName::from_static(name), value);
        };
        set("ce-specversion", "1.0".to_owned());
        set("ce-id", self.id.to_string());
        set("ce-type", self.kind.clone());
        set("ce-source", format!("/{}", self.context));
        set("ce-subject", self.aggregate.to_string());
        set("ce-time", rfc3339(self.time));
        set("ce-datacontenttype", "application/protobuf".to_owned());
        set("correlation-id", self.correlation.to_string());
        set("causation-id", self.causation.to_string());
        set("aggregate-version", self.version.to_string());
        if let Some(trace) = &self.trace {
            set("traceparent", trace.clone());
        }
        headers
    }

    /// Reads the attributes back.
    pub(crate) fn parse(
        headers: &HeaderMap,
        payload: Bytes,
        sequence: u64,
    ) -> Result<Delivery, BrokerError> {
        let text = |name: &'static str| {
            headers
                .get(HeaderName::from_static(name))
                .map(|value| value.as_str())
                .ok_or_else(|| format!("header {name} is missing"))
        };
        let time = text("ce-time")?;
        Ok(Delivery {
            id: text("ce-id")?.parse()?,
            kind: text("ce-type")?.to_owned(),
            context: text("ce-source")?.trim_start_matches('/').to_owned(),
            aggregate: text("ce-subject")?.parse()?,
            version: text("aggregate-version")?.parse()?,
            correlation: text("correlation-id")?.parse()?,
            causation: text("causation-id")?.parse()?,
            time: parse_rfc3339(time).ok_or_else(|| format!("ce-time is {time}"))?,
            trace: text("traceparent").ok().map(str::to_owned),
            payload,
            sequence,
        })
    }
}

fn rfc3339(time: Timestamp) -> String {
    chrono::DateTime::from_timestamp_micros(time.micros())
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    Some(Timestamp::from_micros(time.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_headers() {
        let delivery = Delivery {
            id: Uuid::from_u128(1),
            kind: "shop.order.v1.OrderPlaced".to_owned(),
            context: "order".to_owned(),
            aggregate: Uuid::from_u128(2),
            version: 3,
            correlation: Uuid::from_u128(4),
            causation: Uuid::from_u128(5),
            time: Timestamp::from_micros(1_764_000_000_123_456),
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            payload: Bytes::from_static(b"payload"),
            sequence: 6,
        };
        let parsed = Delivery::parse(&delivery.headers(), delivery.payload.clone(), 6);
        assert_eq!(format!("{delivery:?}"), format!("{:?}", parsed.expect("parses")));
        assert_eq!(delivery.event(), "OrderPlaced");
    }
}
