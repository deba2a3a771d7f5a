//! What this context's tests share: a real nats-server of their own.

use std::time::Duration;

use platform::broker::{Broker, BrokerConfig};
use platform::nats_server::{NatsServer, Options};
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::inbox::Inbox;

/// How long a test waits for the broker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

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
        let as_wanted = || async { (self.broker.is_connected() == wanted).then_some(()).ok_or("not yet") };
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
