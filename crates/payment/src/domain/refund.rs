//! Giving back, wholly or in parts, what was taken: never more, and one part at a time.

use kernel::{Money, Rejection, Timestamp, Uuid};

use super::{Claim, Event, Payment, Retry, State, overtaken};

/// The most characters of a reason.
const MAX_REASON: usize = 500;

/// What somebody wants to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundWish {
    /// Under which the provider gives back at most once.
    pub key: Uuid,
    /// How much; all that is left, when nobody says.
    pub amount: Option<Money>,
    /// Why, in the operator's own words.
    pub reason: String,
}

/// One part that is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Under which the provider gives back at most once.
    pub key: Uuid,
    /// How much.
    pub amount: Money,
    /// Why, in the operator's own words.
    pub reason: String,
    /// How often the provider has been asked for it.
    pub attempt_count: u32,
}

impl Payment {
    /// A part is to be given back by the attempt that begins with it. As with a charge, it is on
    /// record before the provider hears of it; and while it is not known to have happened, it counts
    /// as if it had.
    pub fn refund(&mut self, wish: RefundWish, claim: Claim) -> Result<Vec<Event>, Rejection> {
        check(&wish)?;
        if !matches!(self.state, State::Approved | State::Refunded) {
            let message = "the fee has not been taken: there is nothing to give back";
            return Err(Rejection::precondition("PAYMENT_NOT_TAKEN", message));
        }
        if self.refund.is_some() {
            let message = "another refund of it is under way";
            return Err(Rejection::precondition("REFUND_IN_PROGRESS", message));
        }
        let left = Money::won(self.fee.amount.as_won() - self.refunded_amount.as_won());
        let amount = wish.amount.unwrap_or(left);
        if amount > left || left == Money::won(0) {
            let message = format!("{left} of {} are left to give back", self.fee.amount);
            return Err(Rejection::precondition("REFUND_EXCEEDS_PAYMENT", message));
        }
        let RefundWish { key, reason, .. } = wish;
        self.refund = Some(Refund { key, amount, reason, attempt_count: 0 });
        self.take_up_refund(claim);
        Ok(vec![])
    }

    /// An attempt to give back begins.
    pub(super) fn take_up_refund(&mut self, claim: Claim) {
        if let Some(refund) = &mut self.refund {
            refund.attempt_count += 1;
            self.claim = Some(claim);
            self.next_attempt_time = None;
        }
    }

    /// The provider gave it back.
    pub fn refunded(&mut self, claim: Claim) -> Result<Vec<Event>, Rejection> {
        let refund = self.end_refund(claim)?;
        self.state = State::Refunded;
        self.refunded_amount = Money::won(self.refunded_amount.as_won() + refund.amount.as_won());
        Ok(vec![Event::PaymentRefunded(refund)])
    }

    /// The provider refused, for good: nothing was given back, and nothing is under way.
    pub fn refund_refused(&mut self, claim: Claim) -> Result<Vec<Event>, Rejection> {
        self.end_refund(claim).map(|_| vec![])
    }

    /// Nobody knows whether it was given back: the next attempt asks under the same key.
    pub fn refund_unknown(
        &mut self,
        claim: Claim,
        now: Timestamp,
        retry: Retry,
    ) -> Result<Vec<Event>, Rejection> {
        let jitter = self.jitter();
        let refund = self.end_refund(claim)?;
        self.next_attempt_time = Some(now.plus(retry.pause(refund.attempt_count, jitter)));
        self.refund = Some(refund);
        Ok(vec![])
    }

    /// Only the attempt that holds the claim may say how it ended.
    fn end_refund(&mut self, claim: Claim) -> Result<Refund, Rejection> {
        if self.claim != Some(claim) {
            return Err(overtaken());
        }
        let refund = self.refund.take().ok_or_else(overtaken)?;
        self.claim = None;
        Ok(refund)
    }
}

fn check(wish: &RefundWish) -> Result<(), Rejection> {
    if wish.amount.is_some_and(|amount| amount <= Money::won(0)) {
        return Err(Rejection::invalid("amount", "INVALID_AMOUNT", "must be more than 0"));
    }
    let reason = &wish.reason;
    let fits = reason.len() <= 4 * MAX_REASON && reason.chars().count() <= MAX_REASON;
    if !fits || reason.contains(|c: char| c.is_control()) {
        let message = format!("must be at most {MAX_REASON} characters, none of control");
        return Err(Rejection::invalid("reason", "INVALID_REASON", message));
    }
    Ok(())
}
