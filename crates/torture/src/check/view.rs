//! Does the dashboard show what happened?

use proto::allocation::v1::allocation::State as AllocationState;
use proto::driving::v1::driving::State as DrivingState;
use proto::payment::v1::payment::State as PaymentState;
use serde::Deserialize;

use super::case::Case;
use super::fold::{Folded, fold};
use super::{Subject, Verdict};
use crate::evidence::{Driving, View};

/// **I7** compares the rows of the dashboard with a fold of the stream that the checker makes
/// itself, and with the rows of allocation, driving and payment.
///
/// * Each ride of the stream has one row, each row a ride, and each allocation too.
/// * The row is the fold in every column, and its timeline is the ride's events by name and id, each
///   once, oldest first. Its place in the stream may be that of a copy that came later.
/// * The states shown are those of the allocation and the driving; so are the driving, driver, times
///   and fee, and of a cancelled ride the reason that allocation keeps.
/// * A payment that is decided (APPROVED, DECLINED or REFUNDED) is shown so, with all that was given
///   back, and driving knows it so.
pub(super) fn is_the_fold_and_the_sources(case: &Case<'_>) -> Verdict {
    let mut verdict = Verdict::new("I7", "the view is the fold of the stream and the sources");
    for ride in case.rides() {
        let mut it = verdict.of(ride);
        match case.evidence.view.get(&ride) {
            Some(view) => is_fold(view, fold(case.ride(ride).iter().copied()), &mut it),
            None => it.fails(format!("ride {ride} is not in the view")),
        }
    }
    for view in case.evidence.view.values() {
        let mut it = verdict.of(view.id);
        it.must(!case.ride(view.id).is_empty(), || {
            format!("the view has a ride {} that the stream does not have", view.id)
        });
        is_source(case, view, &mut it);
    }
    for id in case.evidence.allocations.keys() {
        let shown = case.evidence.view.contains_key(id);
        verdict.of(*id).must(shown, || format!("allocation {id} is not in the view"));
    }
    verdict
}

fn is_fold(view: &View, folded: Folded, it: &mut Subject<'_>) {
    let behind = view.sequence < folded.view.sequence;
    it.must(!behind, || format!("the view is at {}, the stream is not", view.sequence));
    let sequence = folded.view.sequence;
    let row = View { timeline: String::new(), sequence, ..view.clone() };
    it.must(row == folded.view, || {
        let differences = differences(&row, &folded.view);
        format!("the view is not the fold: {}", differences.join(", "))
    });
    let mut shown = timeline(view);
    it.must(shown.is_sorted_by_key(|entry| entry.time), || {
        format!("the timeline is not sorted: {}", view.timeline)
    });
    shown.sort_by(|one, other| one.id.cmp(&other.id));
    let mut events = folded.timeline;
    events.sort_by(|one, other| one.1.cmp(&other.1));
    let same = shown
        .iter()
        .map(|entry| (&entry.event, &entry.id))
        .eq(events.iter().map(|(event, id)| (event, id)));
    it.must(same, || format!("the timeline is {}, the stream has {events:?}", view.timeline));
}

/// One event of a timeline.
#[derive(Deserialize)]
struct Entry {
    event: String,
    time: i64,
    id: String,
}

/// The entries of a timeline; none when it cannot be read.
fn timeline(view: &View) -> Vec<Entry> {
    serde_json::from_str(&view.timeline).unwrap_or_default()
}

/// The columns in which two rows differ.
fn differences(row: &View, fold: &View) -> Vec<String> {
    let columns = |view: &View| {
        let text = format!("{view:#?}");
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let pairs = columns(row).into_iter().zip(columns(fold));
    let different = pairs.filter(|(row, fold)| row != fold);
    different.map(|(row, fold)| format!("{row} but folded {fold}")).collect()
}

fn is_source(case: &Case<'_>, view: &View, it: &mut Subject<'_>) {
    let Some(allocation) = case.evidence.allocations.get(&view.id) else {
        return it.fails(format!("the view has a ride {} without an allocation", view.id));
    };
    let shown = named(AllocationState::try_from(view.alloc_status).map(|it| it.as_str_name()));
    it.must(shown == allocation.state && view.customer == allocation.customer, || {
        format!("the view shows {shown} of {}, allocation is {allocation:?}", view.customer)
    });
    let cancelled = allocation.state == "CANCELLED";
    it.must(!cancelled || view.cancel_reason == allocation.cancel_reason, || {
        format!("cancelled for {:?}, not {:?}", view.cancel_reason, allocation.cancel_reason)
    });
    let Some(driving) = case.driving_of(view.id) else { return };
    it.must(allocation.driving == Some(driving.id) && allocation.driver == driving.driver, || {
        format!(
            "allocation knows {:?} by {:?}, driving {} by {:?}",
            allocation.driving, allocation.driver, driving.id, driving.driver
        )
    });
    drives(view, driving, it);
    pays(case, view, driving, it);
}

fn drives(view: &View, driving: &Driving, it: &mut Subject<'_>) {
    let shown = named(DrivingState::try_from(view.driving_status).map(|it| it.as_str_name()));
    it.must(shown == driving.state && view.driving == Some(driving.id), || {
        format!("the view shows {:?} {shown}, driving is {driving:?}", view.driving)
    });
    let shown = (&*view.driver, view.start_time, view.finish_time, view.fee);
    let driver = driving.driver.as_deref().unwrap_or_default();
    let is = (driver, driving.start_time, driving.finish_time, driving.fare);
    it.must(shown == is, || format!("the view shows {shown:?}, driving has {is:?}"));
}

fn pays(case: &Case<'_>, view: &View, driving: &Driving, it: &mut Subject<'_>) {
    let shown = named(PaymentState::try_from(view.payment_status).map(|it| it.as_str_name()));
    for payment in case.payments_of(driving.id) {
        if !matches!(payment.state.as_str(), "APPROVED" | "DECLINED" | "REFUNDED") {
            continue;
        }
        it.must(view.refunded == payment.refunded_amount, || {
            format!("the view shows {} won given back, payment {payment:?}", view.refunded)
        });
        it.must(shown == payment.state && view.payment == Some(payment.id), || {
            format!("the view shows payment {:?} {shown}, payment is {payment:?}", view.payment)
        });
        let known = (driving.payment, driving.payment_state.as_deref());
        it.must(known == (Some(payment.id), Some(payment.state.as_str())), || {
            format!("driving knows payment {known:?}, payment {} is {}", payment.id, payment.state)
        });
    }
}

/// The name of a state as rows have it.
fn named<E>(state: Result<&'static str, E>) -> &'static str {
    state.map_or("no state at all", |name| name.strip_prefix("STATE_").unwrap_or(name))
}
