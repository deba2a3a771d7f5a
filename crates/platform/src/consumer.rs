//! Events on their way in, for policies with an effect.
//!
//! A durable pull consumer with explicit acknowledgements for each shard; replicas share the shards,
//! one replica a shard at a time. Lanes keep what belongs together in order and let the rest flow.
//! The cause of the effect is the event, written in the effect's own transaction, so a repetition
//! changes nothing. The *hold rule* keeps the order of each aggregate's history even when the broker
//! delivers out of order after a fail-over: what is older than the known version is ignored, the
//! next one is applied, a later one is held until the gap has closed. What can never be applied is
//! parked, together with what follows it in the same history.

mod inbox;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::{self, AckKind, stream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use kernel::{Failure, Uuid};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use self::inbox::{Known, SqlInbox};
use crate::broker::{Broker, BrokerError, Delivery};
use crate::lease::RENEWAL;
use crate::metrics::{self, Outcome, Reason};
use crate::outbox::{Backoff, chain};
use crate::parked::BEHIND;
use crate::shutdown::Shutdown;
use crate::telemetry::Span;

/// What a context does when it hears of an event: its `policies.rs`.
pub trait Policies: Send + Sync + 'static {
    /// Applies one event. `Rejected` and `Internal` are deterministic and park the event,
    /// `Unavailable` is tried again. An event the context does not care about is `Ok`.
    fn apply(&self, event: &Delivery) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What a session is about: everything, or one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Everything: replicas share it as the broker hands it out.
    Whole,
    /// One shard, in order.
    Shard(u64),
}

impl Part {
    fn shard(self) -> Option<u64> {
        match self {
            Part::Whole => None,
            Part::Shard(shard) => Some(shard),
        }
    }

    /// What the consumer of a context for this part is called on the broker.
    pub(crate) fn durable(self, context: &str) -> String {
        match self {
            Part::Whole => format!("{context}-all"),
            Part::Shard(shard) => format!("{context}-{shard}"),
        }
    }

    fn contains(self, shard: u64) -> bool {
        self.shard().is_none_or(|own| own == shard)
    }
}

/// Which parts are this replica's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// To be worked on.
    pub own: BTreeSet<Part>,
    /// To be released as soon as no work on them is in hand.
    pub surplus: BTreeSet<Part>,
}

/// Where a consumer keeps what it knows and what it has parked.
pub trait Inbox: Send + Sync + 'static {
    /// Which parts of the stream are this replica's. Asked every second.
    fn parts(&self) -> impl Future<Output = Result<Parts, Failure>> + Send;
    /// Lets another replica take a part over at once.
    fn release(&self, part: Part) -> impl Future<Output = ()> + Send;
    /// Lets others take everything over at once: this replica stops.
    fn leave(&self) -> impl Future<Output = ()> + Send;
    /// A session begins: what an earlier one believed may no longer be so.
    fn begin(&self) {}
    /// How the event stands to what is known of its aggregate.
    fn order(&self, event: &Delivery) -> impl Future<Output = Result<InOrder, Failure>> + Send;
    /// Remembers that the event has been applied.
    fn applied(&self, event: &Delivery) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Puts the event aside.
    fn park(&self, event: &Delivery, why: &str)
    -> impl Future<Output = Result<(), Failure>> + Send;
    /// The parked events that are to be tried again now.
    fn due(&self) -> impl Future<Output = Result<Vec<Delivery>, Failure>> + Send;
    /// What has become of another try: applied, or why not.
    fn tried_again(
        &self,
        event: &Delivery,
        outcome: Result<(), String>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How an event stands to what is known of its aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InOrder {
    /// Applied before.
    Known,
    /// The next one.
    Next,
    /// There is a gap before it.
    Early,
    /// An earlier event of the same aggregate is parked.
    BehindParked,
}

/// The hold rule.
pub fn hold(known: i64, version: i64) -> InOrder {
    match version - known {
        ..=0 => InOrder::Known,
        1 => InOrder::Next,
        2.. => InOrder::Early,
    }
}

/// How many histories are worked on at once.
const LANES: u64 = 64;
/// How long the broker waits for an acknowledgement before it delivers again.
const ACK_WAIT: Duration = Duration::from_secs(8);
/// How long an event with a gap before it stays with the broker.
const HOLD: Duration = Duration::from_millis(200);
/// How long a session that ends may take to finish what it has begun.
const LAST_WORK: Duration = Duration::from_secs(2);
/// A session in which nothing arrives for this long, though there is something, is begun anew.
const STALLED: Duration = Duration::from_secs(15);

/// Feeds a context's policies.
pub struct Consumer<P, I> {
    /// What durable consumers on the broker are named after: the context.
    pub name: &'static str,
    /// Which contexts it listens to.
    pub listens_to: &'static [&'static str],
    /// From where.
    pub broker: Broker,
    /// What to do.
    pub policies: P,
    /// What is known.
    pub inbox: I,
}

/// The work on one part, until it is asked to stop.
struct Session {
    stop: CancellationToken,
    work: JoinHandle<()>,
}

impl<P: Policies, I: Inbox> Consumer<P, I> {
    /// Runs until shutdown.
    pub async fn run(self, tasks: Shutdown) {
        metrics::consumer_starts(self.name);
        let this = Arc::new(self);
        let mut sessions = BTreeMap::new();
        let mut round = tokio::time::interval(RENEWAL);
        loop {
            tokio::select! {
                () = tasks.cancelled() => break,
                _ = round.tick() => {}
            }
            match this.inbox.parts().await {
                Ok(parts) => this.follow(&mut sessions, parts).await,
                Err(error) => {
                    tracing::warn!(consumer = this.name, error = %chain(&error), "whose turn it is")
                }
            }
            if this.broker.is_connected()
                && let Err(error) = this.retry_parked(&sessions).await
            {
                tracing::warn!(consumer = this.name, error = %chain(&error), "parked events");
            }
        }
        end(sessions.into_values()).await;
        this.inbox.leave().await;
    }

    /// Ends the sessions that are not this replica's any more, and begins those that are new.
    async fn follow(self: &Arc<Self>, sessions: &mut BTreeMap<Part, Session>, parts: Parts) {
        let Parts { own, surplus } = parts;
        let ours = |part: &Part| own.contains(part) && !surplus.contains(part);
        let ended: Vec<_> = sessions.extract_if(.., |part, _| !ours(part)).collect();
        let others = ended.iter().map(|(part, _)| *part).chain(surplus.iter().copied());
        let others: BTreeSet<Part> = others.collect();
        end(ended.into_iter().map(|(_, session)| session)).await;
        for part in others {
            self.inbox.release(part).await;
        }
        for part in own.difference(&surplus).copied() {
            sessions.entry(part).or_insert_with(|| {
                let stop = CancellationToken::new();
                let work = tokio::spawn(self.clone().work(part, stop.clone()));
                Session { stop, work }
            });
        }
    }

    /// Works on one part until it is asked to stop; begins anew after every failure.
    async fn work(self: Arc<Self>, part: Part, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.consume(part, &stop, &mut backoff).await {
            tracing::warn!(consumer = self.name, ?part, error = %chain(&*error), "begins anew");
            let stalled = error.downcast_ref::<Stalled>().is_some();
            metrics::rebuilt(self.name, if stalled { Reason::Stalled } else { Reason::Failed });
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    /// One session with the broker: until the end, or until the connection is lost.
    async fn consume(
        self: &Arc<Self>,
        part: Part,
        stop: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<(), BrokerError> {
        self.inbox.begin();
        let (consumer, mut messages) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = self.open(part) => opened?,
        };
        let shelf = Arc::new(Shelf::new(self.name, part));
        let lanes = self.lanes(part, &shelf);
        let mut watch = tokio::time::interval(RENEWAL);
        let mut last_news = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                message = messages.try_next() => {
                    let message = message?.ok_or("the broker closed")?;
                    last_news = Instant::now();
                    *backoff = Backoff::default();
                    lanes.take(message, self.broker.shards()).await?;
                }
                _ = watch.tick() => if last_news.elapsed() > STALLED {
                    let pending = consumer.get_info().await?.num_pending > 0;
                    if pending && shelf.in_hand.load(Ordering::Relaxed) == 0 {
                        return Err(Stalled.into());
                    }
                    last_news = Instant::now();
                }
            }
        }
        // What has arrived and was not begun is for whoever comes next, at once.
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            message.ack_with(AckKind::Nak(None)).await.ok();
        }
        lanes.finish().await;
        Ok(())
    }

    /// Opens the durable consumer of a part.
    async fn open(
        &self,
        part: Part,
    ) -> Result<(consumer::Consumer<pull::Config>, pull::Stream), BrokerError> {
        let stream = self.broker.stream().await?;
        let subjects = |context: &&str| self.broker.subjects_of(context, part.shard());
        let config = pull::Config {
            durable_name: Some(part.durable(self.name)),
            filter_subjects: self.listens_to.iter().map(subjects).collect(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            deliver_policy: DeliverPolicy::All,
            max_ack_pending: 1_000,
            ..Default::default()
        };
        forget_narrower(&stream, &config).await?;
        let consumer = stream.create_consumer(config).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(200)
            .heartbeat(Duration::from_secs(5))
            .messages()
            .await?;
        Ok((consumer, messages))
    }

    /// Starts the lanes of one session.
    fn lanes(self: &Arc<Self>, part: Part, shelf: &Arc<Shelf>) -> Lanes {
        let count = match part {
            Part::Whole => LANES,
            Part::Shard(_) => LANES.div_ceil(self.broker.shards()),
        };
        let mut work = JoinSet::new();
        let lane = |_| {
            let (sender, mut messages) = mpsc::channel::<jetstream::Message>(64);
            let (this, shelf) = (self.clone(), shelf.clone());
            work.spawn(async move {
                while let Some(message) = messages.recv().await {
                    this.handle(message, &shelf).await;
                    shelf.in_hand.fetch_sub(1, Ordering::Relaxed);
                }
            });
            sender
        };
        Lanes { doors: (0..count).map(lane).collect(), work, shelf: shelf.clone() }
    }

    /// Brings one message to its end, however long its database or its neighbours are away.
    async fn handle(&self, message: jetstream::Message, shelf: &Shelf) {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(&message, shelf).await {
                Ok(ack) => {
                    // A lost acknowledgement means another delivery of what is known by then.
                    message.ack_with(ack).await.ok();
                    return;
                }
                Err(error) => {
                    tracing::warn!(consumer = self.name, error = %chain(&error), "trying again");
                    metrics::handled(self.name, Outcome::Retried);
                    message.ack_with(AckKind::Progress).await.ok();
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        message: &jetstream::Message,
        shelf: &Shelf,
    ) -> Result<AckKind, Failure> {
        let event = match parse(message) {
            Ok(event) => event,
            Err(error) => {
                // Not one of ours: there is nothing to park it under.
                tracing::error!(consumer = self.name, %error, subject = %message.subject, "no event");
                metrics::handled(self.name, Outcome::Unreadable);
                return Ok(AckKind::Term);
            }
        };
        let order = self.inbox.order(&event).await?;
        shelf.note(event.sequence, order);
        match order {
            InOrder::Known => {
                metrics::handled(self.name, Outcome::Known);
                return Ok(AckKind::Ack);
            }
            InOrder::Early => return Ok(AckKind::Nak(Some(HOLD))),
            InOrder::BehindParked => {
                self.inbox.park(&event, BEHIND).await?;
                metrics::handled(self.name, Outcome::Parked);
                return Ok(AckKind::Ack);
            }
            InOrder::Next => {}
        }
        let span = Span::process(&self.broker, self.name, &event);
        match self.apply(&event, span).await? {
            Ok(()) => {
                self.inbox.applied(&event).await?;
                metrics::handled(self.name, Outcome::Applied);
            }
            Err(why) => {
                tracing::error!(consumer = self.name, event = %event.id, kind = %event.kind, why, "parked");
                self.inbox.park(&event, &why).await?;
                metrics::handled(self.name, Outcome::Parked);
            }
        }
        Ok(AckKind::Ack)
    }

    /// Applies an event; answers why it can never be, if so.
    async fn apply(&self, event: &Delivery, mut span: Span) -> Result<Result<(), String>, Failure> {
        let log = tracing::info_span!("message", trace_id = span.trace().id());
        let outcome = span.scope(self.policies.apply(event).instrument(log)).await;
        match outcome {
            Ok(()) => Ok(Ok(())),
            Err(failure @ Failure::Unavailable(_)) => {
                span.fail("retried");
                Err(failure)
            }
            Err(failure) => {
                span.fail("parked");
                Ok(Err(chain(&failure)))
            }
        }
    }

    /// Tries parked events again that an operator has asked for, and those behind them.
    async fn retry_parked(&self, sessions: &BTreeMap<Part, Session>) -> Result<(), Failure> {
        let begun = Instant::now();
        // Not for long: leases want to be renewed.
        while begun.elapsed() < RENEWAL {
            let mut due = self.inbox.due().await?;
            due.retain(|event| {
                let shard = self.broker.shard_of(event.correlation);
                sessions.keys().any(|part| part.contains(shard))
            });
            if due.is_empty() {
                return Ok(());
            }
            for event in due {
                let span = Span::replay(&self.broker, self.name, &event);
                let outcome = self.apply(&event, span).await?;
                tracing::info!(consumer = self.name, event = %event.id, ?outcome, "tried again");
                if outcome.is_ok() {
                    self.inbox.applied(&event).await?;
                    metrics::handled(self.name, Outcome::Applied);
                }
                self.inbox.tried_again(&event, outcome).await?;
            }
        }
        Ok(())
    }
}

/// Ends sessions, all at once.
async fn end(sessions: impl IntoIterator<Item = Session>) {
    let sessions: Vec<Session> = sessions.into_iter().collect();
    for session in &sessions {
        session.stop.cancel();
    }
    for session in sessions {
        if let Err(error) = session.work.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The broker has something for us, and does not deliver it.
#[derive(Debug, thiserror::Error)]
#[error("nothing has arrived for {} s, though there is something", STALLED.as_secs())]
pub(crate) struct Stalled;

impl Stalled {
    /// How long is too long.
    pub(crate) const AFTER: Duration = STALLED;
}

/// Removes the consumer of an earlier version that listened to less: it has passed over what is to be
/// heard now. The one that takes its place begins at the beginning, and passes over what is known.
async fn forget_narrower(
    stream: &stream::Stream,
    wanted: &pull::Config,
) -> Result<(), BrokerError> {
    let name = wanted.durable_name.as_deref().unwrap_or_default();
    let heard = match stream.consumer_info(name).await {
        Ok(info) => info.config.filter_subjects,
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if wanted.filter_subjects.iter().any(|subject| !heard.contains(subject)) {
        tracing::info!(consumer = name, "listens to more than before, and begins anew");
        stream.delete_consumer(name).await?;
    }
    Ok(())
}

/// The lanes of one session.
struct Lanes {
    doors: Vec<mpsc::Sender<jetstream::Message>>,
    /// Dropped, and with it all work in hand, when the session fails.
    work: JoinSet<()>,
    shelf: Arc<Shelf>,
}

impl Lanes {
    /// Puts a message into the lane of what belongs together with it.
    async fn take(&self, message: jetstream::Message, shards: u64) -> Result<(), BrokerError> {
        let headers = message.headers.as_ref();
        let correlation = headers.and_then(|headers| headers.get("correlation-id"));
        let id = correlation.and_then(|id| Uuid::try_parse(id.as_str()).ok()).unwrap_or_default();
        // Within a shard the remainder by the number of shards is the same for all.
        let lane = id.as_u128() / u128::from(shards) % self.doors.len() as u128;
        self.shelf.in_hand.fetch_add(1, Ordering::Relaxed);
        self.doors[lane as usize].send(message).await.map_err(|_| "a lane has ended".into())
    }

    /// Finishes what is in hand, if that does not take long.
    async fn finish(mut self) {
        self.doors.clear();
        let finished = async { while self.work.join_next().await.is_some() {} };
        tokio::time::timeout(LAST_WORK, finished).await.ok();
    }
}

/// What one session has in its hands.
struct Shelf {
    consumer: &'static str,
    part: Part,
    in_hand: AtomicUsize,
    /// Places in the stream of the events that wait for an earlier one.
    held: Mutex<HashSet<u64>>,
}

impl Shelf {
    fn new(consumer: &'static str, part: Part) -> Shelf {
        metrics::held(consumer, part.shard(), 0);
        Shelf { consumer, part, in_hand: AtomicUsize::new(0), held: Mutex::default() }
    }

    /// Counts the events that are held.
    fn note(&self, sequence: u64, order: InOrder) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match order {
            InOrder::Early => held.insert(sequence),
            _ => held.remove(&sequence),
        };
        if changed {
            metrics::held(self.consumer, self.part.shard(), held.len());
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        metrics::held(self.consumer, self.part.shard(), 0);
    }
}

/// Reads a message of the stream.
pub(crate) fn parse(message: &jetstream::Message) -> Result<Delivery, BrokerError> {
    let headers = message.headers.as_ref().ok_or("no headers")?;
    let sequence = message.info()?.stream_sequence;
    Delivery::parse(headers, message.payload.clone(), sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_rule() {
        let table = [(0, 1, InOrder::Next), (3, 4, InOrder::Next), (3, 3, InOrder::Known)];
        for (known, version, order) in table {
            assert_eq!(hold(known, version), order);
        }
        assert_eq!(hold(3, 1), InOrder::Known);
        assert_eq!(hold(3, 5), InOrder::Early);
        assert_eq!(hold(0, 2), InOrder::Early);
    }
}
