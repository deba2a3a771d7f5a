//! What is on record when a run is over: the rows of every context, the stream of events, what was
//! told to customers, and the payment provider's own log.
//!
//! It is read by SQL, over JetStream and over HTTP, with no code of the contexts in between: a judge
//! who asks the accused what happened learns nothing. Only the contract (`proto`) and the kernel's
//! names are shared.

mod broker;
mod drained;
mod event;
mod ledger;
mod rows;

use std::collections::BTreeMap;

use kernel::Uuid;

pub(crate) use self::broker::{Consumer, Stranger, Told};
pub(crate) use self::drained::drained;
pub(crate) use self::event::{Event, Happening};
pub(crate) use self::ledger::{Balance, Due, Movement, movements};
pub(crate) use self::rows::{Allocation, Driving, OutboxRow, Parked, Payment, Spent, View};
pub(crate) use testkit::{
    ProviderCharge as Charge, ProviderRefund as Refund, ProviderRequest as Asked,
};

/// The stream of all events.
const STREAM: &str = "TAXI_EVENTS";
/// The bucket of what customers are told.
const MESSAGES: &str = "TAXI_MESSAGES";
/// The bucket of events that could not be told.
const PARKED_MESSAGES: &str = "TAXI_MESSAGES_PARKED";
/// How often the evidence is taken anew when the mesh has moved meanwhile.
const TRIES: usize = 5;

/// Where the evidence is.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    /// The databases: allocation, driving, payment, dashboard.
    pub(crate) databases: BTreeMap<String, String>,
    /// The broker.
    pub(crate) nats: String,
    /// Base address of the payment provider.
    pub(crate) provider: String,
}

/// Everything that is on record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The rows of allocation, by id.
    pub(crate) allocations: BTreeMap<Uuid, Allocation>,
    /// The rows of driving, by id.
    pub(crate) drivings: BTreeMap<Uuid, Driving>,
    /// The rows of payment, by id.
    pub(crate) payments: BTreeMap<Uuid, Payment>,
    /// The rows of the dashboard, by the allocation's id.
    pub(crate) view: BTreeMap<Uuid, View>,
    /// How far the dashboard has folded each shard.
    pub(crate) checkpoints: BTreeMap<i32, i64>,
    /// The house tables of each context; of message only what is parked.
    pub(crate) records: BTreeMap<String, Records>,
    /// The stream, from its first message to its last.
    pub(crate) stream: Vec<Event>,
    /// Messages of the stream that are no events.
    pub(crate) strangers: Vec<Stranger>,
    /// How many shards the stream has.
    pub(crate) shards: i32,
    /// The durable consumers of the stream.
    pub(crate) consumers: Vec<Consumer>,
    /// What customers were told, in the order of the bucket.
    pub(crate) told: Vec<Told>,
    /// How many values were ever written into the bucket of messages.
    pub(crate) told_ever: u64,
    /// The rows of payment's ledger.
    pub(crate) ledger: Vec<Movement>,
    /// What its accounts come to.
    pub(crate) balances: Vec<Balance>,
    /// What allocation knows of fees that were declined.
    pub(crate) dues: Vec<Due>,
    /// The provider's log: what it has charged,
    pub(crate) charges: Vec<Charge>,
    /// what it has given back,
    pub(crate) refunds: Vec<Refund>,
    /// and all it was asked for.
    pub(crate) requests: Vec<Asked>,
}

/// The house tables of one context.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// Events on their way out, in the order of their ids.
    pub(crate) outbox: Vec<OutboxRow>,
    /// Causes that have had their effect.
    pub(crate) causes: Vec<Spent>,
    /// The last version applied of each aggregate it hears of.
    pub(crate) known: BTreeMap<Uuid, i64>,
    /// Events put aside, by the event's id.
    pub(crate) parked: BTreeMap<Uuid, Parked>,
}

impl Evidence {
    /// Takes the evidence. The databases and the broker are read one after the other, so this is
    /// done again (a few times) when the stream has grown meanwhile: what is taken from a mesh that
    /// has drained belongs together.
    pub(crate) async fn collect(sources: &Sources) -> Result<Evidence, String> {
        let mut evidence = collect_once(sources).await?;
        for _ in 1..TRIES {
            if broker::length(&sources.nats).await? == evidence.length() {
                break;
            }
            evidence = collect_once(sources).await?;
        }
        Ok(evidence)
    }

    /// The number of the stream's last message.
    fn length(&self) -> u64 {
        let events = self.stream.last().map_or(0, |event| event.sequence);
        self.strangers.last().map_or(0, |stranger| stranger.sequence).max(events)
    }

    /// The house tables of a context.
    pub(crate) fn records(&self, context: &str) -> Option<&Records> {
        self.records.get(context)
    }

    /// What a context has put aside.
    pub(crate) fn parked(&self, context: &str) -> impl Iterator<Item = &Parked> {
        self.records(context).into_iter().flat_map(|records| records.parked.values())
    }

    /// The driving that serves this allocation.
    pub(crate) fn driving_of(&self, allocation: Uuid) -> Option<&Driving> {
        self.drivings.values().find(|driving| driving.allocation == allocation)
    }

    /// The payments of this driving. There should be at most one.
    pub(crate) fn payments_of(&self, driving: Uuid) -> impl Iterator<Item = &Payment> {
        self.payments.values().filter(move |payment| payment.driving == driving)
    }
}

async fn collect_once(sources: &Sources) -> Result<Evidence, String> {
    let mut evidence = Evidence::default();
    rows::collect(&sources.databases, &mut evidence).await?;
    broker::collect(&sources.nats, &mut evidence).await?;
    let provider = testkit::Provider::at(&sources.provider);
    let broken = |error| format!("the provider's log: {error}");
    evidence.charges = provider.charges().await.map_err(broken)?;
    evidence.refunds = provider.refunds().await.map_err(broken)?;
    evidence.requests = provider.requests().await.map_err(broken)?;
    Ok(evidence)
}
