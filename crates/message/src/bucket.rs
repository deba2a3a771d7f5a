//! A NATS key-value bucket that is opened on first need, and again after every failure.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::kv::{Config, CreateErrorKind, Store};
use bytes::Bytes;
use kernel::Failure;
use platform::broker::{Broker, BrokerError};

/// How long the broker may take for one answer before it counts as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the broker for something: unavailable at once while there is no connection, and after
/// [`PATIENCE`] when there seems to be one.
pub(crate) async fn patiently<T>(
    broker: &Broker,
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, Failure> {
    if !broker.is_connected() {
        return Err(Failure::Unavailable("not connected to the broker".into()));
    }
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome.map_err(Failure::Unavailable),
        Err(elapsed) => Err(Failure::Unavailable(Box::new(elapsed))),
    }
}

/// One bucket by its name, whether it exists already or not.
pub(crate) struct Bucket {
    broker: Broker,
    name: String,
    open: Mutex<Option<Arc<Store>>>,
}

impl Bucket {
    /// A bucket of this name; nothing is asked of the broker yet.
    pub(crate) fn new(broker: Broker, name: String) -> Bucket {
        Bucket { broker, name, open: Mutex::new(None) }
    }

    /// Stores a value under a key that has none. One that is there already stays as it is.
    pub(crate) async fn create(&self, key: String, value: Bytes) -> Result<(), Failure> {
        self.with(|store| async move {
            match store.create(key, value).await {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Works with the open bucket.
    pub(crate) async fn with<T, W>(&self, work: impl FnOnce(Arc<Store>) -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, BrokerError>>,
    {
        let work = async { work(self.store().await?).await };
        let outcome = patiently(&self.broker, work).await;
        if outcome.is_err() {
            // Perhaps the bucket is gone: the next one looks, and creates it again.
            *self.open() = None;
        }
        outcome
    }

    async fn store(&self) -> Result<Arc<Store>, BrokerError> {
        if let Some(store) = self.open().clone() {
            return Ok(store);
        }
        let jetstream = self.broker.jetstream();
        let store = match jetstream.get_key_value(&self.name).await {
            Ok(store) => store,
            // Two replicas that create it at once ask for the same, and both get it.
            Err(_) => jetstream.create_key_value(self.config()).await?,
        };
        let store = Arc::new(store);
        *self.open() = Some(store.clone());
        Ok(store)
    }

    fn config(&self) -> Config {
        Config {
            bucket: self.name.clone(),
            num_replicas: self.broker.replicas(),
            ..Default::default()
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Arc<Store>>> {
        // No code panics while it holds this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
