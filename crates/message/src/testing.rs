//! What this context's tests share: a real nats-server of their own, and events of one ride.

use std::time::Duration;

use async_nats::HeaderMap;
use kernel::{Timestamp, Uuid};
use platform::broker::{Broker, BrokerConfig, Delivery};
use platform::nats_server::{NatsServer, Options};
use prost::{Message, Name};
use proto::allocation::v1::AllocationRequested;
use proto::r#type::v1::Place;
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::inbox::Inbox;

/// How long a test waits for the broker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What time it is.
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_764_000_000_123_456);

/// The allocation of the ride.
pub(crate) const RIDE: Uuid = Uuid::from_u128(42);

/// A nats-server and a connection to it.
pub(crate) struct Nats {
    pub(crate) broker: Broker,
    server: Option<NatsServer>,
    port: u16,
    files: TempDir,
}

impl Nats {
    /// Starts a server and connects.
    pub(crate) async fn start() -> Nats {
        let files = tempfile::tempdir().expect("a directory");
        let server = serve(&files, None).await;
        let config = BrokerConfig {
            url: server.url(),
            stream: "TAXI_EVENTS".to_owned(),
            prefix: "taxi.events".to_owned(),
            shards: 8,
            replicas: 1,
        };
        let broker = Broker::connect(config, "test").await.expect("a broker");
        let nats = Nats { broker, port: server.port(), server: Some(server), files };
        nats.connection(true).await;
        nats
    }

    /// An inbox in the bucket `TEST`.
    pub(crate) fn inbox(&self) -> Inbox {
        Inbox::new(self.bucket("TEST"))
    }

    /// A bucket of this name.
    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(self.broker.clone(), name.to_owned())
    }

    /// Publishes an event as the relay of its context would.
    pub(crate) async fn publish(&self, context: &str, event: &Delivery) {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-id", event.id.to_string()),
            ("ce-type", event.kind.clone()),
            ("ce-source", format!("/{context}")),
            ("ce-subject", event.aggregate.to_string()),
            ("ce-time", "2026-01-01T00:00:00Z".to_owned()),
            ("correlation-id", event.correlation.to_string()),
            ("causation-id", event.causation.to_string()),
            ("aggregate-version", event.version.to_string()),
        ] {
            headers.insert(name, value);
        }
        self.broker.stream().await.expect("a stream");
        let subject =
            self.broker.subject(context, event.event(), event.correlation, event.aggregate);
        let jetstream = self.broker.jetstream();
        let published = jetstream.publish_with_headers(subject, headers, event.payload.clone());
        published.await.expect("sent").await.expect("stored");
    }

    /// Stops the server and waits until the connection knows.
    pub(crate) async fn stop(&mut self) {
        self.server.take().expect("a running server").stop().await.expect("stopped");
        self.connection(false).await;
    }

    /// Stops the server and starts it again, with its data and at its address.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.server = Some(serve(&self.files, Some(self.port)).await);
        self.connection(true).await;
    }

    async fn connection(&self, wanted: bool) {
        let as_wanted =
            || async { (self.broker.is_connected() == wanted).then_some(()).ok_or("not yet") };
        testkit::eventually(PATIENCE, as_wanted).await;
    }
}

async fn serve(files: &TempDir, port: Option<u16>) -> NatsServer {
    let options = Options {
        binary: testkit::nats_server_binary(),
        store_dir: files.path().to_owned(),
        port,
        ..Default::default()
    };
    NatsServer::start(options).await.expect("a nats-server")
}

/// An event of the ride.
pub(crate) fn event<T: Message + Name>(id: u128, body: &T) -> Delivery {
    Delivery {
        id: Uuid::from_u128(id),
        kind: T::full_name(),
        context: "test".to_owned(),
        aggregate: RIDE,
        version: 1,
        correlation: RIDE,
        causation: RIDE,
        time: NOW,
        trace: None,
        payload: body.encode_to_vec().into(),
        sequence: 1,
    }
}

/// The ride's beginning: C1 asks for a car.
pub(crate) fn requested(language: &str) -> AllocationRequested {
    AllocationRequested {
        allocation: format!("allocations/{RIDE}"),
        customer: "customers/C1".to_owned(),
        destination: Some(Place { address: "서울역".to_owned(), location: None }),
        language: language.to_owned(),
        ..Default::default()
    }
}
