//! The look at everything after the last ride: each rider's rides through the public API, again and
//! again until the views have caught up and nothing is wrong, or patience is over.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::iter;
use proto::allocation::v1::GetAllocationRequest;
use proto::dashboard::v1::{GetDrivingInfoRequest, GetSummaryRequest};
use proto::driving::v1::driving::State as DrivingState;
use proto::driving::v1::{GetDrivingRequest, ListDrivingsRequest};
use proto::message::v1::{ListMessagesRequest, Message};
use proto::payment::v1::payment::State as PaymentState;
use proto::payment::v1::{ListPaymentsRequest, Payment};
use tokio::time::{Instant, sleep};
use tonic::{Response, Status};

use super::check::{self, Facts, Told, Turn};
use super::city::City;
use super::driver::info_name;
use super::fees::{self, Fee, Taken};
use super::ledger::{Ride, Stage};
use super::outage::Course;
use super::person::{Person, said};
use super::verdict::Evidence;
use super::witness::Witness;
use crate::ready::Ready;

/// How many people are looked at together.
const TOGETHER: usize = 8;
/// The pause before the next look.
const AGAIN: Duration = Duration::from_millis(250);
/// The most a list returns.
const PAGE: i32 = 1000;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// What is wrong, each a sentence.
    pub(super) violations: Vec<String>,
    /// How many messages the riders have got.
    pub(super) messages: usize,
    /// What they have paid, in won.
    pub(super) paid: i64,
    /// How many rides of the whole mesh are stuck, if it could be told.
    pub(super) stuck: Option<i64>,
    /// What the rides cost.
    pub(super) fees: Vec<Fee>,
    /// What the provider has taken, if it was asked.
    pub(super) taken: Option<Taken>,
    turns: Vec<Turn>,
}

impl Audit {
    fn add(&mut self, other: Audit) {
        self.violations.extend(other.violations);
        self.messages += other.messages;
        self.paid += other.paid;
        self.turns.extend(other.turns);
        self.fees.extend(other.fees);
    }
}

/// Looks at everything for as long as something is wrong and patience lasts.
pub(super) async fn audit(city: &City, patience: Duration) -> Audit {
    let until = Instant::now() + patience;
    let mut audit = Audit::default();
    let riders = (0..city.riders.len()).map(|rider| settled(until, move || of_rider(city, rider)));
    let mut riders = iter(riders.collect::<Vec<_>>()).buffered(TOGETHER);
    while let Some(found) = riders.next().await {
        audit.add(found);
    }
    let drivers =
        (0..city.drivers.len()).map(|driver| settled(until, move || of_driver(city, driver)));
    let mut drivers = iter(drivers.collect::<Vec<_>>()).buffered(TOGETHER);
    while let Some(found) = drivers.next().await {
        audit.add(found);
    }
    audit.violations.extend(check::overlaps(std::mem::take(&mut audit.turns)));
    city.note(|ledger| {
        audit.violations.extend(ledger.contests.iter().filter_map(check::contest));
        audit.violations.append(&mut ledger.troubles);
    });
    match summary(city).await {
        Ok(stuck) => audit.stuck = Some(stuck),
        Err(status) => audit.violations.push(format!("GetSummary: {}", said(&status))),
    }
    audit
}

/// Compares what the audit has found with the provider's log and with the course of the fault.
pub(super) async fn compare(
    city: &City,
    mesh: &Ready,
    course: &Course,
    slack: u32,
    audit: &mut Audit,
) {
    let log = match Witness::of(mesh) {
        Ok(witness) => witness.log().await,
        Err(exit) => Err(exit.to_string()),
    };
    match log {
        Ok(log) => {
            let customers = city.riders.iter().map(Person::name).collect();
            audit.violations.extend(fees::violations(&audit.fees, &customers, &log));
            audit.taken = Some(Taken::from(&customers, &log));
        }
        Err(lost) => audit.violations.push(lost),
    }
    let labels: Vec<String> =
        (0..city.plan.journeys.len()).map(|ride| city.full_label(ride)).collect();
    let violations = city.note(|ledger| {
        let evidence = Evidence {
            course,
            ledger,
            fees: &audit.fees,
            deadline: payment::Config::default().deadline,
            slack,
            label: &|ride| labels[ride].clone(),
        };
        evidence.violations()
    });
    audit.violations.extend(violations);
}

/// Looks until nothing is wrong or time is up.
async fn settled<F>(until: Instant, look: impl Fn() -> F) -> Audit
where
    F: Future<Output = Audit>,
{
    loop {
        let found = look().await;
        if found.violations.is_empty() || Instant::now() + AGAIN > until {
            return found;
        }
        sleep(AGAIN).await;
    }
}

/// All rides of one rider.
async fn of_rider(city: &City, rider: usize) -> Audit {
    let lists = async { Ok((payments(city, rider).await?, messages(city, rider).await?)) };
    let (payments, messages) = match lists.await {
        Ok(lists) => lists,
        Err((method, status)) => {
            let sentence = format!("{}: {method}: {}", city.riders[rider].name(), said(&status));
            return Audit { violations: vec![sentence], ..Audit::default() };
        }
    };
    let taken = payments.iter().filter(|payment| payment.state() == PaymentState::Approved);
    let amount = |payment: &Payment| payment.amount.as_ref().map_or(0, |amount| amount.units);
    let mut audit =
        Audit { messages: messages.len(), paid: taken.map(amount).sum(), ..Audit::default() };
    for at in city.plan.rides_of(rider) {
        let ride = city.note(|ledger| ledger.rides[at].clone());
        // What could not be asked for is among the troubles.
        if ride.stage == Stage::Refused {
            continue;
        }
        let label = city.full_label(at);
        match facts(city, &ride, &payments, &messages).await {
            Ok(facts) => {
                let sentences = check::ride(&told(city, at, &ride), &facts);
                audit.violations.extend(sentences.into_iter().map(|it| format!("{label}: {it}")));
                audit.turns.extend(Turn::of(&label, &facts));
                audit.fees.extend(Fee::of(at, &label, &facts));
            }
            Err((method, status)) => {
                audit.violations.push(format!("{label}: {method}: {}", said(&status)));
            }
        }
    }
    audit
}

fn told<'a>(city: &City, at: usize, ride: &'a Ride) -> Told<'a> {
    let journey = &city.plan.journeys[at];
    Told {
        ride,
        driver: ride.drivers.first().map(|driver| city.drivers[*driver].name()),
        language: city.plan.riders[journey.rider].language.tag(),
        may_cancel: journey.cancel.is_some(),
    }
}

/// A method and how it failed.
pub(super) type Failed = (&'static str, Status);

fn failed(method: &'static str) -> impl Fn(Status) -> Failed {
    move |status| (method, status)
}

/// What the service answers about one ride, not older than its last command.
async fn facts(
    city: &City,
    ride: &Ride,
    payments: &[Payment],
    messages: &[Message],
) -> Result<Facts, Failed> {
    let operator = &city.operator;
    let body = GetAllocationRequest { name: ride.allocation.clone() };
    let asked = operator
        .once(body, |mut to, request| async move { to.allocation.get_allocation(request).await });
    let allocation = asked.await.map_err(failed("GetAllocation"))?.into_inner();

    let consistency_token = ride.wrote.values().next_back().cloned().unwrap_or_default();
    let body = GetDrivingInfoRequest { name: info_name(&ride.allocation), consistency_token };
    let asked = operator
        .once(body, |mut to, request| async move { to.dashboard.get_driving_info(request).await });
    let info = asked.await.map_err(failed("GetDrivingInfo"))?.into_inner();

    let known = [&allocation.driving, &info.driving].into_iter().find(|name| !name.is_empty());
    let driving = match known {
        None => None,
        Some(name) => {
            let body = GetDrivingRequest { name: name.clone() };
            let asked = operator
                .once(body, |mut to, request| async move { to.driving.get_driving(request).await });
            Some(asked.await.map_err(failed("GetDriving"))?.into_inner())
        }
    };
    let ours = |allocation: &str| allocation == ride.allocation;
    Ok(Facts {
        allocation,
        driving,
        payments: payments.iter().filter(|it| ours(&it.allocation)).cloned().collect(),
        info,
        messages: messages.iter().filter(|it| ours(&it.allocation)).cloned().collect(),
    })
}

/// All payments of a rider.
pub(super) async fn payments(city: &City, rider: usize) -> Result<Vec<Payment>, Failed> {
    let mut payments = Vec::new();
    let mut page_token = String::new();
    loop {
        let body = ListPaymentsRequest { page_size: PAGE, page_token, ..Default::default() };
        let asked = city.riders[rider]
            .once(body, |mut to, request| async move { to.payment.list_payments(request).await });
        let page = asked.await.map_err(failed("ListPayments"))?.into_inner();
        payments.extend(page.payments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(payments);
        }
    }
}

/// All messages to a rider.
async fn messages(city: &City, rider: usize) -> Result<Vec<Message>, Failed> {
    let mut messages = Vec::new();
    let mut page_token = String::new();
    loop {
        let parent = city.riders[rider].name();
        let body = ListMessagesRequest { parent, page_size: PAGE, page_token };
        let asked = city.riders[rider]
            .once(body, |mut to, request| async move { to.message.list_messages(request).await });
        let page = asked.await.map_err(failed("ListMessages"))?.into_inner();
        messages.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(messages);
        }
    }
}

/// A driver who is free again has no ride.
async fn of_driver(city: &City, driver: usize) -> Audit {
    let body = ListDrivingsRequest {
        states: vec![DrivingState::Approved.into(), DrivingState::Started.into()],
        page_size: PAGE,
        ..Default::default()
    };
    let asked = city.drivers[driver]
        .once(body, |mut to, request| async move { to.driving.list_drivings(request).await });
    let violations = match asked.await.map(Response::into_inner) {
        Ok(list) => {
            let has = |it: &proto::driving::v1::Driving| {
                let state = it.state().as_str_name();
                format!("{}: {} still has it, as {state}", it.name, city.driver(driver))
            };
            list.drivings.iter().map(has).collect()
        }
        Err(status) => vec![format!("{}: ListDrivings: {}", city.driver(driver), said(&status))],
    };
    Audit { violations, ..Audit::default() }
}

async fn summary(city: &City) -> Result<i64, Status> {
    let body = GetSummaryRequest::default();
    let asked = city
        .operator
        .call(body, |mut to, request| async move { to.dashboard.get_summary(request).await });
    asked.await.map(|answer| answer.body.stuck)
}
