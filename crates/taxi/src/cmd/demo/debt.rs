//! A rider whose fee was declined: is refused another ride, settles what they owe, and rides again.

use std::time::Duration;

use platform::status::reason;
use proto::allocation::v1::CancelAllocationRequest;
use proto::payment::v1::payment::State;
use proto::payment::v1::{Payment, SettlePaymentRequest};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::audit::payments;
use super::city::City;
use super::ledger::Happening;
use super::person::said;
use super::rider::wish;
use super::scenario::{Phase, Scenario};

/// How long the news of a payment may take to those who act on it.
pub(super) const NEWS: Duration = Duration::from_secs(5);
/// How long the provider's word may take when payment was busy, and tries again after a pause.
const DECISION: Duration = Duration::from_secs(20);
/// By then it usually has.
const USUAL: Duration = Duration::from_secs(1);
/// The pause before the next look.
const AGAIN: Duration = Duration::from_millis(100);

/// What a rider was told who owed a declined fee.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Debt {
    /// Who.
    pub(super) rider: usize,
    /// For which ride.
    pub(super) ride: usize,
    /// How another ride was refused to them.
    pub(super) refusal: String,
    /// What came of settling it, once they have.
    pub(super) settled: Option<String>,
}

/// How a ride is refused to whoever owes a fee.
pub(super) const REFUSAL: &str = "OUTSTANDING_PAYMENT";
/// What comes of settling it.
pub(super) const SETTLED: &str = "STATE_APPROVED";

/// Looks after the fee of a ride, should it be declined on purpose: be that long after the ride, when
/// payment was busy.
pub(super) async fn mind(city: &City, ride: usize) {
    if city.plan.scenario != Scenario::PaymentDeclined {
        return;
    }
    let Some(payment) = decided(city, ride).await.filter(|it| it.state() == State::Declined) else {
        return;
    };
    let rider = city.plan.journeys[ride].rider;
    sleep(city.patience(USUAL)).await;
    let refusal = ask_in_vain(city, ride).await;
    city.tell(ride, &Happening::Owing);
    let debt = Debt { rider, ride, refusal, settled: None };
    city.note(|ledger| ledger.debts.push(debt));
    city.entered(Phase::After).await;
    let settled = settle(city, ride, &payment).await;
    city.tell(ride, &Happening::Settled);
    city.note(|ledger| ledger.settled(rider, settled));
}

/// The payment of a ride, as soon as the provider has decided; none if that takes too long, which the
/// checks find.
async fn decided(city: &City, ride: usize) -> Option<Payment> {
    let rider = city.plan.journeys[ride].rider;
    let allocation = city.note(|ledger| ledger.rides[ride].allocation.clone());
    let until = Instant::now() + city.patience(DECISION);
    while Instant::now() < until {
        let payments = payments(city, rider).await.unwrap_or_default();
        let mut ours = payments.into_iter().filter(|payment| payment.allocation == allocation);
        if let Some(payment) = ours.find(|payment| is_decided(payment.state())) {
            return Some(payment);
        }
        sleep(AGAIN).await;
    }
    None
}

fn is_decided(state: State) -> bool {
    matches!(state, State::Approved | State::Declined | State::Refunded)
}

/// Asks for a car that must not be granted, and answers how it was refused.
async fn ask_in_vain(city: &City, ride: usize) -> String {
    let rider = &city.riders[city.plan.journeys[ride].rider];
    let asked = rider.call(wish(city, ride), |mut to, request| async move {
        to.allocation.request_allocation(request).await
    });
    match asked.await {
        Err(status) => told(&status),
        Ok(granted) => {
            let body = CancelAllocationRequest { name: granted.body.name, ..Default::default() };
            let cancelled = rider.call(body, |mut to, request| async move {
                to.allocation.cancel_allocation(request).await
            });
            cancelled.await.ok();
            "OK".to_owned()
        }
    }
}

/// Settles a payment, and answers what came of it: a busy provider is asked once more a bit later.
async fn settle(city: &City, ride: usize, payment: &Payment) -> String {
    let body = SettlePaymentRequest {
        name: payment.name.clone(),
        request_id: city.request_id(),
        etag: String::new(),
    };
    let rider = &city.riders[city.plan.journeys[ride].rider];
    let asked =
        rider.call(body, |mut to, request| async move { to.payment.settle_payment(request).await });
    let state = match asked.await {
        Ok(answer) if is_decided(answer.body.state()) => answer.body.state(),
        Ok(_) => decided(city, ride).await.unwrap_or_default().state(),
        Err(status) => return told(&status),
    };
    state.as_str_name().to_owned()
}

/// The reason of a refusal, or all of it.
fn told(status: &Status) -> String {
    reason(status).unwrap_or_else(|| said(status))
}
