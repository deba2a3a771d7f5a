//! What must be true of a ride once the views have caught up: each violation is one sentence.
//!
//! Pure: it compares what people were told ([`Told`]) with what the service answers now ([`Facts`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use kernel::Timestamp;
use prost_types::Timestamp as WireTime;
use proto::allocation::v1::Allocation;
use proto::allocation::v1::allocation::State as AllocationState;
use proto::dashboard::v1::DrivingInfo;
use proto::driving::v1::Driving;
use proto::driving::v1::driving::{PaymentState, State as DrivingState};
use proto::message::v1::Message;
use proto::message::v1::message::Template;
use proto::payment::v1::Payment;
use proto::payment::v1::payment::State as Payments;
use proto::words::parse_time;

use super::ledger::{Accept, Cancel, Command, Contest, Kind, Ride, Stage};

/// Much longer than driving waits for payment, and longer than the broker waits (8 s) before it gives
/// what driving has said to another replica of message, when one stops in the middle of it.
const A_WHILE: Duration = Duration::from_secs(12);

/// What the people of a ride were told.
pub(super) struct Told<'a> {
    /// All of it.
    pub(super) ride: &'a Ride,
    /// The resource name of the driver who was told that it is theirs.
    pub(super) driver: Option<String>,
    /// The language in which the rider asked.
    pub(super) language: &'a str,
    /// Whether the plan lets the rider cancel.
    pub(super) may_cancel: bool,
}

/// What the service answers about a ride.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// From allocation.
    pub(super) allocation: Allocation,
    /// From driving, when there is one.
    pub(super) driving: Option<Driving>,
    /// From payment: those of this ride.
    pub(super) payments: Vec<Payment>,
    /// From the dashboard.
    pub(super) info: DrivingInfo,
    /// From message: those about this ride.
    pub(super) messages: Vec<Message>,
}

impl Facts {
    /// Whether the dashboard's timeline has an event, and when it happened first.
    pub(super) fn when(&self, event: &str) -> Option<Timestamp> {
        let entry = self.info.timeline.iter().find(|entry| entry.event == event)?;
        entry.time.as_ref().map(parse_time)
    }
}

/// Sentences about one ride.
#[derive(Default)]
struct Sentences(Vec<String>);

impl Sentences {
    fn unless(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.0.push(otherwise.into());
        }
    }

    fn same<T: PartialEq + Debug>(&mut self, what: &str, shown: T, is: T) {
        let sentence = format!("the dashboard shows {what} {shown:?}, but it is {is:?}");
        self.unless(shown == is, sentence);
    }
}

/// Everything that is wrong with one ride.
pub(super) fn ride(told: &Told<'_>, facts: &Facts) -> Vec<String> {
    let mut said = Sentences::default();
    promises(told, facts, &mut said);
    match told.ride.stage {
        Stage::Finished => finished(facts, &mut said),
        Stage::Cancelled if told.may_cancel => cancelled(facts, &mut said),
        stage => said.unless(false, format!("it ended as {stage:?}, which nobody planned")),
    }
    agrees(facts, &mut said);
    messages(told, facts, &mut said);
    said.0
}

/// Whoever was told OK is the winner, and whoever was refused was refused for a reason.
fn promises(told: &Told<'_>, facts: &Facts, said: &mut Sentences) {
    let state = facts.allocation.state();
    let started = facts.driving.as_ref().is_some_and(|driving| driving.start_time.is_some());
    match &told.ride.cancel {
        Some(Cancel::Done) => {
            let sentence = format!(
                "its rider was told that it is cancelled, but it is {}",
                state.as_str_name()
            );
            said.unless(state == AllocationState::Cancelled, sentence);
        }
        Some(Cancel::TooLate) => {
            let sentence = "its rider was told DRIVING_ALREADY_STARTED, but it has not started";
            said.unless(started, sentence);
        }
        Some(Cancel::Refused(why)) => {
            said.unless(false, format!("its cancel was refused for no good reason: {why}"));
        }
        Some(Cancel::Pending) | None => {}
    }
    let drivers: BTreeSet<usize> = told.ride.drivers.iter().copied().collect();
    said.unless(
        drivers.len() < 2,
        format!("{} drivers were told that it is theirs", drivers.len()),
    );
    if let (Some(driver), Some(driving)) = (&told.driver, &facts.driving)
        && !driving.driver.is_empty()
    {
        let sentence =
            format!("{driver} was told that it is theirs, but {} has it", driving.driver);
        said.unless(*driver == driving.driver, sentence);
    }
}

/// A finished ride has a fare that can be recomputed, and it is paid once.
fn finished(facts: &Facts, said: &mut Sentences) {
    let state = facts.allocation.state();
    let sentence = format!("it has finished, but its allocation is {}", state.as_str_name());
    said.unless(state == AllocationState::DrivingFinished, sentence);
    let Some(driving) = &facts.driving else {
        return said.unless(false, "it has finished, but it has no driving");
    };
    let sentence = format!("it has finished, but its driving is {}", driving.state().as_str_name());
    said.unless(driving.state() == DrivingState::Finished, sentence);
    let sentence = format!("driving says {}", driving.payment_state().as_str_name());
    said.unless(driving.payment_state() == PaymentState::Approved, sentence);

    let fare = driving.fare.as_ref().map(|fare| fare.units);
    let due = recomputed(driving);
    said.unless(fare.is_some() && fare == due, format!("its fare is {fare:?}, not {due:?}"));
    match facts.payments.as_slice() {
        [payment] => {
            let amount = payment.amount.as_ref().map(|amount| amount.units);
            said.unless(amount == fare, format!("{amount:?} was paid for a fare of {fare:?}"));
            let sentence = format!("{} is {}", payment.name, payment.state().as_str_name());
            said.unless(payment.state() == Payments::Approved, sentence);
            let sentence = format!("driving knows {:?}, not {}", driving.payment, payment.name);
            said.unless(driving.payment == payment.name, sentence);
        }
        payments => said.unless(false, format!("it has {} payments, not one", payments.len())),
    }
}

/// A cancelled ride costs nothing.
fn cancelled(facts: &Facts, said: &mut Sentences) {
    let state = facts.allocation.state();
    let sentence = format!("it is cancelled, but its allocation is {}", state.as_str_name());
    said.unless(state == AllocationState::Cancelled, sentence);
    if let Some(driving) = &facts.driving {
        let state = driving.state().as_str_name();
        let sentence = format!("it is cancelled, but its driving is {state}");
        said.unless(driving.state() == DrivingState::Cancelled, sentence);
        said.unless(driving.fare.is_none(), "it is cancelled, but it has a fare");
        said.unless(driving.start_time.is_none(), "it is cancelled, but it has started");
    }
    let sentence = format!("it is cancelled, but it has {} payments", facts.payments.len());
    said.unless(facts.payments.is_empty(), sentence);
}

/// The dashboard agrees with allocation, driving and payment.
fn agrees(facts: &Facts, said: &mut Sentences) {
    let Facts { allocation, driving, payments, info, .. } = facts;
    let status = allocation.state().as_str_name();
    said.same("the allocation's state", info.alloc_status().as_str_name(), status);
    said.same("the customer", &info.customer, &allocation.customer);
    said.same("the destination", &info.destination, &allocation.destination);
    if let Some(driving) = driving {
        said.same("the driving", &info.driving, &driving.name);
        let status = driving.state().as_str_name();
        said.same("the driving's state", info.driving_status().as_str_name(), status);
        said.same("the start", micros(&info.start_time), micros(&driving.start_time));
        said.same("the finish", micros(&info.finish_time), micros(&driving.finish_time));
        let won = |money: &Option<proto::google::r#type::Money>| money.as_ref().map(|it| it.units);
        said.same("the fee", won(&info.fee), won(&driving.fare));
        if driving.state() == DrivingState::Finished {
            said.same("the driver", &info.driver, &driving.driver);
        }
    }
    let payment = payments.first();
    let status = payment.map_or(Payments::Unspecified, Payment::state).as_str_name();
    said.same("the payment's state", info.payment_status().as_str_name(), status);
    said.same("the payment", info.payment.as_str(), payment.map_or("", |it| it.name.as_str()));
}

fn micros(time: &Option<WireTime>) -> Option<i64> {
    time.as_ref().map(|time| parse_time(time).micros())
}

/// The rider was told what they had to be told, each thing once, in their language.
fn messages(told: &Told<'_>, facts: &Facts, said: &mut Sentences) {
    let mut seen: BTreeMap<(i32, i32), usize> = BTreeMap::new();
    for message in &facts.messages {
        *seen.entry((message.template, message.channel)).or_default() += 1;
        let sentence = format!("{} is in {:?}", message.name, message.language);
        said.unless(message.language == told.language, sentence);
    }
    let later = i32::from(Template::PaymentDeferred);
    let name = |template: i32| Template::try_from(template).unwrap_or_default().as_str_name();
    for ((template, _), times) in &seen {
        let most = if *template == later { puts_off(told.ride, facts) } else { 1 };
        said.unless(*times <= most, format!("{} was told {times} times", name(*template)));
    }
    let heard: BTreeSet<i32> = seen.keys().map(|(template, _)| *template).collect();
    let due: BTreeSet<i32> = due(told, facts).into_iter().map(i32::from).collect();
    for missing in due.difference(&heard) {
        said.unless(false, format!("{} was not told", name(*missing)));
    }
    // Driving says that the fee comes later when it could not reach payment in time: the timeline
    // does not show that, and it is not said any more when the fee is known to be taken.
    let may_be = |extra: &i32| *extra == later && may_be_deferred(told.ride);
    for extra in heard.difference(&due).filter(|extra| !may_be(extra)) {
        said.unless(false, format!("{} was told for no reason", name(*extra)));
    }
    in_order(facts, said);
}

/// Whether driving may have said of its own that the fee comes later: as an answer, or in one that
/// never arrived.
fn may_be_deferred(ride: &Ride) -> bool {
    let asked_again = ride.calls.get(&Command::Finish).is_some_and(|call| call.tries > 1);
    ride.fee == Some(PaymentState::Deferred) || asked_again
}

/// How often a rider may hear that the fee comes later: once, and once more when it was declined and
/// the provider is silent while they settle it.
fn puts_off(ride: &Ride, facts: &Facts) -> usize {
    let timeline = facts.info.timeline.iter();
    let by_payment = timeline.filter(|entry| entry.event == "PaymentDeferred").count();
    (by_payment + usize::from(may_be_deferred(ride))).clamp(1, 2)
}

/// The story of the fee is told in its order: it comes later, it is declined, it is taken.
fn in_order(facts: &Facts, said: &mut Sentences) {
    let told = |template: Template| {
        let of_it = facts.messages.iter().filter(move |it| it.template() == template);
        of_it.filter_map(|message| message.create_time.as_ref()).map(parse_time)
    };
    let taken = told(Template::PaymentApproved).max();
    for template in [Template::PaymentDeferred, Template::PaymentDeclined] {
        if told(template).max() > taken && taken.is_some() {
            let name = template.as_str_name();
            said.unless(false, format!("{name} was told after the fee was said to be taken"));
        }
    }
}

/// What a rider has to be told. About a cancel: nothing, they know.
fn due(told: &Told<'_>, facts: &Facts) -> Vec<Template> {
    let mut due = vec![Template::AllocationRequested];
    if told.driver.is_some() || facts.when("DrivingApproved").is_some() {
        due.push(Template::AllocationApproved);
    }
    if told.ride.stage == Stage::Finished {
        due.extend([
            Template::DrivingStarted,
            Template::DrivingFinished,
            Template::PaymentApproved,
        ]);
    }
    // A payment that comes a bit later is announced, and it came in the end.
    if facts.when("PaymentDeferred").is_some() || comes_later(told.ride, facts) {
        due.push(Template::PaymentDeferred);
    }
    if facts.when("PaymentDeclined").is_some() {
        due.push(Template::PaymentDeclined);
    }
    if told.ride.stage == Stage::Expired {
        due.push(Template::AllocationExpired);
    }
    due
}

/// The driver was told that the fee comes later, and it did: after a while in which nobody else can
/// have said first that it is taken, or declined.
fn comes_later(ride: &Ride, facts: &Facts) -> bool {
    if facts.when("PaymentDeclined").is_some() {
        return false;
    }
    let finished = facts.driving.as_ref().and_then(|driving| driving.finish_time.as_ref());
    let taken = facts.payments.first().and_then(|payment| payment.approve_time.as_ref());
    match (finished.map(parse_time), taken.map(parse_time)) {
        (Some(finished), Some(taken)) => {
            ride.fee == Some(PaymentState::Deferred) && taken.since(finished) > A_WHILE
        }
        _ => false,
    }
}

/// The fare of a finished driving from its times: its rate for each whole minute, at least one.
fn recomputed(driving: &Driving) -> Option<i64> {
    let rate = driving.fare_explanation.as_ref()?.rate_per_minute.as_ref()?.units;
    let start = parse_time(driving.start_time.as_ref()?);
    let finish = parse_time(driving.finish_time.as_ref()?);
    let minutes = i64::try_from(finish.since(start).as_secs() / 60).ok()?;
    Some(minutes.max(1) * rate)
}

/// The time for which a driver had a ride: from the accept to the finish or the cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The driver.
    pub(super) driver: String,
    /// The ride.
    pub(super) ride: String,
    /// The accept.
    pub(super) from: Timestamp,
    /// The end.
    pub(super) until: Timestamp,
}

impl Turn {
    /// The turn that a ride was for its driver, if it came to that.
    pub(super) fn of(ride: &str, facts: &Facts) -> Option<Turn> {
        let from = facts.when("DrivingApproved")?;
        let until = facts.when("DrivingFinished").or_else(|| facts.when("DrivingCancelled"))?;
        Some(Turn { driver: facts.info.driver.clone(), ride: ride.to_owned(), from, until })
    }
}

/// No driver has two rides at once.
pub(super) fn overlaps(mut turns: Vec<Turn>) -> Vec<String> {
    turns.sort_by(|a, b| (&a.driver, a.from).cmp(&(&b.driver, b.from)));
    let mut sentences = Vec::new();
    for of_one in turns.chunk_by(|a, b| a.driver == b.driver) {
        let mut longest: Option<&Turn> = None;
        for turn in of_one {
            match longest {
                Some(before) if turn.from < before.until => sentences.push(format!(
                    "{} had two rides at once: {} and {}",
                    turn.driver, before.ride, turn.ride
                )),
                _ => {}
            }
            longest = longest.filter(|before| before.until >= turn.until).or(Some(turn));
        }
    }
    sentences
}

/// A contest has the winners it must have, and the losers know why they lost.
pub(super) fn contest(contest: &Contest) -> Option<String> {
    let (winners, loss) = match contest.kind {
        Kind::Race => (1, Accept::Lost),
        Kind::Double => (1, Accept::Busy),
        Kind::Late => (0, Accept::Lost),
    };
    let count = |told: &Accept| contest.told.iter().filter(|it| *it == told).count();
    let fair = count(&Accept::Won) == winners && count(&loss) == contest.told.len() - winners;
    let Contest { about, told, .. } = contest;
    (!fair)
        .then(|| format!("{about}: {winners} must win and all others hear {loss:?}, not {told:?}"))
}

#[cfg(test)]
mod tests;
