//! Was each customer told everything, once?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kernel::{AllocationId, Uuid};
use proto::driving::v1::driving::PaymentState;
use proto::message::v1::Message;
use proto::message::v1::message::{State, Template};

use super::Verdict;
use super::case::Case;
use crate::evidence::{Happening, OutboxRow};

/// **I8** compares the outboxes of allocation, driving and payment with the bucket of messages.
///
/// * Each event that customers hear of (see [`template`]) has exactly one message: named and keyed
///   by the event, to that customer, about that allocation, by that template, in the language in
///   which the car was asked for, and SENT.
/// * That the fee of a finish comes later may be said by driving and by payment, and perhaps behind
///   the verdict: of all these events of a ride at most one has a message.
/// * Each message has such an event: nothing else is told, and nothing twice.
/// * No message was ever written over: the bucket has stored as many values as it holds.
pub(super) fn once(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I8", "each message is told once");
    let languages = languages(case);
    let mut told = BTreeMap::<Uuid, Vec<&Message>>::new();
    for entry in &case.evidence.told {
        match (entry.cause, &entry.message) {
            (Some(cause), Some(message)) => told.entry(cause).or_default().push(message),
            _ => {
                verdict
                    .of(None)
                    .fails(format!("value {} of the bucket is no message", entry.sequence));
            }
        }
    }
    let mut later = BTreeSet::new();
    for (_, row) in case.outboxes() {
        let Some((customer, template)) = heard_of(row) else { continue };
        let mut it = verdict.of(row.correlation);
        let messages = told.remove(&row.event).unwrap_or_default();
        if says_later(row) {
            if messages.is_empty() {
                continue;
            }
            it.must(later.insert(row.correlation), || {
                "was told by two contexts that the fee comes later".to_owned()
            });
        }
        let [message] = messages[..] else {
            it.fails(format!("{} {} was told {} times", row.name(), row.event, messages.len()));
            continue;
        };
        let language = languages.get(&row.correlation).cloned().unwrap_or_default();
        let allocation = AllocationId(row.correlation).to_string();
        let name = format!("messages/{}", row.event);
        let is = (&message.name, &message.customer, &message.allocation, &message.language);
        let should_be = (&name, &customer, &allocation, &language);
        it.must(is == should_be, || format!("the message is {is:?}, not {should_be:?}"));
        let stands = (message.template(), message.state());
        it.must(stands == (template, State::Sent), || {
            format!("the message {} is {stands:?}, not {template:?}", message.name)
        });
    }
    for (cause, messages) in told {
        let ride = messages.first().and_then(|message| super::case::id_in(&message.allocation));
        verdict
            .of(ride)
            .fails(format!("told because of {cause}, which nobody hears of: {messages:?}"));
    }
    let (ever, now) = (case.evidence.told_ever, case.evidence.told.len() as u64);
    verdict.of(None).must(ever == now, || {
        format!("{ever} values were written into the bucket, it holds {now}")
    });
    verdict
}

/// The customer who hears of an event, and by which template.
fn heard_of(row: &OutboxRow) -> Option<(String, Template)> {
    let happening = Happening::decode(&row.kind, &row.payload)?;
    let [_, customer, _] = happening.ride();
    template(&happening).map(|template| (customer.to_owned(), template))
}

/// What customers hear of: the table of the message context's own documentation.
fn template(happening: &Happening) -> Option<Template> {
    Some(match happening {
        Happening::AllocationRequested(_) => Template::AllocationRequested,
        Happening::AllocationExpired(_) => Template::AllocationExpired,
        Happening::DrivingApproved(_) => Template::AllocationApproved,
        Happening::DrivingStarted(_) => Template::DrivingStarted,
        Happening::DrivingFinished(_) => Template::DrivingFinished,
        Happening::PaymentApproved(_) => Template::PaymentApproved,
        Happening::PaymentDeferred(_) => Template::PaymentDeferred,
        Happening::PaymentDeclined(_) => Template::PaymentDeclined,
        Happening::DrivingPaymentSettled(it) if it.payment_state() == PaymentState::Deferred => {
            Template::PaymentDeferred
        }
        _ => return None,
    })
}

/// Whether an event says that the fee of a finish comes later: driving's, or payment's first.
fn says_later(row: &OutboxRow) -> bool {
    let deferred = heard_of(row).is_some_and(|(_, is)| is == Template::PaymentDeferred);
    deferred && (row.version == 1 || row.kind.starts_with("taxi.driving."))
}

/// In which language each ride was asked for.
fn languages(case: &Case<'_>) -> HashMap<Uuid, String> {
    let languages =
        case.outboxes().filter_map(|(_, row)| match Happening::decode(&row.kind, &row.payload) {
            Some(Happening::AllocationRequested(it)) => Some((row.correlation, it.language)),
            _ => None,
        });
    languages.collect()
}
