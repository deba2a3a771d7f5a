//! The smallest history of one ride: everything that anybody said, did and kept about it, in the
//! order of time. Printed when the ride breaks an invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kernel::{AllocationId, DrivingId, Uuid};

use crate::evidence::{Allocation, Driving, Event, Evidence, Movement, OutboxRow, Payment, View};
use crate::history::{Operation, Outcome, Seen};

/// Tells the story of a ride, by its allocation: first what happened, then what is on record now.
///
/// Operations are timed by the harness, events by the services. Both are shown in seconds from the
/// start of the run; where that was on the services' clocks follows from the fact that no command's
/// event is older than the command.
pub(crate) fn of(ride: Uuid, operations: &[Operation], evidence: &Evidence) -> String {
    let story = Story { ride, operations, evidence, aggregates: aggregates(ride, evidence) };
    let mut lines = story.operations();
    lines.extend(story.events());
    lines.extend(story.unwritten());
    lines.sort_by_key(|(time, _)| *time);
    let mut text = format!("ride {}\n", AllocationId(ride));
    for (time, line) in lines {
        // A string takes everything that is written to it.
        writeln!(text, "{:>9.3}  {line}", time as f64 / 1e6).ok();
    }
    for line in story.now() {
        writeln!(text, "      now  {line}").ok();
    }
    text
}

struct Story<'a> {
    ride: Uuid,
    operations: &'a [Operation],
    evidence: &'a Evidence,
    /// The allocation, its driving and its payment.
    aggregates: BTreeSet<Uuid>,
}

/// One line and when it happened, in microseconds from the start of the run.
type Line = (i64, String);

fn aggregates(ride: Uuid, evidence: &Evidence) -> BTreeSet<Uuid> {
    let driving = evidence.driving_of(ride).map(|driving| driving.id);
    let payments = driving.into_iter().flat_map(|driving| evidence.payments_of(driving));
    payments.map(|payment| payment.id).chain(driving).chain([ride]).collect()
}

impl Story<'_> {
    fn operations(&self) -> Vec<Line> {
        let mut last_seen = BTreeMap::<(&str, &str), i64>::new();
        let about = self.operations.iter().filter(|it| self.is_about(it));
        let news = about.filter(|it| match &it.outcome {
            // Who looks again and sees the same has nothing to tell.
            Outcome::Ok(seen) if !it.what.is_command() => {
                let before = last_seen.insert((&it.who, &seen.resource), seen.version);
                before != Some(seen.version)
            }
            _ => true,
        });
        news.map(|it| (it.from.as_micros() as i64, operation(it))).collect()
    }

    fn is_about(&self, operation: &Operation) -> bool {
        let seen = match &operation.outcome {
            Outcome::Ok(Seen { resource, .. }) => resource.rsplit_once('/'),
            Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
        };
        let id = seen.and_then(|(_, id)| id.parse().ok());
        operation.ride == Some(self.ride) || id.is_some_and(|id| self.aggregates.contains(&id))
    }

    /// What was committed, and where in the stream it is.
    fn events(&self) -> Vec<Line> {
        let began = began(self.operations, self.evidence);
        let rows = self.evidence.records.iter().flat_map(|(context, records)| {
            records.outbox.iter().map(move |row| (context.as_str(), row))
        });
        let ours = rows.filter(|(_, row)| self.is_ours(row.correlation, row.aggregate));
        ours.map(|(context, row)| (row.time - began, self.event(context, row))).collect()
    }

    fn event(&self, context: &str, row: &OutboxRow) -> String {
        let stream = self.evidence.stream.iter().filter(|event| event.id == row.event);
        let places: Vec<String> = stream.map(|event| place(event, row.time)).collect();
        let places =
            if places.is_empty() { "NOT IN THE STREAM".to_owned() } else { places.join(", ") };
        format!(
            "{context} outbox {}: {} v{} by {}, {places}",
            row.id,
            row.name(),
            row.version,
            short(row.causation)
        )
    }

    /// What is in the stream and in no outbox.
    fn unwritten(&self) -> Vec<Line> {
        let began = began(self.operations, self.evidence);
        let written = |event: &Event| {
            let mut rows = self.evidence.records.values().flat_map(|records| &records.outbox);
            rows.any(|row| row.event == event.id)
        };
        let ours =
            self.evidence.stream.iter().filter(|event| {
                self.is_ours(event.correlation, event.aggregate) && !written(event)
            });
        let line = |event: &Event| {
            format!("stream {}: {} v{} OUT OF NOTHING", event.sequence, event.name(), event.version)
        };
        ours.map(|event| (event.stored_at - began, line(event))).collect()
    }

    fn is_ours(&self, correlation: Uuid, aggregate: Uuid) -> bool {
        correlation == self.ride || self.aggregates.contains(&aggregate)
    }

    /// What is on record.
    fn now(&self) -> Vec<String> {
        let evidence = self.evidence;
        let driving = evidence.driving_of(self.ride);
        let payments = driving.into_iter().flat_map(|driving| evidence.payments_of(driving.id));
        let name = driving.map(|driving| DrivingId(driving.id).to_string());
        let charges = evidence.charges.iter().filter(|it| Some(&it.driving) == name.as_ref());
        let mut lines = Vec::new();
        lines.extend(evidence.allocations.get(&self.ride).map(allocation));
        lines.extend(driving.map(self::driving));
        lines.extend(payments.map(payment));
        lines.extend(evidence.view.get(&self.ride).map(view));
        lines.extend(charges.map(|it| {
            let key = it.idempotency_key.rsplit('-').next().unwrap_or_default();
            format!("charge {} {}, {} won, key {key}", it.id, it.status, it.amount)
        }));
        let refunds = evidence.refunds.iter().filter(|it| Some(&it.driving) == name.as_ref());
        lines.extend(refunds.map(|it| format!("refund {}, {} won", it.id, it.amount)));
        let booked = evidence.ledger.iter().filter(|it| self.aggregates.contains(&it.payment));
        lines.extend(booked.map(movement));
        let dues = evidence.dues.iter().filter(|it| self.aggregates.contains(&it.payment));
        lines.extend(dues.map(|it| format!("owed by {:?} since v{}", it.debtor, it.version)));
        lines.extend(self.told());
        lines.extend(self.books());
        lines
    }

    fn told(&self) -> impl Iterator<Item = String> {
        let name = AllocationId(self.ride).to_string();
        let told = self.evidence.told.iter().filter_map(|told| told.message.as_ref());
        told.filter(move |message| message.allocation == name).map(|message| {
            let template = message.template().as_str_name();
            format!("{} was told {template} as {}", message.customer, message.name)
        })
    }

    /// What consumers know of the ride, and what they have put aside.
    fn books(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (context, records) in &self.evidence.records {
            let known = records.known.iter().filter(|(id, _)| self.aggregates.contains(id));
            let known = known.map(|(id, version)| format!("v{version} of {}", short(*id)));
            let known: Vec<String> = known.collect();
            if !known.is_empty() {
                lines.push(format!("{context} knows {}", known.join(", ")));
            }
            let parked = records.parked.values();
            let parked = parked.filter(|parked| self.aggregates.contains(&parked.aggregate));
            lines.extend(parked.map(|it| {
                format!("{context} has parked {} v{}: {}", it.kind, it.version, it.reason)
            }));
        }
        lines
    }
}

fn allocation(row: &Allocation) -> String {
    let Allocation { state, version, customer, driver, .. } = row;
    let driving = row.driving.map(short);
    format!("allocation {state} v{version} of {customer}, driving {driving:?} by {driver:?}")
}

fn driving(row: &Driving) -> String {
    let Driving { state, version, driver, fare, payment_state, .. } = row;
    let payment = row.payment.map(short);
    format!(
        "driving {} {state} v{version} by {driver:?}, fare {fare:?}, payment {payment:?} {payment_state:?}",
        short(row.id)
    )
}

fn payment(row: &Payment) -> String {
    let Payment { state, version, amount, attempt_count: attempts, charge_number: keys, .. } = row;
    format!(
        "payment {} {state} v{version}, {amount} won, {} back, {attempts} attempts, {keys} keys, {:?}",
        short(row.id),
        row.refunded_amount,
        row.provider_reference
    )
}

fn movement(row: &Movement) -> String {
    let Movement { kind, debit, credit, amount, .. } = row;
    format!("ledger: {kind} {}, {amount} won from {credit} to {debit}", short(row.charge))
}

fn view(row: &View) -> String {
    let states = (row.alloc_status, row.driving_status, row.payment_status);
    let versions = (row.allocation_version, row.driving_version, row.payment_version);
    format!(
        "view: states {states:?}, versions {versions:?}, driver {:?}, fee {:?}, up to stream {}",
        row.driver, row.fee, row.sequence
    )
}

fn operation(operation: &Operation) -> String {
    let Operation { number, who, what, attempts, until, .. } = operation;
    let request = operation.request_id.map(|id| format!(" {}", short(id))).unwrap_or_default();
    let outcome = match &operation.outcome {
        Outcome::Ok(seen) => format!("OK {} v{} {}", seen.state, seen.version, seen.resource),
        Outcome::Failed { code, reason } => format!("refused {code:?} {reason}"),
        Outcome::Unknown { code, message } => format!("unknown {code:?} {message}"),
    };
    let until = until.as_secs_f64();
    format!("#{number} {who} {what}{request}: {outcome} (until {until:.3}, {attempts} calls)")
}

fn place(event: &Event, committed: i64) -> String {
    let after = (event.stored_at - committed) as f64 / 1e6;
    let copy = if event.is_injected() { "copy " } else { "" };
    format!("{copy}stream {} after {after:.3} s", event.sequence)
}

/// The tail of an id: its head is the time, and the same for all that happens at once.
fn short(id: Uuid) -> String {
    let text = id.to_string();
    text.rsplit('-').next().unwrap_or(&text).to_owned()
}

/// The start of the run on the services' clocks, microseconds: the latest that lets no event of a
/// command be older than the command.
fn began(operations: &[Operation], evidence: &Evidence) -> i64 {
    let rows = evidence.records.values().flat_map(|records| &records.outbox);
    let asked: BTreeMap<Uuid, i64> = operations
        .iter()
        .rev()
        .filter_map(|it| Some((it.request_id?, it.from.as_micros() as i64)))
        .collect();
    let limits = rows.clone().filter_map(|row| Some(row.time - asked.get(&row.causation)?));
    limits.min().or_else(|| rows.map(|row| row.time).min()).unwrap_or(0)
}
