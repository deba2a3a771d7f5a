//! The driving: one ride from the driver's side.

use kernel::{
    Aggregate, AllocationId, CustomerId, DriverId, DrivingId, Money, PaymentId, Place, Rejection,
    Timestamp, Uuid,
};

use crate::fare::{Fare, Tariff};

/// Where a driving stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Open: any driver may accept it.
    Requested,
    /// A driver has accepted and is on the way.
    Approved,
    /// The customer is on board.
    Started,
    /// Arrived; the fare is fixed.
    Finished,
    /// Cancelled before the start.
    Cancelled,
}

/// What is known of the payment of the fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// The outcome is not known yet.
    Pending,
    /// The fare has been paid.
    Approved,
    /// The payment provider refused.
    Declined,
    /// It will be taken a bit later.
    Deferred,
    /// It has been given back, wholly or in part.
    Refunded,
}

/// Why a driving is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelCause {
    /// The customer wants it.
    Customer,
    /// No driver accepted in time.
    Unanswered,
}

/// One ride from the driver's side.
#[derive(Clone, Debug, PartialEq)]
pub struct Driving {
    /// Its identity.
    pub id: DrivingId,
    /// The allocation it serves, and the correlation key of the whole ride.
    pub allocation: AllocationId,
    /// Who rides.
    pub customer: CustomerId,
    /// Who accepted; stays known after a cancel.
    pub driver: Option<DriverId>,
    /// From where, when the customer said so.
    pub pickup: Option<Place>,
    /// To where.
    pub destination: Place,
    /// Where it stands.
    pub state: State,
    /// When the customer got on board.
    pub start_time: Option<Timestamp>,
    /// When the ride ended.
    pub finish_time: Option<Timestamp>,
    /// What it costs; fixed at the finish.
    pub fare: Option<Fare>,
    /// The payment of the fare, once known.
    pub payment: Option<PaymentId>,
    /// What became of the payment; nothing to pay before the finish.
    pub payment_state: Option<PaymentState>,
    /// Why it was cancelled, in the customer's words.
    pub cancel_reason: String,
}

/// What can happen to a driving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Every driver may accept it now.
    DrivingOpened,
    /// A driver has accepted.
    DrivingApproved,
    /// The customer is on board.
    DrivingStarted,
    /// The ride has ended and its fare is fixed.
    DrivingFinished,
    /// A cancel was in time.
    DrivingCancelled,
    /// A cancel came too late: the driving goes on as it is.
    DrivingCancelRejected,
    /// The outcome of the payment is known, or has changed.
    DrivingPaymentSettled,
}

/// Which drivings a list asks for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; any, when empty.
    pub states: Vec<State>,
    /// Without those that were cancelled, whatever `states` says.
    pub without_cancelled: bool,
    /// Serving this allocation.
    pub allocation: Option<AllocationId>,
}

/// What is to be driven.
#[derive(Clone, Debug, PartialEq)]
pub struct Ride {
    /// For which allocation.
    pub allocation: AllocationId,
    /// Who rides.
    pub customer: CustomerId,
    /// From where.
    pub pickup: Option<Place>,
    /// To where.
    pub destination: Place,
}

/// A fee that is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// For which driving: the key of the payment.
    pub driving: DrivingId,
    /// For which allocation.
    pub allocation: AllocationId,
    /// From whom.
    pub customer: CustomerId,
    /// How much.
    pub amount: Money,
}

/// What became of the wish to take a fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Taken.
    Approved(PaymentId),
    /// The payment provider refused.
    Declined(PaymentId),
    /// It will be taken a bit later; the payment is not known when payment could not be reached.
    Deferred(Option<PaymentId>),
}

/// The longest reason for a decline, in characters.
pub const MAX_REASON: usize = 500;

impl Driving {
    /// Offers a ride to the drivers.
    pub fn open(id: DrivingId, ride: Ride) -> (Driving, Vec<Event>) {
        let driving = Driving {
            id,
            allocation: ride.allocation,
            customer: ride.customer,
            driver: None,
            pickup: ride.pickup,
            destination: ride.destination,
            state: State::Requested,
            start_time: None,
            finish_time: None,
            fare: None,
            payment: None,
            payment_state: None,
            cancel_reason: String::new(),
        };
        (driving, vec![Event::DrivingOpened])
    }

    /// **The accept rule**: the first driver wins. That the driver is free is the store's to check,
    /// by [`active_driver`](Driving::active_driver).
    pub fn accept(&mut self, driver: DriverId) -> Result<Vec<Event>, Rejection> {
        self.require_open()?;
        self.state = State::Approved;
        self.driver = Some(driver);
        Ok(vec![Event::DrivingApproved])
    }

    /// Whether a driver may decline it. The driving itself does not change.
    pub fn decline(&self, reason: &str) -> Result<(), Rejection> {
        let fits = reason.len() <= 4 * MAX_REASON && reason.chars().count() <= MAX_REASON;
        if !fits || reason.contains(|c: char| c.is_control()) {
            let message = format!("must be at most {MAX_REASON} characters, none of control");
            return Err(Rejection::invalid("reason", "INVALID_REASON", message));
        }
        self.require_open()
    }

    fn require_open(&self) -> Result<(), Rejection> {
        match self.state {
            State::Requested => Ok(()),
            State::Approved | State::Started | State::Finished => Err(Rejection::precondition(
                "ALREADY_ACCEPTED",
                "a driver has accepted it already: first come, first served",
            )),
            State::Cancelled => Err(closed()),
        }
    }

    /// The customer is on board: from now on it cannot be cancelled, and the time counts.
    pub fn start(&mut self, driver: &DriverId, now: Timestamp) -> Result<Vec<Event>, Rejection> {
        self.require_driver(driver)?;
        match self.state {
            State::Approved => {
                self.state = State::Started;
                self.start_time = Some(now);
                Ok(vec![Event::DrivingStarted])
            }
            State::Started => Err(Rejection::precondition(
                "DRIVING_ALREADY_STARTED",
                "the driving has been started already",
            )),
            State::Finished | State::Cancelled => Err(closed()),
            // Nobody's driving yet.
            State::Requested => Err(not_found(self.id)),
        }
    }

    /// Arrived: fixes the fare by the tariff of this moment.
    pub fn finish(
        &mut self,
        driver: &DriverId,
        now: Timestamp,
        tariff: &Tariff,
    ) -> Result<Vec<Event>, Rejection> {
        self.require_driver(driver)?;
        match self.state {
            State::Started => {
                let started = self.start_time.unwrap_or(now);
                // A clock that went backwards meanwhile ends no ride before its start.
                let finished = now.max(started);
                self.state = State::Finished;
                self.finish_time = Some(finished);
                self.fare = Some(tariff.fare(started, finished));
                self.payment_state = Some(PaymentState::Pending);
                Ok(vec![Event::DrivingFinished])
            }
            State::Approved => Err(Rejection::precondition(
                "DRIVING_NOT_STARTED",
                "the driving has not been started: start it first",
            )),
            State::Finished | State::Cancelled => Err(closed()),
            // Nobody's driving yet.
            State::Requested => Err(not_found(self.id)),
        }
    }

    /// It exists for its own driver only.
    pub fn require_driver(&self, driver: &DriverId) -> Result<(), Rejection> {
        if self.driver.as_ref() == Some(driver) { Ok(()) } else { Err(not_found(self.id)) }
    }

    /// **The cancel rule**: a customer may cancel until the driving starts; for want of an answer it
    /// is called off only while there is none.
    pub fn cancel(&mut self, cause: CancelCause, reason: String) -> Vec<Event> {
        match (self.state, cause) {
            (State::Requested, _) | (State::Approved, CancelCause::Customer) => {
                self.state = State::Cancelled;
                self.cancel_reason = reason;
                vec![Event::DrivingCancelled]
            }
            (State::Approved, CancelCause::Unanswered) | (State::Started | State::Finished, _) => {
                vec![Event::DrivingCancelRejected]
            }
            // Said before.
            (State::Cancelled, _) => vec![],
        }
    }

    /// The fee that is still to be taken, if any.
    pub fn fee_due(&self) -> Option<Fee> {
        let due = self.payment_state == Some(PaymentState::Pending);
        let fare = self.fare.as_ref().filter(|_| due)?;
        Some(Fee {
            driving: self.id,
            allocation: self.allocation,
            customer: self.customer.clone(),
            amount: fare.amount,
        })
    }

    /// What payment answered to the finish. An event may have been faster, and knows better.
    pub fn payment_settled_by_call(&mut self, charge: Charge) -> Vec<Event> {
        if self.payment_state != Some(PaymentState::Pending) {
            return vec![];
        }
        let (payment, state) = match charge {
            Charge::Approved(payment) => (Some(payment), PaymentState::Approved),
            Charge::Declined(payment) => (Some(payment), PaymentState::Declined),
            Charge::Deferred(payment) => (payment, PaymentState::Deferred),
        };
        self.payment = payment;
        self.payment_state = Some(state);
        vec![Event::DrivingPaymentSettled]
    }

    /// What payment has announced: the truth. Announced again only when it is news.
    pub fn payment_settled(
        &mut self,
        payment: PaymentId,
        state: PaymentState,
    ) -> Result<Vec<Event>, Rejection> {
        if self.state != State::Finished {
            let message = "there is no fare to pay before the finish";
            return Err(Rejection::precondition("DRIVING_NOT_FINISHED", message));
        }
        let news = (Some(payment), Some(state));
        // A call may have known better; and while a declined one is being settled, it is declined
        // until there is a new verdict.
        let overtaken = state == PaymentState::Deferred
            && !matches!(self.payment_state, Some(PaymentState::Pending | PaymentState::Deferred));
        if (self.payment, self.payment_state) == news || overtaken {
            return Ok(vec![]);
        }
        (self.payment, self.payment_state) = news;
        Ok(vec![Event::DrivingPaymentSettled])
    }

    /// Whose only active driving this is, while it is.
    pub fn active_driver(&self) -> Option<&DriverId> {
        match self.state {
            State::Approved | State::Started => self.driver.as_ref(),
            State::Requested | State::Finished | State::Cancelled => None,
        }
    }
}

/// There is no such driving that the caller may see.
pub fn not_found(id: DrivingId) -> Rejection {
    Rejection::not_found("DRIVING_NOT_FOUND", id)
}

/// The driver is on the way or on a ride already.
pub fn driver_busy() -> Rejection {
    Rejection::precondition("DRIVER_BUSY", "you have an active driving: finish it first")
}

/// The allocation is served already.
pub fn already_opened() -> Rejection {
    Rejection::already_exists("DRIVING_ALREADY_OPENED", "there is one driving for each allocation")
}

fn closed() -> Rejection {
    Rejection::precondition("DRIVING_CLOSED", "the driving has been cancelled or is finished")
}

impl Aggregate for Driving {
    type Event = Event;
    type Filter = Filter;
    const KIND: &'static str = "driving";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

#[cfg(test)]
mod tests;
