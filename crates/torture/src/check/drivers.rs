//! Has each ride one driver, and each driver one ride at a time?

use std::collections::{BTreeMap, BTreeSet};

use kernel::Uuid;

use super::Verdict;
use super::case::{Case, id_in};
use crate::evidence::{Driving, Event, Happening};
use crate::history::What;

/// **I3** compares the rows of driving with the events of each driving in the stream and with what
/// drivers were told, and looks at driving's outbox as a whole.
///
/// * A driving has at most one DrivingApproved; whoever it names is the driver in every later event
///   of the driving and in its row. A row with a driver has such an event.
/// * At most one driver was told OK to an accept of one driving, and it is the one in the row.
/// * `active_driver` is the driver exactly while the row is APPROVED or STARTED, and no two rows
///   have the same.
/// * Going through driving's outbox by id, no driver is approved for a driving while an earlier one
///   of theirs is neither finished nor cancelled.
///
/// The id of an outbox row is the order of commit here: a transaction writes its rows first, under
/// the row lock and the unique index on `active_driver`, and draws the ids of its outbox rows after.
/// Whoever takes a driver waits at the index until whoever frees them has committed, and so draws
/// the later id; within one transaction commands are written in the order in which they decided.
pub(super) fn one_at_a_time(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I3", "one driver a ride, one ride a driver at a time");
    let told = told_accepted(case);
    for driving in case.evidence.drivings.values() {
        one_driver(case, driving, told.get(&driving.id), &mut verdict);
    }
    active_once(case, &mut verdict);
    in_order_of_commit(case, &mut verdict);
    verdict
}

/// Who was told OK to an accept, by driving.
fn told_accepted<'a>(case: &Case<'a>) -> BTreeMap<Uuid, BTreeSet<&'a str>> {
    let mut told = BTreeMap::<Uuid, BTreeSet<&str>>::new();
    for (operation, seen) in case.answered() {
        if operation.what == What::AcceptDriving
            && let Some(driving) = id_in(&seen.resource)
        {
            told.entry(driving).or_default().insert(&operation.who);
        }
    }
    told
}

fn one_driver(
    case: &Case<'_>,
    driving: &Driving,
    told: Option<&BTreeSet<&str>>,
    verdict: &mut Verdict,
) {
    let mut it = verdict.of(driving.allocation);
    let history = case.history(driving.id);
    let approved: Vec<&str> = history.iter().filter_map(|event| approved(event)).collect();
    it.must(approved.len() <= 1, || format!("driving {}: approved {approved:?}", driving.id));
    let driver = driving.driver.as_deref();
    it.must(approved.first().copied() == driver, || {
        format!("driving {}: approved {approved:?}, the row has {driver:?}", driving.id)
    });
    for event in history {
        let named = event.happening.as_ref().map_or("", Happening::driver);
        it.must(named.is_empty() || Some(named) == driver, || {
            format!("{} v{} names {named}, the row {driver:?}", event.name(), event.version)
        });
    }
    for who in told.into_iter().flatten() {
        it.must(Some(*who) == driver, || {
            format!("{who} was told OK to the accept, the row has {driver:?}")
        });
    }
    let active = matches!(driving.state.as_str(), "APPROVED" | "STARTED");
    it.must(driving.active_driver.as_deref() == driver.filter(|_| active), || {
        format!("active driver {:?} in {} by {driver:?}", driving.active_driver, driving.state)
    });
}

fn approved<'a>(event: &&'a Event) -> Option<&'a str> {
    match &event.happening {
        Some(Happening::DrivingApproved(it)) => Some(&it.driver),
        _ => None,
    }
}

fn active_once(case: &Case<'_>, verdict: &mut Verdict) {
    let mut active = BTreeMap::new();
    for driving in case.evidence.drivings.values() {
        let Some(driver) = &driving.active_driver else { continue };
        let other: Option<&Driving> = active.insert(driver, driving);
        verdict.of(driving.allocation).must(other.is_none(), || {
            format!("{driver} is active in {} and in {:?}", driving.id, other.map(|it| it.id))
        });
    }
}

/// Goes through the takes and releases of all drivers as they were committed.
fn in_order_of_commit(case: &Case<'_>, verdict: &mut Verdict) {
    let mut driving_now = BTreeMap::<String, Uuid>::new();
    for row in case.evidence.records("driving").into_iter().flat_map(|it| &it.outbox) {
        let Some(happening) = Happening::decode(&row.kind, &row.payload) else { continue };
        let driver = happening.driver().to_owned();
        match happening {
            Happening::DrivingApproved(_) => {
                let busy = driving_now.get(&driver).copied();
                verdict.of(row.correlation).must(busy.is_none(), || {
                    format!("{driver} was approved for {} while driving {busy:?}", row.aggregate)
                });
                driving_now.insert(driver, row.aggregate);
            }
            Happening::DrivingFinished(_) | Happening::DrivingCancelled(_)
                if driving_now.get(&driver) == Some(&row.aggregate) =>
            {
                driving_now.remove(&driver);
            }
            _ => {}
        }
    }
}
