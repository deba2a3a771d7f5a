//! The payment: the fee of one driving, taken exactly once, and what is given back of it.

mod refund;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kernel::{
    Aggregate, AllocationId, CustomerId, DrivingId, Money, PaymentId, Rejection, Timestamp, Uuid,
};

pub use self::refund::{Refund, RefundWish};

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// On record; nobody has asked the provider yet.
    Requested,
    /// Somebody is asking the provider.
    InFlight,
    /// The fee is taken.
    Approved,
    /// Not taken yet; it is tried again.
    Deferred,
    /// Refused by the provider.
    Declined,
    /// The provider was asked and gave no answer: the fee may have been taken. It is tried again.
    Unknown,
    /// Given back, wholly or in part.
    Refunded,
}

/// What is owed, by whom and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// The driving it is for.
    pub driving: DrivingId,
    /// The allocation the ride began with: the correlation key.
    pub allocation: AllocationId,
    /// Who pays.
    pub customer: CustomerId,
    /// How much.
    pub amount: Money,
}

impl Fee {
    /// A fee is more than nothing.
    pub fn new(
        driving: DrivingId,
        allocation: AllocationId,
        customer: CustomerId,
        amount: Money,
    ) -> Result<Fee, Rejection> {
        if amount <= Money::won(0) {
            let message = "must be more than 0";
            return Err(Rejection::invalid("amount", "INVALID_AMOUNT", message));
        }
        Ok(Fee { driving, allocation, customer, amount })
    }
}

/// One attempt's exclusive right to ask the provider, and since when it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Tells it from all other attempts.
    pub id: Uuid,
    /// Since when.
    pub time: Timestamp,
}

/// How long the next attempt is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// After the first attempt; doubles with each further one,
    pub first: Duration,
    /// up to this.
    pub max: Duration,
}

impl Retry {
    /// The pause after this many attempts. `jitter`, from 0 to 1, takes away up to a half of it: what
    /// failed together is not tried again together.
    pub fn pause(self, attempts: u32, jitter: f64) -> Duration {
        let doubled = 1 << attempts.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(doubled).min(self.max);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// The payment of one driving's fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its identity.
    pub id: PaymentId,
    /// What is to be taken; it never changes.
    pub fee: Fee,
    /// Where it stands.
    pub state: State,
    /// The attempt that is under way: while IN_FLIGHT to charge, else to refund.
    pub claim: Option<Claim>,
    /// How often the provider has been asked to charge.
    pub attempt_count: u32,
    /// Under which number it is charged: a refusal is final, so each settlement has a new one.
    pub charge_number: u32,
    /// When it is tried again, at the earliest: the charge, or else the refund.
    pub next_attempt_time: Option<Timestamp>,
    /// An attempt ended without an answer, so nobody may say that the fee was not taken.
    pub in_doubt: bool,
    /// The customer has been told that it will be taken later.
    pub deferral_announced: bool,
    /// The provider's own name of the charge; empty until it is approved.
    pub provider_reference: String,
    /// Why the provider refused, in its words; empty unless it did.
    pub decline_reason: String,
    /// All that has been given back.
    pub refunded_amount: Money,
    /// What is being given back, and is not known to have been.
    pub refund: Option<Refund>,
    /// When the fee was taken.
    pub approve_time: Option<Timestamp>,
}

/// What can happen to a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The fee is taken.
    PaymentApproved,
    /// It will be taken a bit later.
    PaymentDeferred,
    /// The provider refused.
    PaymentDeclined,
    /// This is given back.
    PaymentRefunded(Refund),
}

/// Which payments a list asks for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; any, when empty.
    pub states: Vec<State>,
    /// Of this driving.
    pub driving: Option<DrivingId>,
}

/// After this long an attempt that has not said how it ended is taken for dead.
pub const CLAIM_TERM: Duration = Duration::from_secs(10);

impl Payment {
    /// A fee is to be taken, from `due` on.
    pub fn request(id: PaymentId, fee: Fee, due: Timestamp) -> (Payment, Vec<Event>) {
        let payment = Payment {
            id,
            fee,
            state: State::Requested,
            claim: None,
            attempt_count: 0,
            charge_number: 1,
            next_attempt_time: Some(due),
            in_doubt: false,
            deferral_announced: false,
            provider_reference: String::new(),
            decline_reason: String::new(),
            refunded_amount: Money::won(0),
            refund: None,
            approve_time: None,
        };
        (payment, vec![])
    }

    /// A fee is to be taken by the attempt that begins with it.
    pub fn pay(id: PaymentId, fee: Fee, claim: Claim) -> (Payment, Vec<Event>) {
        let (mut payment, events) = Payment::request(id, fee, claim.time);
        payment.begin(claim);
        (payment, events)
    }

    /// A fee is to be taken, and nobody has time to ask for it now.
    pub fn defer(id: PaymentId, fee: Fee, now: Timestamp, retry: Retry) -> (Payment, Vec<Event>) {
        let (mut payment, _) = Payment::request(id, fee, now);
        let events = payment.put_off(now, retry);
        (payment, events)
    }

    /// **The rule that keeps money safe**: who wants to ask the provider claims the payment, and the
    /// claim is on record before the provider hears of it. So there is one attempt at a time, and one
    /// that dies leaves a trace: after [`CLAIM_TERM`] another may take over, in doubt.
    pub fn claim(&mut self, claim: Claim) -> Result<Vec<Event>, Rejection> {
        match self.state {
            State::Requested | State::Deferred | State::Unknown => {}
            State::InFlight if self.is_due(claim.time) => self.in_doubt = true,
            State::InFlight => return Err(in_flight(self.attempt_count)),
            State::Approved | State::Declined | State::Refunded => {
                let message = "the provider has decided: there is nothing to try";
                return Err(Rejection::precondition("PAYMENT_NOT_OUTSTANDING", message));
            }
        }
        self.begin(claim);
        Ok(vec![])
    }

    /// Somebody wants it tried now, a refused one too. The provider answers the refused key with its
    /// refusal for ever, so what is refused is charged under a new one. That cannot charge twice:
    /// under the old one nothing is ever taken.
    pub fn settle(&mut self, claim: Claim) -> Result<Vec<Event>, Rejection> {
        if self.state != State::Declined {
            return self.claim(claim);
        }
        self.charge_number += 1;
        self.decline_reason.clear();
        self.deferral_announced = false;
        self.begin(claim);
        Ok(vec![])
    }

    /// What is due is tried again, be it the charge or the refund.
    pub fn take_up(&mut self, claim: Claim) -> Result<Vec<Event>, Rejection> {
        if !self.is_due(claim.time) {
            let message = "somebody else has looked after it";
            return Err(Rejection::precondition("PAYMENT_NOT_DUE", message));
        }
        if self.refund.is_none() {
            return self.claim(claim);
        }
        self.take_up_refund(claim);
        Ok(vec![])
    }

    /// The provider has news of it: what waits for its time need not wait longer.
    pub fn hint(&mut self, now: Timestamp) -> Vec<Event> {
        self.next_attempt_time = self.next_attempt_time.map(|planned| planned.min(now));
        vec![]
    }

    fn begin(&mut self, claim: Claim) {
        self.state = State::InFlight;
        self.claim = Some(claim);
        self.attempt_count += 1;
        self.next_attempt_time = None;
    }

    /// The provider took the fee.
    pub fn approved(
        &mut self,
        claim: Claim,
        reference: String,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        self.end(claim)?;
        self.state = State::Approved;
        self.in_doubt = false;
        self.provider_reference = reference;
        self.approve_time = Some(now);
        Ok(vec![Event::PaymentApproved])
    }

    /// The provider refused.
    pub fn declined(&mut self, claim: Claim, reason: String) -> Result<Vec<Event>, Rejection> {
        self.end(claim)?;
        self.state = State::Declined;
        self.in_doubt = false;
        self.decline_reason = reason;
        Ok(vec![Event::PaymentDeclined])
    }

    /// This attempt did not take the fee. An earlier one that gave no answer still may have: only
    /// the provider's word ends a doubt.
    pub fn deferred(
        &mut self,
        claim: Claim,
        now: Timestamp,
        retry: Retry,
    ) -> Result<Vec<Event>, Rejection> {
        self.end(claim)?;
        Ok(self.put_off(now, retry))
    }

    fn put_off(&mut self, now: Timestamp, retry: Retry) -> Vec<Event> {
        self.state = if self.in_doubt { State::Unknown } else { State::Deferred };
        self.next_attempt_time = Some(now.plus(retry.pause(self.attempt_count, self.jitter())));
        // Customers are told once, however long it takes.
        let announced = std::mem::replace(&mut self.deferral_announced, true);
        if announced { vec![] } else { vec![Event::PaymentDeferred] }
    }

    /// Nobody knows whether this attempt took the fee. The next one looks it up, and asks under the
    /// same key.
    pub fn unknown(
        &mut self,
        claim: Claim,
        now: Timestamp,
        retry: Retry,
    ) -> Result<Vec<Event>, Rejection> {
        let events = self.deferred(claim, now, retry)?;
        self.state = State::Unknown;
        self.in_doubt = true;
        Ok(events)
    }

    /// Only the attempt that holds the claim may say how it ended.
    fn end(&mut self, claim: Claim) -> Result<(), Rejection> {
        if self.claim != Some(claim) || self.refund.is_some() {
            return Err(overtaken());
        }
        self.claim = None;
        Ok(())
    }

    /// Refuses a call that wants another fee for the same driving.
    pub fn require_same(&self, fee: &Fee) -> Result<(), Rejection> {
        if self.fee == *fee {
            return Ok(());
        }
        let message = "the driving's payment has another allocation, customer or amount";
        Err(Rejection::already_exists("DRIVING_CHARGED_DIFFERENTLY", message))
    }

    /// When somebody has to look after it: at the next attempt, or when one must have died.
    pub fn due_time(&self) -> Option<Timestamp> {
        self.claim.map(|claim| claim.time.plus(CLAIM_TERM)).or(self.next_attempt_time)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.due_time().is_some_and(|due| due <= now)
    }

    /// The key under which the provider charges at most once: always the same for one driving, until
    /// the provider has refused it.
    pub fn charge_key(&self) -> Uuid {
        charge_key(self.fee.driving, self.charge_number)
    }

    /// The cause under which the outcome of the present attempt goes on record.
    pub fn outcome_cause(&self) -> Uuid {
        let (whose, attempt) = match &self.refund {
            Some(refund) => (refund.key, refund.attempt_count),
            None => (self.id.0, self.attempt_count),
        };
        Uuid::new_v5(&whose, format!("outcome {attempt}").as_bytes())
    }

    /// From 0 to 1, another one for each attempt of each payment.
    fn jitter(&self) -> f64 {
        let seed = self.outcome_cause().as_u128() as u32;
        f64::from(seed) / f64::from(u32::MAX)
    }
}

/// The key of this charge of a driving.
pub(crate) fn charge_key(driving: DrivingId, number: u32) -> Uuid {
    let name = if number == 1 { "charge".to_owned() } else { format!("charge {number}") };
    Uuid::new_v5(&driving.0, name.as_bytes())
}

/// The driving has its payment.
pub fn payment_exists() -> Rejection {
    Rejection::already_exists("PAYMENT_EXISTS", "there is one payment for a driving, for ever")
}

fn overtaken() -> Rejection {
    Rejection::aborted("ATTEMPT_OVERTAKEN", "another attempt has the say by now")
}

fn in_flight(attempt: u32) -> Rejection {
    let message = format!("attempt {attempt} is asking the provider");
    Rejection::precondition("PAYMENT_IN_FLIGHT", message)
}

impl Aggregate for Payment {
    type Event = Event;
    type Filter = Filter;
    const KIND: &'static str = "payment";

    fn id(&self) -> Uuid {
        self.id.0
    }
}
