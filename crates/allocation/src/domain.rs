//! The allocation: a customer's request for a car.

use std::time::Duration;

use kernel::{
    Aggregate, AllocationId, CustomerId, DriverId, DrivingId, PaymentId, Place, Rejection,
    Timestamp, Uuid,
};

/// Where an allocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for a driver.
    Requested,
    /// A driver has accepted.
    Approved,
    /// The customer is on board.
    DrivingStarted,
    /// The driving has reached its end.
    DrivingFinished,
    /// The customer wants to cancel; driving has not decided yet.
    Cancelling,
    /// Cancelled before the driving started.
    Cancelled,
    /// No driver accepted in time.
    Expired,
}

impl State {
    /// Whether nothing more can happen.
    pub fn is_final(self) -> bool {
        matches!(self, State::DrivingFinished | State::Cancelled | State::Expired)
    }
}

/// In which language the customer is told about the ride.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Korean.
    #[default]
    Ko,
    /// English.
    En,
}

/// Whether a customer who owes a fee may ask for a car.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debtors {
    /// They settle it first.
    #[default]
    Refused,
    /// They may.
    Served,
}

/// On which terms cars are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a request waits for a driver.
    pub expire_after: Duration,
    /// Whether a customer who owes a fee may ask.
    pub debtors: Debtors,
}

/// Why a driving is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelCause {
    /// The customer wants it.
    Customer,
    /// No driver accepted in time.
    Unanswered,
}

/// A customer's request for a car.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Its identity, and the correlation key of the whole ride.
    pub id: AllocationId,
    /// Who asks.
    pub customer: CustomerId,
    /// From where, when the customer said so.
    pub pickup: Option<Place>,
    /// To where.
    pub destination: Place,
    /// How the customer is spoken to.
    pub language: Language,
    /// Where it stands.
    pub state: State,
    /// Which of the customer's places for open allocations it takes.
    pub slot: u32,
    /// Until when a driver may accept.
    pub expire_time: Timestamp,
    /// It is too late, and driving has been told so.
    pub expiring: bool,
    /// The driving that serves it, once known.
    pub driving: Option<DrivingId>,
    /// Who drives, once somebody does.
    pub driver: Option<DriverId>,
    /// Why it was cancelled, in the customer's words.
    pub cancel_reason: String,
    /// Whether its customer may owe a fee: matters while it is new, and is not kept.
    pub debtors: Debtors,
}

/// What can happen to an allocation.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A customer asks for a car.
    AllocationRequested,
    /// It shall be cancelled, if driving agrees.
    AllocationCancelRequested(CancelCause),
    /// Driving agreed to the customer's wish.
    AllocationCancelled,
    /// No driver accepted in time.
    AllocationExpired,
}

/// Which allocations a list asks for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; any, when empty.
    pub states: Vec<State>,
    /// Unanswered by then, and not yet called off.
    pub overdue_at: Option<Timestamp>,
}

/// What a customer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Who asks.
    pub customer: CustomerId,
    /// From where.
    pub pickup: Option<Place>,
    /// To where.
    pub destination: Place,
    /// How to speak to them.
    pub language: Language,
}

/// The longest reason for a cancellation, in characters.
pub const MAX_REASON: usize = 500;

impl Allocation {
    /// A customer asks for a car.
    pub fn request(
        id: AllocationId,
        wish: Wish,
        slot: u32,
        now: Timestamp,
        terms: Terms,
    ) -> (Allocation, Vec<Event>) {
        let allocation = Allocation {
            id,
            customer: wish.customer,
            pickup: wish.pickup,
            destination: wish.destination,
            language: wish.language,
            state: State::Requested,
            slot,
            expire_time: now.plus(terms.expire_after),
            expiring: false,
            driving: None,
            driver: None,
            cancel_reason: String::new(),
            debtors: terms.debtors,
        };
        (allocation, vec![Event::AllocationRequested])
    }

    /// **The cancel rule**: a customer may cancel until the driving starts. Here it is a wish; the
    /// driving decides, and answers with `driving_cancelled` or `driving_cancel_rejected`.
    pub fn cancel(&mut self, reason: String) -> Result<Vec<Event>, Rejection> {
        let fits = reason.len() <= 4 * MAX_REASON && reason.chars().count() <= MAX_REASON;
        if !fits || reason.contains(|c: char| c.is_control()) {
            let message = format!("must be at most {MAX_REASON} characters, none of control");
            return Err(Rejection::invalid("reason", "INVALID_REASON", message));
        }
        match self.state {
            State::Requested | State::Approved => {
                self.state = State::Cancelling;
                self.cancel_reason = reason;
                Ok(vec![Event::AllocationCancelRequested(CancelCause::Customer)])
            }
            // The wish is known; this caller waits for the same outcome.
            State::Cancelling => Ok(vec![]),
            State::DrivingStarted | State::DrivingFinished => Err(already_started()),
            State::Cancelled | State::Expired => Err(Rejection::precondition(
                "ALLOCATION_CLOSED",
                "the allocation has been cancelled or has expired",
            )),
        }
    }

    /// What a caller who wished to cancel is told.
    pub fn cancel_outcome(&self) -> Result<(), Rejection> {
        match self.state {
            State::Cancelling | State::Cancelled | State::Expired => Ok(()),
            State::DrivingStarted | State::DrivingFinished => Err(already_started()),
            State::Requested | State::Approved => {
                Err(Rejection::aborted("CANCEL_WITHDRAWN", "the cancel did not take effect"))
            }
        }
    }

    /// Calls off an allocation that no driver has accepted in time.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Event> {
        if self.state != State::Requested || self.expiring || now < self.expire_time {
            return vec![];
        }
        self.expiring = true;
        vec![Event::AllocationCancelRequested(CancelCause::Unanswered)]
    }

    /// A driving has been opened for it.
    pub fn driving_opened(&mut self, driving: DrivingId) -> Vec<Event> {
        self.driving = Some(driving);
        vec![]
    }

    /// A driver has accepted. A wish to cancel is not forgotten over it.
    pub fn driving_approved(&mut self, driver: DriverId) -> Vec<Event> {
        self.driver = Some(driver);
        if self.state == State::Requested {
            self.state = State::Approved;
        }
        vec![]
    }

    /// The driving has started: a wish to cancel came too late.
    pub fn driving_started(&mut self) -> Vec<Event> {
        self.goes_on(State::DrivingStarted);
        vec![]
    }

    /// The driving has reached its end.
    pub fn driving_finished(&mut self) -> Vec<Event> {
        self.goes_on(State::DrivingFinished);
        vec![]
    }

    /// Driving has called the driving off.
    pub fn driving_cancelled(&mut self) -> Vec<Event> {
        match self.state {
            State::Requested if self.expiring => {
                self.state = State::Expired;
                vec![Event::AllocationExpired]
            }
            State::Requested | State::Approved | State::Cancelling => {
                self.state = State::Cancelled;
                vec![Event::AllocationCancelled]
            }
            State::DrivingStarted | State::DrivingFinished | State::Cancelled | State::Expired => {
                vec![]
            }
        }
    }

    /// Driving goes on: it stands as `driving` does.
    pub fn driving_cancel_rejected(&mut self, driving: State) -> Vec<Event> {
        self.expiring = false;
        // A customer's wish is still to be decided when only the call-off came too late.
        if self.state == State::Cancelling && driving == State::Approved {
            return vec![];
        }
        self.goes_on(driving);
        vec![]
    }

    /// A cancel that came too late leaves nothing behind.
    fn goes_on(&mut self, state: State) {
        if !self.state.is_final() {
            self.state = state;
            self.cancel_reason.clear();
        }
    }

    /// The place among the customer's open allocations that it takes; none once it is final.
    pub fn open_slot(&self) -> Option<String> {
        (!self.state.is_final()).then(|| format!("{}#{}", self.customer, self.slot))
    }
}

/// The customer has as many open allocations as allowed.
pub fn open_allocation_exists(max: u32) -> Rejection {
    let message =
        format!("the customer has {max} open, as many as allowed: finish or cancel first");
    Rejection::precondition("OPEN_ALLOCATION_EXISTS", message)
}

/// The customer owes a fee: the provider refused to take it, and it has not been settled since.
pub fn outstanding_payment(payment: PaymentId) -> Rejection {
    let message =
        format!("a fee was declined and is outstanding: SettlePayment of {payment} first");
    Rejection::precondition("OUTSTANDING_PAYMENT", message)
}

fn already_started() -> Rejection {
    Rejection::precondition(
        "DRIVING_ALREADY_STARTED",
        "the driving has started: too late to cancel",
    )
}

impl Aggregate for Allocation {
    type Event = Event;
    type Filter = Filter;
    const KIND: &'static str = "allocation";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requested() -> Allocation {
        let wish = Wish {
            customer: CustomerId::from_subject("C1"),
            pickup: None,
            destination: Place::parse("destination", "Misa", None).expect("a place"),
            language: Language::Ko,
        };
        let now = Timestamp::from_micros(0);
        let terms = Terms { expire_after: Duration::from_secs(600), debtors: Debtors::default() };
        Allocation::request(AllocationId(Uuid::nil()), wish, 0, now, terms).0
    }

    fn in_state(state: State) -> Allocation {
        Allocation { state, ..requested() }
    }

    #[test]
    fn a_customer_may_cancel_until_the_driving_starts() {
        use State::*;
        for (state, outcome) in [
            (Requested, Ok(Cancelling)),
            (Approved, Ok(Cancelling)),
            (Cancelling, Ok(Cancelling)),
            (DrivingStarted, Err("DRIVING_ALREADY_STARTED")),
            (DrivingFinished, Err("DRIVING_ALREADY_STARTED")),
            (Cancelled, Err("ALLOCATION_CLOSED")),
            (Expired, Err("ALLOCATION_CLOSED")),
        ] {
            let mut allocation = in_state(state);
            let said = allocation.cancel("changed my mind".to_owned());
            assert_eq!(
                said.map(|_| allocation.state).map_err(|no| no.reason),
                outcome,
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_rejected_cancel_goes_back_to_what_the_driving_is_and_leaves_nothing_behind() {
        let mut allocation = in_state(State::Approved);
        allocation.cancel("changed my mind".to_owned()).expect("not started");
        allocation.driving_cancel_rejected(State::DrivingStarted);
        assert_eq!(allocation.state, State::DrivingStarted);
        assert_eq!(allocation.cancel_reason, "");
        let said = allocation.cancel_outcome().map_err(|no| no.reason);
        assert_eq!(said, Err("DRIVING_ALREADY_STARTED"));
    }

    #[test]
    fn a_call_off_that_came_too_late_does_not_undo_the_customers_wish() {
        let mut allocation = requested();
        allocation.expire(allocation.expire_time);
        allocation.driving_approved(DriverId::from_subject("D1"));
        allocation.cancel(String::new()).expect("not started");
        allocation.driving_cancel_rejected(State::Approved);
        assert_eq!((allocation.state, allocation.expiring), (State::Cancelling, false));
    }

    #[test]
    fn only_an_unanswered_allocation_expires_and_only_when_it_is_time() {
        let mut allocation = requested();
        let due = allocation.expire_time;
        assert_eq!(allocation.expire(due.minus(Duration::from_micros(1))), []);
        let call_off = [Event::AllocationCancelRequested(CancelCause::Unanswered)];
        assert_eq!(allocation.expire(due), call_off);
        assert_eq!(allocation.expire(due), [], "once is enough");
        assert_eq!(allocation.driving_cancelled(), [Event::AllocationExpired]);
        assert_eq!(allocation.state, State::Expired);
        assert_eq!(in_state(State::Approved).expire(due), []);
    }

    #[test]
    fn a_reason_has_an_end() {
        let long = "왜".repeat(MAX_REASON + 1);
        for reason in [long.as_str(), "\0", "line\nbreak"] {
            let said = requested().cancel(reason.to_owned()).map_err(|no| no.reason);
            assert_eq!(said, Err("INVALID_REASON"), "{reason:?}");
        }
        assert!(requested().cancel("왜".repeat(MAX_REASON)).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Cancel,
        Expire,
        Opened,
        Approved,
        Started,
        Finished,
        Cancelled,
        Rejected,
    }

    proptest! {
        /// Whatever is said in whatever order: final states stay, at most one of cancelled and
        /// expired is announced, and only an open allocation takes a place.
        #[test]
        fn no_sequence_breaks_a_rule(steps in proptest::collection::vec(
            proptest::sample::select(vec![
                Step::Cancel, Step::Expire, Step::Opened, Step::Approved, Step::Started,
                Step::Finished, Step::Cancelled, Step::Rejected,
            ]),
            0..20,
        )) {
            let mut allocation = requested();
            let mut ends = 0;
            for step in steps {
                let before = allocation.clone();
                let due = allocation.expire_time;
                let events = match step {
                    Step::Cancel => allocation.cancel(String::new()).unwrap_or_default(),
                    Step::Expire => allocation.expire(due),
                    Step::Opened => allocation.driving_opened(DrivingId(Uuid::nil())),
                    Step::Approved => allocation.driving_approved(DriverId::from_subject("D1")),
                    Step::Started => allocation.driving_started(),
                    Step::Finished => allocation.driving_finished(),
                    Step::Cancelled => allocation.driving_cancelled(),
                    Step::Rejected => allocation.driving_cancel_rejected(State::DrivingStarted),
                };
                if before.state.is_final() {
                    prop_assert_eq!(before.state, allocation.state);
                }
                let ended = |e: &&Event| {
                    matches!(e, Event::AllocationCancelled | Event::AllocationExpired)
                };
                ends += events.iter().filter(ended).count();
                prop_assert!(ends <= 1);
                prop_assert_eq!(allocation.open_slot().is_some(), !allocation.state.is_final());
            }
        }
    }
}
