//! Has everything come to its end?

use std::collections::BTreeSet;

use kernel::Uuid;

use super::Verdict;
use super::case::Case;
use super::contract::{BOOKKEEPERS, CONSUMERS, listens_to, reads};

/// **I10** looks at everything that could be left to do, and compares what is parked with what
/// should be.
///
/// * Every outbox row is sent. Every durable consumer has been given everything and has acknowledged
///   it, and for each shard that holds events for a context there is such a consumer
///   (`<context>-<shard>`, or `<context>` for all shards).
/// * The view's checkpoint in each shard has reached the shard's last message.
/// * No payment waits for the reconciler, neither with its charge nor with a refund; no finished driving waits for its payment; no allocation
///   waits for a decision (that is I4's).
/// * Each context has parked exactly the poison that it must park (see [`Expected`](super::Expected)):
///   none is missing, and nothing else is there.
pub(super) fn at_rest(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I10", "all is sent, applied and decided; parked as expected");
    for (context, row) in case.outboxes() {
        verdict.of(row.correlation).must(row.sent_at.is_some(), || {
            format!("{context} has not sent {} v{}", row.name(), row.version)
        });
    }
    consumed(case, &mut verdict);
    folded(case, &mut verdict);
    decided(case, &mut verdict);
    for context in CONSUMERS {
        parked(case, context, &mut verdict);
    }
    verdict
}

fn consumed(case: &Case<'_>, verdict: &mut Verdict) {
    for consumer in &case.evidence.consumers {
        let (pending, given) = (consumer.pending, consumer.unacknowledged);
        verdict.of(None).must(consumer.is_done(), || {
            format!("{}: {pending} pending, {given} not acknowledged", consumer.name)
        });
    }
    let consumers: BTreeSet<&str> =
        case.evidence.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
    // The dashboard reads the stream in order and needs none.
    for context in CONSUMERS.into_iter().filter(|context| *context != "dashboard") {
        let heard = case.evidence.stream.iter();
        let heard = heard.filter(|event| listens_to(context).contains(&event.context.as_str()));
        for shard in heard.map(|event| event.shard).collect::<BTreeSet<_>>() {
            let name = format!("{context}-{shard}");
            let all = format!("{context}-all");
            let served = consumers.contains(name.as_str()) || consumers.contains(all.as_str());
            verdict.of(None).must(served, || format!("there is no consumer {name}"));
        }
    }
}

fn folded(case: &Case<'_>, verdict: &mut Verdict) {
    for shard in 0..case.evidence.shards {
        let in_shard = case.evidence.stream.iter().filter(|event| event.shard == shard);
        let Some(last) = in_shard.map(|event| event.sequence).max() else { continue };
        let at = case.evidence.checkpoints.get(&shard).copied().unwrap_or(0);
        let reached = u64::try_from(at).is_ok_and(|at| at >= last);
        verdict
            .of(None)
            .must(reached, || format!("the view is at {at} of {last} in shard {shard}"));
    }
}

fn decided(case: &Case<'_>, verdict: &mut Verdict) {
    for payment in case.evidence.payments.values() {
        let state = payment.state.as_str();
        let decided = matches!(state, "APPROVED" | "DECLINED" | "REFUNDED");
        verdict.of(payment.allocation).must(decided && payment.refund.is_none(), || {
            format!("payment {} is {state}, with the refund {:?}", payment.id, payment.refund)
        });
    }
    for driving in case.evidence.drivings.values() {
        let state = driving.payment_state.as_deref();
        let waits = matches!(state, Some("PENDING" | "DEFERRED"));
        let finished = driving.state == "FINISHED";
        verdict.of(driving.allocation).must(!waits && finished == state.is_some(), || {
            format!("driving {} is {}, its payment {state:?}", driving.id, driving.state)
        });
    }
}

fn parked(case: &Case<'_>, context: &str, verdict: &mut Verdict) {
    let expected = to_be_parked(case, context);
    for parked in case.evidence.parked(context) {
        let ride = case.event(parked.event).map(|event| event.correlation);
        verdict.of(ride).must(expected.contains(&parked.event), || {
            let name = parked.kind.rsplit('.').next().unwrap_or_default();
            format!("{context} has parked {name} v{}: {}", parked.version, parked.reason)
        });
    }
    let parked: BTreeSet<Uuid> = case.evidence.parked(context).map(|parked| parked.event).collect();
    for event in expected.difference(&parked) {
        verdict.of(None).fails(format!("{context} has not parked the poison {event}"));
    }
}

/// The poison in the stream that this context must have put aside.
fn to_be_parked(case: &Case<'_>, context: &str) -> BTreeSet<Uuid> {
    let mut behind = BTreeSet::new();
    let mut parked = BTreeSet::new();
    for event in &case.evidence.stream {
        let poison = case.expected.parked.contains(&event.id);
        if !poison || !listens_to(context).contains(&event.context.as_str()) {
            continue;
        }
        let unreadable = event.happening.is_none() && reads(context, event.name());
        // Only where there is an order to keep does what follows wait behind.
        let waits = BOOKKEEPERS.contains(&context) && behind.contains(&event.aggregate);
        if unreadable || waits {
            parked.insert(event.id);
            behind.insert(event.aggregate);
        }
    }
    parked
}
