//! A NATS key-value bucket that is opened on first need, and again after every failure.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::kv::{
    Config, CreateErrorKind, Entry, Operation, Store, UpdateErrorKind,
};
use bytes::Bytes;
use futures::TryStreamExt;
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
    /// Answers whether this one is stored by now, not an earlier one.
    pub(crate) async fn create(&self, key: String, value: Bytes) -> Result<bool, Failure> {
        self.stored(key, value).await.map(|(_, new)| new)
    }

    /// Stores a value under a key that has none, and answers with what is there by then: this one,
    /// or the first.
    pub(crate) async fn first(&self, key: String, value: Bytes) -> Result<Bytes, Failure> {
        self.stored(key, value).await.map(|(first, _)| first)
    }

    /// The first value, and whether it is this one.
    async fn stored(&self, key: String, value: Bytes) -> Result<(Bytes, bool), Failure> {
        let stored = self.with(|store| async move {
            match store.create(&key, value.clone()).await {
                Ok(_) => Ok((value, true)),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {
                    let first = store.get(&key).await?;
                    Ok((first.ok_or("is there, and cannot be read yet")?, false))
                }
                Err(error) => Err(error.into()),
            }
        });
        self.noted(stored.await)
    }

    /// Puts a value under a key, in the place of whatever is there.
    pub(crate) async fn put(&self, key: &str, value: Bytes) -> Result<(), Failure> {
        let stored = self.with(|store| async move { Ok(store.put(key, value).await.map(drop)?) });
        self.noted(stored.await)
    }

    /// Tells readiness how an attempt to store something has ended.
    fn noted<T>(&self, stored: Result<T, Failure>) -> Result<T, Failure> {
        self.broker.stored(stored.as_ref().map(|_| ()).map_err(ToString::to_string));
        stored
    }

    /// All values; the usual case, that there are none, is cheap.
    pub(crate) async fn values(&self) -> Result<Vec<Bytes>, Failure> {
        self.with(|store| async move {
            if store.stream.get_info().await?.state.messages == 0 {
                return Ok(Vec::new());
            }
            let keys: Vec<String> = store.keys().await?.try_collect().await?;
            let values = keys.iter().map(|key| store.get(key));
            let values = futures::future::try_join_all(values).await?;
            Ok(values.into_iter().flatten().collect())
        })
        .await
    }

    /// What is under a key now, with its revision.
    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>, Failure> {
        self.with(|store| async move {
            let entry = store.entry(key).await?;
            Ok(entry.filter(|entry| entry.operation == Operation::Put))
        })
        .await
    }

    /// Puts a value in the place of a revision; not when another one has taken it.
    pub(crate) async fn update(
        &self,
        key: &str,
        revision: u64,
        value: Bytes,
    ) -> Result<bool, Failure> {
        self.with(|store| async move {
            match store.update(key, value, revision).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Whether it is there already. One that nobody has needed yet is not.
    pub(crate) async fn exists(&self) -> Result<bool, Failure> {
        let stream = format!("KV_{}", self.name);
        let found = async {
            match self.broker.jetstream().get_stream(stream).await {
                Ok(_) => Ok(true),
                Err(error) if is_absent(&error.kind()) => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        patiently(&self.broker, found).await
    }

    /// Removes a key with all that is known of it.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Failure> {
        self.with(|store| async move {
            let subject = format!("{}{key}", store.prefix);
            store.stream.purge().filter(subject).await?;
            Ok(())
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

fn is_absent(error: &GetStreamErrorKind) -> bool {
    matches!(error, GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
