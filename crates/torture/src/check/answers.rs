//! Were people told the truth?

use std::collections::BTreeMap;

use kernel::Uuid;

use super::case::{Case, id_in};
use super::{Subject, Verdict};
use crate::history::{Operation, Outcome, Seen, What};

/// Refusals for what stays so for ever: nothing can succeed after them.
const LASTING: [&str; 7] = [
    "ALREADY_ACCEPTED",
    "DRIVING_CLOSED",
    "DRIVING_ALREADY_STARTED",
    "ALLOCATION_CLOSED",
    "REQUEST_ID_REUSED",
    "PAYMENT_NOT_OUTSTANDING",
    "REFUND_EXCEEDS_PAYMENT",
];
/// Refusals for what somebody else is doing, or what is not known everywhere yet: a moment later the
/// same request may succeed.
const PASSING: [&str; 3] = ["PAYMENT_IN_FLIGHT", "REFUND_IN_PROGRESS", "OUTSTANDING_PAYMENT"];
/// Refusals because of another ride that is not over yet.
const BUSY: [&str; 2] = ["DRIVER_BUSY", "OPEN_ALLOCATION_EXISTS"];
/// States of rides that are over.
const OVER: [&str; 4] = ["DRIVING_FINISHED", "FINISHED", "CANCELLED", "EXPIRED"];
/// Refusals of a cancel whose wish is on record, because driving has said no to it.
const WISHED: [&str; 2] = ["DRIVING_ALREADY_STARTED", "CANCEL_WITHDRAWN"];

/// **I11** compares refused commands with the tables of causes, the outboxes and the stream.
///
/// * The request id of a refused command has no cause on record in any context, and no event has it
///   as its cause; nor has any the cause that a finish makes of it for its payment.
/// * A cancel that driving has said no to has left its wish, and nothing else: no driving was
///   cancelled because of it. So has a refund that the provider has said no to (that there is no
///   money in it is I13's).
///
/// Not counted is a command that was answered OK, or not at all, under the same request id elsewhere:
/// P1 judges those.
pub(super) fn refused_is_without_effect(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I11", "what was refused had no effect");
    for operation in case.operations.iter().filter(|it| it.what.is_command()) {
        let (Outcome::Failed { reason, .. }, Some(request)) =
            (&operation.outcome, operation.request_id)
        else {
            continue;
        };
        let same = case.requests(request);
        let refused = same.iter().all(|it| matches!(it.outcome, Outcome::Failed { .. }));
        if refused {
            without_effect(case, operation, request, reason, &mut verdict.of(operation.ride));
        }
    }
    verdict
}

fn without_effect(
    case: &Case<'_>,
    operation: &Operation,
    request: Uuid,
    reason: &str,
    it: &mut Subject<'_>,
) {
    let what = operation.what;
    let wish = match what {
        What::CancelAllocation => WISHED.contains(&reason),
        What::RefundPayment => reason == "REFUND_REFUSED",
        _ => false,
    };
    for cause in [request, Uuid::new_v5(&request, b"payment settled")] {
        let spent = case.spent(cause);
        it.must(wish || spent.is_empty(), || {
            format!("{what} was refused ({reason}), but is on record: {spent:?}")
        });
        for event in case.caused_by(cause) {
            let name = event.name();
            it.must(wish && name == "AllocationCancelRequested", || {
                format!("{what} was refused ({reason}), but led to {name} at {}", event.sequence)
            });
            let decided = case.caused_by(event.id).iter().any(|it| it.name() == "DrivingCancelled");
            it.must(!decided, || {
                format!("{what} was refused ({reason}), but cancelled the driving")
            });
        }
        it.must(wish || case.committed_by(cause).is_empty(), || {
            format!("{what} was refused ({reason}), but has an event in an outbox")
        });
    }
}

/// What each person has seen of each resource.
type Read<'a> = BTreeMap<(&'a str, String), Vec<(&'a Operation, &'a Seen)>>;

/// **I12** compares the answers that one person got about one resource, by whatever method.
///
/// * Of two answers, the second asked for after the first had come, the second is not older: its
///   version is at least the first's. The answer to a repeated request is as old as the request
///   (P1) and does not count as a second.
/// * Who has seen an allocation or its view finds it again. (A driver may lose sight of a driving:
///   somebody else has accepted it.)
/// * Versions of allocations and drivings are revisions of their rows; those of the view count what
///   was folded. So a ride's view is compared with the view only.
/// * One version of a resource has one content, whoever reads it: state, driver, fee and payment
///   state are the same.
pub(super) fn reads_never_go_back(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I12", "nobody reads an older version than before");
    let mut read = Read::new();
    let mut contents = BTreeMap::<(&str, i64), (&Operation, &Seen)>::new();
    for operation in case.operations {
        let seen = match &operation.outcome {
            Outcome::Ok(seen) if seen.version > 0 => seen,
            Outcome::Failed { reason, .. } => {
                found_again(&read, operation, reason, &mut verdict);
                continue;
            }
            Outcome::Ok(_) | Outcome::Unknown { .. } => continue,
        };
        let answers = read.entry((&operation.who, seen.resource.clone())).or_default();
        let mut it = verdict.of(operation.ride);
        if !is_repetition(case, operation) {
            not_older(answers, operation, seen, &mut it);
        }
        answers.push((operation, seen));
        let (other, first) =
            *contents.entry((&seen.resource, seen.version)).or_insert((operation, seen));
        it.must(content(seen) == content(first), || {
            format!(
                "{} v{} is {:?} to {} and {:?} to {}",
                seen.resource,
                seen.version,
                content(first),
                other.who,
                content(seen),
                operation.who
            )
        });
    }
    verdict
}

/// Compares that something is not there with what was seen before.
fn found_again(read: &Read<'_>, operation: &Operation, reason: &str, verdict: &mut Verdict) {
    let collection = match operation.what {
        What::GetAllocation => "allocations",
        What::GetDrivingInfo => "drivingInfos",
        _ => return,
    };
    let Some(ride) = operation.ride.filter(|_| reason.ends_with("_NOT_FOUND")) else { return };
    let before = read.get(&(operation.who.as_str(), format!("{collection}/{ride}")));
    let mut before = before.into_iter().flatten();
    let seen = before.find(|(other, _)| other.until <= operation.from);
    verdict.of(ride).must(seen.is_none(), || {
        let Operation { who, what, number, .. } = operation;
        format!("{who} was told {reason} by {what} (#{number}) after an answer")
    });
}

/// Compares an answer with the newest that had come before it was asked for. Operations are logged
/// in the order in which they began.
fn not_older(
    before: &[(&Operation, &Seen)],
    operation: &Operation,
    seen: &Seen,
    it: &mut Subject<'_>,
) {
    let earlier = before.iter().filter(|(other, _)| other.until <= operation.from);
    let Some((other, newest)) = earlier.max_by_key(|(_, seen)| seen.version) else { return };
    it.must(seen.version >= newest.version, || {
        format!(
            "{} read v{} of {} by {} (#{}) after v{} by {} (#{})",
            operation.who,
            seen.version,
            seen.resource,
            operation.what,
            operation.number,
            newest.version,
            other.what,
            other.number
        )
    });
}

/// What one version of a resource always shows.
fn content(seen: &Seen) -> (&str, Option<&str>, Option<i64>, Option<&str>) {
    (&seen.state, seen.driver.as_deref(), seen.fee, seen.payment_state.as_deref())
}

/// Whether the same request was begun before.
fn is_repetition(case: &Case<'_>, operation: &Operation) -> bool {
    let same = operation.request_id.map_or(&[][..], |request| case.requests(request));
    same.first().is_some_and(|first| first.number < operation.number)
}

/// **P1** compares the answers to commands that were sent more than once under one request id, and
/// what they had as effect.
///
/// * Whoever gets two answers gets the same one: the whole answer, or twice a refusal. A command
///   that was done once is not refused another time. (Payment answers with the payment as it is by
///   then; that is the same payment and the same fee. And of two copies that go out at once one may
///   be refused for what passes.)
/// * A command whose effect is on record was not refused after an attempt that nobody answered:
///   whoever repeats it must get the answer that was lost. Only a refusal that may pass (the person
///   had another ride that was not over, as far as they had seen) may have come before the effect.
/// * CANCELLING is no answer yet: later the same request learns the decision, CANCELLED, or that the
///   start was faster.
pub(super) fn the_same_for_ever(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("P1", "the same request id gets the same answer");
    let mut first_answers = BTreeMap::<(&str, Uuid), (&Operation, &Seen)>::new();
    for (operation, seen) in case.answered() {
        let Some(request) = operation.request_id else { continue };
        first_answers.entry((&operation.who, request)).or_insert((operation, seen));
    }
    for ((who, request), (first, seen)) in first_answers {
        let others = case.requests(request).iter();
        for other in others.filter(|it| it.who == who && it.number != first.number) {
            same_again(first, seen, other, &mut verdict.of(first.ride));
        }
    }
    for operation in case.operations.iter().filter(|it| it.what.is_command()) {
        if let Outcome::Unknown { message, .. } = &operation.outcome {
            lost_answer(case, operation, message, &mut verdict.of(operation.ride));
        }
    }
    verdict
}

fn same_again(first: &Operation, seen: &Seen, other: &Operation, it: &mut Subject<'_>) {
    let what = first.what;
    match &other.outcome {
        Outcome::Ok(again) => {
            let by_then = matches!(what, What::SettlePayment | What::RefundPayment);
            let may_differ = by_then || is_undecided(seen) || is_undecided(again);
            let same_so_far =
                (&seen.resource, seen.fee) == (&again.resource, again.fee) && may_differ;
            it.must(seen == again || same_so_far, || {
                format!("{what} was answered {seen:?}, then {again:?}")
            });
        }
        Outcome::Failed { reason, .. } => {
            let decided = is_undecided(seen) && WISHED.contains(&reason.as_str());
            let passed = PASSING.contains(&reason.as_str()) && other.from < first.until;
            it.must(decided || passed, || {
                format!("{what} was answered {}, but refused: {reason}", seen.state)
            });
        }
        Outcome::Unknown { .. } => {}
    }
}

fn is_undecided(seen: &Seen) -> bool {
    seen.state == "CANCELLING"
}

/// Looks at a command whose outcome is unknown though its last attempt was refused; the message
/// names the reason.
fn lost_answer(case: &Case<'_>, operation: &Operation, message: &str, it: &mut Subject<'_>) {
    let said = |reasons: &[&str]| reasons.iter().any(|reason| message.contains(reason));
    let effect = operation.request_id.and_then(|request| case.spent(request).first());
    let Some((_, cause)) = effect else { return };
    let wish = operation.what == What::CancelAllocation && said(&WISHED);
    let lasting = said(&LASTING) && !wish;
    let own = said(&BUSY) && !had_another(case, operation, cause.aggregate);
    it.must(!lasting && !own, || {
        format!("{} changed {}, but: {message}", operation.what, cause.aggregate)
    });
}

/// Whether a person had another ride that was not over when they asked, as far as they had seen.
fn had_another(case: &Case<'_>, operation: &Operation, own: Uuid) -> bool {
    let who = &operation.who;
    let drivings = case.evidence.drivings.values();
    let driven = drivings.filter(|row| row.driver.as_ref() == Some(who)).map(|row| row.id);
    let allocations = case.evidence.allocations.values();
    let asked_for = allocations.filter(|row| row.customer == *who).map(|row| row.id);
    let over = |id: Uuid| {
        let mut earlier = case.operations.iter().filter(|it| it.who == *who);
        earlier.any(|it| match &it.outcome {
            Outcome::Ok(seen) => {
                it.until <= operation.from
                    && id_in(&seen.resource) == Some(id)
                    && OVER.contains(&seen.state.as_str())
            }
            Outcome::Failed { .. } | Outcome::Unknown { .. } => false,
        })
    };
    driven.chain(asked_for).any(|id| id != own && !over(id))
}
