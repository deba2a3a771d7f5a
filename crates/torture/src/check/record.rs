//! Is everything that happened in the stream, once, and in order?

use std::collections::BTreeSet;

use kernel::Uuid;

use super::case::{Case, id_in};
use super::contract::{BOOKKEEPERS, listens_to};
use super::{Subject, Verdict};
use crate::evidence::{Event, Happening, OutboxRow};
use crate::history::{Operation, Seen, What};

/// **I5** compares the answered commands with the stream and the table of causes, the stream with
/// the outboxes, and the outboxes with the rows of the aggregates. What the harness has published
/// itself is not counted, but must be named by `Expected`.
///
/// * Each command that was told OK has, under its request id as the causation id, exactly one event
///   in the stream, the one that its method brings about, and it happened to the resource in the
///   answer; its cause is on record. (A cancel of what is being cancelled already brings about
///   nothing new: then the earlier wish is in the stream. What is said to payment brings about an
///   attempt, whose outcome has a cause of its own.)
/// * Each event of the stream has a row in its context's outbox that is the same in aggregate,
///   version, kind, correlation, causation and payload; its message id is its event id.
/// * Each outbox row is in the stream exactly once. (Rows are kept for a day; no run takes as long.)
/// * Each aggregate's row has the version of its last outbox row: no event without its change.
/// * The stream holds nothing that is no event.
pub(super) fn nothing_lost_no_ghosts(case: &Case<'_>) -> Verdict {
    let mut verdict =
        Verdict::new("I5", "each event of a command is in the stream once, no ghosts");
    let mut seen_requests = BTreeSet::new();
    for (operation, seen) in case.answered() {
        if operation.request_id.is_none_or(|request| seen_requests.insert(request)) {
            answered(case, operation, seen, &mut verdict.of(operation.ride));
        }
    }
    for event in &case.published {
        committed(case, event, &mut verdict.of(event.correlation));
    }
    for (context, row) in case.outboxes() {
        let count = case.events(row.event).len();
        verdict.of(row.correlation).must(count == 1, || {
            format!("{} is in the stream {count} times", described(context, row))
        });
    }
    for (aggregate, ride, version) in rows(case) {
        let written = last_written(case, aggregate);
        verdict.of(ride).must(written == version, || {
            format!("the row of {aggregate} has version {version}, its outbox {written}")
        });
    }
    foreign(case, &mut verdict);
    verdict
}

fn answered(case: &Case<'_>, operation: &Operation, seen: &Seen, it: &mut Subject<'_>) {
    let what = operation.what;
    let Some(request) = operation.request_id else {
        return it.fails(format!("{what} was told OK without a request id"));
    };
    let (context, event) = match what {
        What::RequestAllocation => ("allocation", "AllocationRequested"),
        What::CancelAllocation => ("allocation", "AllocationCancelRequested"),
        What::AcceptDriving => ("driving", "DrivingApproved"),
        What::StartDriving => ("driving", "DrivingStarted"),
        What::FinishDriving => ("driving", "DrivingFinished"),
        What::SettlePayment | What::RefundPayment => ("payment", ""),
        What::GetAllocation | What::GetDriving | What::GetDrivingInfo | What::GetPayment => return,
    };
    let resource = id_in(&seen.resource);
    let expected: Vec<_> =
        Some((event, resource)).filter(|_| !event.is_empty()).into_iter().collect();
    let caused: Vec<_> =
        case.caused_by(request).iter().map(|event| (event.name(), Some(event.aggregate))).collect();
    let wished_before = || {
        what == What::CancelAllocation
            && caused.is_empty()
            && resource.is_some_and(|id| wished(case, id))
    };
    it.must(caused == expected || wished_before(), || {
        format!("{what} {request} was told OK for {}, the stream has {caused:?}", seen.resource)
    });
    let spent = case
        .spent(request)
        .iter()
        .any(|(known_to, cause)| *known_to == context && Some(cause.aggregate) == resource);
    it.must(spent, || format!("{what} {request} was told OK, its cause is not on record"));
}

/// Whether the customer's wish to cancel is in the stream.
fn wished(case: &Case<'_>, allocation: Uuid) -> bool {
    use proto::allocation::v1::allocation_cancel_requested::CancelCause::Customer;
    case.history(allocation).iter().any(|event| match &event.happening {
        Some(Happening::AllocationCancelRequested(it)) => it.cause() == Customer,
        _ => false,
    })
}

fn committed(case: &Case<'_>, event: &Event, it: &mut Subject<'_>) {
    let what = format!("{} v{} at {}", event.name(), event.version, event.sequence);
    let message_id = event.message_id.as_deref().unwrap_or_default();
    it.must(message_id == event.id.to_string(), || format!("{what} has message id {message_id}"));
    let Some((context, row)) = case.outbox(event.id) else {
        return it.fails(format!("{what} is a ghost: no outbox has {}", event.id));
    };
    let stands = (&*event.context, event.aggregate, event.version, &event.kind);
    let written = (context, row.aggregate, row.version, &row.kind);
    it.must(stands == written, || format!("{what} is {stands:?}, the outbox has {written:?}"));
    let why = (event.correlation, event.causation);
    it.must(why == (row.correlation, row.causation) && event.payload == row.payload, || {
        format!("{what} has other ids or another payload than its outbox row {}", row.id)
    });
}

/// All aggregates' rows: id, ride, version.
fn rows<'a>(case: &Case<'a>) -> impl Iterator<Item = (Uuid, Uuid, i64)> + use<'a> {
    let evidence = case.evidence;
    let allocations = evidence.allocations.values().map(|row| (row.id, row.id, row.version));
    let drivings = evidence.drivings.values().map(|row| (row.id, row.allocation, row.version));
    let payments = evidence.payments.values().map(|row| (row.id, row.allocation, row.version));
    allocations.chain(drivings).chain(payments)
}

fn last_written(case: &Case<'_>, aggregate: Uuid) -> i64 {
    case.written(aggregate).iter().map(|row| row.version).max().unwrap_or(0)
}

fn described(context: &str, row: &OutboxRow) -> String {
    let sent = if row.sent_at.is_some() { "sent" } else { "unsent" };
    format!("{} v{} ({context} outbox {}, {sent})", row.name(), row.version, row.id)
}

/// What is in the stream and comes from no relay.
fn foreign(case: &Case<'_>, verdict: &mut Verdict) {
    for stranger in &case.evidence.strangers {
        let why =
            format!("message {} of the stream is no event: {}", stranger.sequence, stranger.why);
        verdict.of(None).fails(why);
    }
    for event in case.evidence.stream.iter().filter(|event| event.is_injected()) {
        let expected = case.expected;
        let known = expected.injected.contains(&event.id) || expected.parked.contains(&event.id);
        verdict.of(event.correlation).must(known, || {
            format!("{} at {} was published by nobody we know", event.name(), event.sequence)
        });
    }
}

/// **I6** compares the stream with itself, with the rows, and with what each consumer knows.
///
/// * The versions of each aggregate are 1, 2, .. in the order of the stream, up to the version of
///   its row.
/// * Each context that listens knows of each aggregate its last version, unless something of it is
///   parked there, and knows of no aggregate that the stream does not. (Consumers with effect apply
///   n + 1 after n only, so the last version known is the whole history applied in order.) Message
///   keeps no such book: I8 is its proof, as I7 is the dashboard's.
pub(super) fn in_order(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I6", "versions are 1..n in the stream and as applied");
    for (aggregate, history) in case.aggregates() {
        let Some(first) = history.first() else { continue };
        let mut it = verdict.of(first.correlation);
        let versions: Vec<i64> = history.iter().map(|event| event.version).collect();
        let last = case.row_version(aggregate).unwrap_or(0);
        it.must(versions.iter().copied().eq(1..=last), || {
            format!("{} {aggregate} is {versions:?} in the stream, its row v{last}", first.context)
        });
        for context in BOOKKEEPERS {
            if listens_to(context).contains(&first.context.as_str()) {
                applied(case, context, aggregate, last, &mut it);
            }
        }
    }
    for context in BOOKKEEPERS {
        for (aggregate, version) in
            case.evidence.records(context).into_iter().flat_map(|it| &it.known)
        {
            let poison = || case.evidence.stream.iter().any(|event| event.aggregate == *aggregate);
            let known = !case.history(*aggregate).is_empty() || poison();
            verdict.of(None).must(known, || {
                format!("{context} knows v{version} of {aggregate}, which the stream does not")
            });
        }
    }
    verdict
}

fn applied(case: &Case<'_>, context: &str, aggregate: Uuid, last: i64, it: &mut Subject<'_>) {
    let Some(records) = case.evidence.records(context) else {
        return it.fails(format!("there are no records of {context}"));
    };
    let parked = records.parked.values().any(|parked| parked.aggregate == aggregate);
    let known = records.known.get(&aggregate).copied().unwrap_or(0);
    it.must(known == last || parked, || {
        format!("{context} knows v{known} of {aggregate}, the last is v{last}")
    });
}
