//! Cancel and start: who has won, and was the winner told so?

use super::case::{Case, id_in};
use super::{Subject, Verdict};
use crate::evidence::{Allocation, Driving, Happening, Payment};
use crate::history::{Operation, Outcome, Seen, What};

/// **I4** compares the rows of allocation and driving with each other, with the events of each
/// driving, and with what people were told.
///
/// * No driving has both DrivingStarted and DrivingCancelled.
/// * Allocation and driving agree, since at rest nothing is undecided: CANCELLED or EXPIRED with
///   CANCELLED; REQUESTED, APPROVED, DRIVING_STARTED, DRIVING_FINISHED with their likes. An
///   allocation is never CANCELLING or about to expire, and never without a driving. (In the domain
///   a cancel that loses leaves no state behind: there is no WITHDRAWN.)
/// * Who was told OK is the one in the rows: a request has its allocation; an accepted driving has
///   that driver, a started one has that driver and is STARTED or FINISHED, a finished one is
///   FINISHED at the fare told; a cancel that was told CANCELLED (or EXPIRED) has an allocation that
///   is so. A cancel that was told CANCELLING was told that the decision comes later.
/// * Who was told why not can see it in the rows: a cancel that came after the start has a driving
///   that is STARTED or FINISHED; a start, accept or finish of a closed driving has one that is
///   CANCELLED or FINISHED; an accept that came too late has a driving with a driver; a fee that
///   was not to be settled any more is taken.
pub(super) fn one_winner(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I4", "cancel and start have one winner, who was told so");
    for allocation in case.evidence.allocations.values() {
        let mut it = verdict.of(allocation.id);
        match case.driving_of(allocation.id) {
            Some(driving) => agree(allocation, driving, &mut it),
            None => it.fails(format!("allocation {} has no driving", allocation.id)),
        }
    }
    for driving in case.evidence.drivings.values() {
        let mut it = verdict.of(driving.allocation);
        let happened = |is: fn(&Happening) -> bool| {
            case.history(driving.id).iter().filter_map(|event| event.happening.as_ref()).any(is)
        };
        let started = happened(|it| matches!(it, Happening::DrivingStarted(_)));
        let cancelled = happened(|it| matches!(it, Happening::DrivingCancelled(_)));
        it.must(!(started && cancelled), || {
            format!("driving {} was started and cancelled", driving.id)
        });
        it.must(case.evidence.allocations.contains_key(&driving.allocation), || {
            format!("driving {} serves no allocation", driving.id)
        });
    }
    for operation in case.operations.iter().filter(|it| it.what.is_command()) {
        match &operation.outcome {
            Outcome::Ok(seen) => told_ok(case, operation, seen, &mut verdict.of(operation.ride)),
            Outcome::Failed { reason, .. } => {
                told_no(case, operation, reason, &mut verdict.of(operation.ride));
            }
            Outcome::Unknown { .. } => {}
        }
    }
    verdict
}

fn agree(allocation: &Allocation, driving: &Driving, it: &mut Subject<'_>) {
    let expected = match allocation.state.as_str() {
        "REQUESTED" => "REQUESTED",
        "APPROVED" => "APPROVED",
        "DRIVING_STARTED" => "STARTED",
        "DRIVING_FINISHED" => "FINISHED",
        "CANCELLED" | "EXPIRED" => "CANCELLED",
        _ => "decided",
    };
    it.must(driving.state == expected, || {
        format!("the allocation is {}, its driving {}", allocation.state, driving.state)
    });
    let undecided = allocation.state == "REQUESTED" && allocation.expiring;
    it.must(!undecided, || "the allocation is still about to expire".to_owned());
}

fn told_ok(case: &Case<'_>, operation: &Operation, seen: &Seen, it: &mut Subject<'_>) {
    let id = id_in(&seen.resource);
    let evidence = case.evidence;
    let what = operation.what;
    match what {
        What::RequestAllocation | What::CancelAllocation => {
            let row = id.and_then(|id| evidence.allocations.get(&id));
            let Some(row) = row else {
                return it.fails(format!("{what} was told OK, but there is no {}", seen.resource));
            };
            let own = operation.who.starts_with("customers/");
            it.must(!own || row.customer == operation.who, || {
                format!("{what} by {} changed a ride of {}", operation.who, row.customer)
            });
            let decided = what == What::CancelAllocation && seen.state != "CANCELLING";
            it.must(!decided || row.state == seen.state, || {
                format!("the cancel was told {}, the allocation is {}", seen.state, row.state)
            });
        }
        What::AcceptDriving | What::StartDriving | What::FinishDriving => {
            let Some(row) = id.and_then(|id| evidence.drivings.get(&id)) else {
                return it.fails(format!("{what} was told OK, but there is no {}", seen.resource));
            };
            it.must(row.driver.as_ref() == Some(&operation.who), || {
                format!("{what} by {} was told OK, the driver is {:?}", operation.who, row.driver)
            });
            let follows = match what {
                What::StartDriving => matches!(row.state.as_str(), "STARTED" | "FINISHED"),
                What::FinishDriving => row.state == "FINISHED" && row.fare == seen.fee,
                _ => row.state != "REQUESTED",
            };
            it.must(follows, || {
                format!(
                    "{what} was told OK ({:?}), the row is {:?}",
                    seen.fee,
                    (&row.state, row.fare)
                )
            });
        }
        What::SettlePayment | What::RefundPayment => {
            let row = id.and_then(|id| evidence.payments.get(&id));
            let Some(row) = row else {
                return it.fails(format!("{what} was told OK, but there is no {}", seen.resource));
            };
            let own = operation.who.starts_with("customers/");
            it.must(!own || row.customer == operation.who, || {
                format!("{what} by {} is about a fee of {}", operation.who, row.customer)
            });
        }
        What::GetAllocation | What::GetDriving | What::GetDrivingInfo | What::GetPayment => {}
    }
}

fn told_no(case: &Case<'_>, operation: &Operation, reason: &str, it: &mut Subject<'_>) {
    let Some(row) = operation.ride.and_then(|ride| case.driving_of(ride)) else { return };
    let state = row.state.as_str();
    let so = match reason {
        "DRIVING_ALREADY_STARTED" => matches!(state, "STARTED" | "FINISHED"),
        "DRIVING_CLOSED" => matches!(state, "CANCELLED" | "FINISHED"),
        "ALREADY_ACCEPTED" => row.driver.is_some(),
        "PAYMENT_NOT_OUTSTANDING" => {
            let taken = |it: &&Payment| matches!(it.state.as_str(), "APPROVED" | "REFUNDED");
            case.payments_of(row.id).iter().all(taken)
        }
        _ => true,
    };
    it.must(so, || {
        let Operation { what, who, .. } = operation;
        format!("{what} by {who} was told {reason}, the driving is {state} by {:?}", row.driver)
    });
}
