//! The case before the judge: operations and evidence, found by what the checks ask for.

use std::collections::{BTreeMap, HashMap};

use kernel::{DrivingId, Uuid};

use super::Expected;
use crate::evidence::{Charge, Driving, Event, Evidence, Movement, OutboxRow, Payment, Spent};
use crate::history::{Operation, Outcome, Seen, What};

/// Everything that is known, with its indexes.
pub(super) struct Case<'a> {
    pub(super) operations: &'a [Operation],
    pub(super) evidence: &'a Evidence,
    pub(super) expected: &'a Expected,
    /// What relays have published, in the order of the stream.
    pub(super) published: Vec<&'a Event>,
    events: HashMap<Uuid, Vec<&'a Event>>,
    histories: HashMap<Uuid, Vec<&'a Event>>,
    rides: HashMap<Uuid, Vec<&'a Event>>,
    caused: HashMap<Uuid, Vec<&'a Event>>,
    outbox: HashMap<Uuid, (&'a str, &'a OutboxRow)>,
    written: HashMap<Uuid, Vec<&'a OutboxRow>>,
    led_to: HashMap<Uuid, Vec<&'a OutboxRow>>,
    spent: HashMap<Uuid, Vec<(&'a str, &'a Spent)>>,
    requests: HashMap<Uuid, Vec<&'a Operation>>,
    drivings: HashMap<Uuid, &'a Driving>,
    payments: HashMap<Uuid, Vec<&'a Payment>>,
    charges: HashMap<&'a str, Vec<&'a Charge>>,
    movements: HashMap<Uuid, Vec<&'a Movement>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        operations: &'a [Operation],
        evidence: &'a Evidence,
        expected: &'a Expected,
    ) -> Case<'a> {
        let published: Vec<_> =
            evidence.stream.iter().filter(|event| !event.is_injected()).collect();
        let by = |key: fn(&Event) -> Uuid| groups(published.iter().map(|it| (key(it), *it)));
        let outbox = evidence.records.iter().flat_map(|(context, records)| {
            records.outbox.iter().map(|row| (row.event, (context.as_str(), row)))
        });
        let rows = evidence.records.values().flat_map(|records| &records.outbox);
        let spent = evidence.records.iter().flat_map(|(context, records)| {
            records.causes.iter().map(|cause| (cause.id, (context.as_str(), cause)))
        });
        let requests = operations.iter().filter_map(|it| Some((it.request_id?, it)));
        let drivings = evidence.drivings.values().map(|it| (it.allocation, it));
        Case {
            operations,
            evidence,
            expected,
            events: by(|event| event.id),
            histories: by(|event| event.aggregate),
            rides: by(|event| event.correlation),
            caused: by(|event| event.causation),
            outbox: outbox.collect(),
            written: groups(rows.clone().map(|row| (row.aggregate, row))),
            led_to: groups(rows.map(|row| (row.causation, row))),
            spent: groups(spent),
            requests: groups(requests),
            drivings: drivings.collect(),
            payments: groups(evidence.payments.values().map(|it| (it.driving, it))),
            charges: groups(evidence.charges.iter().map(|it| (it.driving.as_str(), it))),
            movements: groups(evidence.ledger.iter().map(|it| (it.payment, it))),
            published,
        }
    }

    /// What was published with this event's id. There should be exactly one.
    pub(super) fn events(&self, id: Uuid) -> &[&'a Event] {
        found(&self.events, &id)
    }

    /// The one event with this id.
    pub(super) fn event(&self, id: Uuid) -> Option<&'a Event> {
        self.events(id).first().copied()
    }

    /// The events of one aggregate, in the order of the stream.
    pub(super) fn history(&self, aggregate: Uuid) -> &[&'a Event] {
        found(&self.histories, &aggregate)
    }

    /// All aggregates that have events.
    pub(super) fn aggregates(&self) -> impl Iterator<Item = (Uuid, &[&'a Event])> {
        self.histories.iter().map(|(id, events)| (*id, events.as_slice()))
    }

    /// The events of one ride, in the order of the stream.
    pub(super) fn ride(&self, allocation: Uuid) -> &[&'a Event] {
        found(&self.rides, &allocation)
    }

    /// The allocations of all rides that have events.
    pub(super) fn rides(&self) -> impl Iterator<Item = Uuid> {
        self.rides.keys().copied()
    }

    /// What happened because of this.
    pub(super) fn caused_by(&self, cause: Uuid) -> &[&'a Event] {
        found(&self.caused, &cause)
    }

    /// The context and the outbox row of an event.
    pub(super) fn outbox(&self, event: Uuid) -> Option<(&'a str, &'a OutboxRow)> {
        self.outbox.get(&event).copied()
    }

    /// The outbox rows of one aggregate, in the order of commit.
    pub(super) fn written(&self, aggregate: Uuid) -> &[&'a OutboxRow] {
        found(&self.written, &aggregate)
    }

    /// The outbox rows of what happened because of this.
    pub(super) fn committed_by(&self, cause: Uuid) -> &[&'a OutboxRow] {
        found(&self.led_to, &cause)
    }

    /// Where this cause is on record, by context.
    pub(super) fn spent(&self, cause: Uuid) -> &[(&'a str, &'a Spent)] {
        found(&self.spent, &cause)
    }

    /// All outbox rows, with their contexts.
    pub(super) fn outboxes(&self) -> impl Iterator<Item = (&'a str, &'a OutboxRow)> {
        let records = self.evidence.records.iter();
        records.flat_map(|(context, it)| it.outbox.iter().map(|row| (context.as_str(), row)))
    }

    /// The operations under this request id, in the order in which they began.
    pub(super) fn requests(&self, request: Uuid) -> &[&'a Operation] {
        found(&self.requests, &request)
    }

    /// The driving that serves this allocation.
    pub(super) fn driving_of(&self, allocation: Uuid) -> Option<&'a Driving> {
        self.drivings.get(&allocation).copied()
    }

    /// The payments of this driving. There should be at most one.
    pub(super) fn payments_of(&self, driving: Uuid) -> &[&'a Payment] {
        found(&self.payments, &driving)
    }

    /// What the provider has on record for this driving.
    pub(super) fn charges_of(&self, driving: Uuid) -> &[&'a Charge] {
        found(&self.charges, DrivingId(driving).to_string().as_str())
    }

    /// What the ledger has of this payment.
    pub(super) fn movements_of(&self, payment: Uuid) -> &[&'a Movement] {
        found(&self.movements, &payment)
    }

    /// The ride of this payment.
    pub(super) fn ride_of_payment(&self, payment: Uuid) -> Option<Uuid> {
        self.evidence.payments.get(&payment).map(|payment| payment.allocation)
    }

    /// The ride of the driving by this name.
    pub(super) fn ride_of_driving(&self, name: &str) -> Option<Uuid> {
        let driving = id_in(name).and_then(|id| self.evidence.drivings.get(&id));
        driving.map(|driving| driving.allocation)
    }

    /// What operators wanted to give back: the requests by the key of the refund, which follows from
    /// the payment, the operator and the request id.
    pub(super) fn refunds_wanted(&self) -> BTreeMap<Uuid, Vec<&'a Operation>> {
        let mut wanted = BTreeMap::<Uuid, Vec<&Operation>>::new();
        for operation in self.operations.iter().filter(|it| it.what == What::RefundPayment) {
            let driving = operation.ride.and_then(|ride| self.driving_of(ride));
            let payments = driving.map_or(&[][..], |driving| self.payments_of(driving.id));
            for (payment, request) in payments.iter().zip(operation.request_id) {
                let who = operation.who.replacen("operators/", "operator:", 1);
                let name = format!("refund {who} {request}");
                let key = Uuid::new_v5(&payment.id, name.as_bytes());
                wanted.entry(key).or_default().push(operation);
            }
        }
        wanted
    }

    /// The version that an aggregate's row has, whatever it is.
    pub(super) fn row_version(&self, aggregate: Uuid) -> Option<i64> {
        let Case { evidence, .. } = self;
        let allocation = evidence.allocations.get(&aggregate).map(|row| row.version);
        let driving = || evidence.drivings.get(&aggregate).map(|row| row.version);
        let payment = || evidence.payments.get(&aggregate).map(|row| row.version);
        allocation.or_else(driving).or_else(payment)
    }

    /// The commands that were answered, each with its answer.
    pub(super) fn answered(&self) -> impl Iterator<Item = (&'a Operation, &'a Seen)> {
        self.operations.iter().filter(|it| it.what.is_command()).filter_map(|it| {
            match &it.outcome {
                Outcome::Ok(seen) => Some((it, seen)),
                Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
            }
        })
    }
}

/// The id in a resource name.
pub(super) fn id_in(name: &str) -> Option<Uuid> {
    name.rsplit_once('/').and_then(|(_, id)| id.parse().ok())
}

fn groups<K: std::hash::Hash + Eq, V>(pairs: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups = HashMap::<K, Vec<V>>::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

fn found<'m, K, Q, V>(groups: &'m HashMap<K, Vec<V>>, key: &Q) -> &'m [V]
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    groups.get(key).map_or(&[], Vec::as_slice)
}
