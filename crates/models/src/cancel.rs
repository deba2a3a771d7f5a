//! Cancel against start: a customer, drivers and the clock, each at its own pace.
//!
//! The two aggregates are the contexts' own: [`Allocation`] and [`Driving`] decide here as they do in
//! production. Around them are modelled the use cases' wait for a decision, the policies (which are
//! private: each is a line here), and the two ways of events, on which anything may take any time.
//! What the two other models show is taken for granted: effects in order and once.
//!
//! Left out: payments, declines, entity tags, request ids (a call is made once), and the rows' own
//! races (a change is one step).
//!
//! # What was found
//!
//! For a customer who asks twice to cancel, two drivers and the clock, about 2 000 states: never are
//! both start and cancel announced; whoever was told that the ride is cancelled, or why it cannot be,
//! was told the truth for ever; when all events are heard both contexts say the same and no wish is
//! undecided; nobody is ever told that a cancel was withdrawn; no event is parked.
//!
//! | otherwise | what breaks |
//! |---|---|
//! | allocation decides alone | a customer is told that the ride is cancelled, and then it starts |
//! | effects repeat | a rejected call-off that is heard again takes a started allocation back to approved |
//! | effects change their order | a cancel comes before the request it is about and is parked |
//!
//! So the aggregates rely on the backbone for order and single effect; they do not keep it themselves.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use allocation::domain::{self as asked, Allocation};
use driving::domain::{self as driven, Driving};
use driving::fare::Tariff;
use kernel::{AllocationId, CustomerId, DriverId, DrivingId, Money, Place, Timestamp, Uuid};
use stateright::{Model, Property, Representative};

#[cfg(test)]
mod tests;

/// Who may do what, and how events travel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cancel {
    /// How often the customer calls `CancelAllocation`.
    pub calls: usize,
    /// How many drivers want the ride.
    pub drivers: u8,
    /// What the backbone makes of events on their way.
    pub delivery: Delivery,
    /// Who decides about a cancel.
    pub decider: Decider,
}

/// What the backbone makes of events on their way. They may take any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Their effects come in the order of versions, and once: what the other models show.
    #[default]
    InOrderAndOnce,
    /// Their effects come in order, and may be repeated.
    Repeatedly,
    /// Their effects come once, in any order.
    InAnyOrder,
}

/// Who decides about a cancel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decider {
    /// The driving, whose row sees accept and start, too.
    #[default]
    Driving,
    /// The allocation, from what it knows.
    Allocation,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    allocation: Allocation,
    driving: Option<Driving>,
    /// What allocation has said, and what of it driving has heard.
    to_driving: Way<asked::Event>,
    /// What driving has said and how it stood then, and what of it allocation has heard.
    to_allocation: Way<(driven::Event, driven::State)>,
    calls: Vec<Call>,
    /// The drivers who were told that the ride is theirs.
    accepted: BTreeSet<u8>,
    /// A driver was told that the ride has started.
    started: bool,
    /// An event met a context that could do nothing with it.
    parked: bool,
}

/// Events from one context to the other.
#[derive(Clone, Debug, PartialEq)]
struct Way<E> {
    said: Vec<E>,
    heard: BTreeSet<usize>,
}

/// One call of `CancelAllocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Call {
    NotMade,
    Waits,
    /// Answered: the allocation is cancelled.
    Cancelled,
    /// Answered: not decided yet.
    Cancelling,
    /// Answered: no, for this reason.
    Refused(&'static str),
}

/// One step of somebody.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The customer calls.
    Cancel(usize),
    /// The call hears of the decision.
    Answer(usize),
    /// The call has waited long enough.
    Timeout(usize),
    /// It is too late for a driver to accept.
    Expire,
    /// A driver accepts.
    Accept(u8),
    /// A driver starts.
    Start(u8),
    /// A driver finishes.
    Finish(u8),
    /// Driving hears what allocation has said at this place.
    DrivingHears(usize, asked::Event),
    /// Allocation hears what driving has said at this place.
    AllocationHears(usize, driven::Event),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Cancel(call) => write!(f, "call {call} asks to cancel"),
            Step::Answer(call) => write!(f, "call {call} is answered"),
            Step::Timeout(call) => write!(f, "call {call} is answered: not decided yet"),
            Step::Expire => write!(f, "the request is too old"),
            Step::Accept(driver) => write!(f, "driver {driver} accepts"),
            Step::Start(driver) => write!(f, "driver {driver} starts"),
            Step::Finish(driver) => write!(f, "driver {driver} finishes"),
            Step::DrivingHears(_, event) => write!(f, "driving hears {event:?}"),
            Step::AllocationHears(_, event) => write!(f, "allocation hears {event:?}"),
        }
    }
}

/// No ride is both started and cancelled, by what driving has announced.
pub const ONE_WINNER: &str = "no ride is both started and cancelled";
/// Whoever was told yes, or why not, was told the truth, for ever.
pub const ANSWERS_ARE_TRUE: &str = "what callers were told is true";
/// When all that was said is heard, nothing is undecided and both contexts say the same.
pub const AGREEMENT: &str = "when all is heard, both contexts agree";
/// No event meets a context that can do nothing with it.
pub const NOTHING_PARKED: &str = "no event is parked";

impl Model for Cancel {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.requested().into_iter().collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (id, call) in state.calls.iter().enumerate() {
            match (call, state.allocation.state) {
                (Call::NotMade, _) => steps.push(Step::Cancel(id)),
                (Call::Waits, asked::State::Cancelling) => steps.push(Step::Timeout(id)),
                (Call::Waits, _) => steps.push(Step::Answer(id)),
                (Call::Cancelled | Call::Cancelling | Call::Refused(_), _) => {}
            }
        }
        steps.push(Step::Expire);
        for driver in 0..self.drivers {
            steps.extend([Step::Accept(driver), Step::Start(driver), Step::Finish(driver)]);
        }
        let State { to_driving, to_allocation, .. } = state;
        steps.extend(
            to_driving
                .arriving(self.delivery)
                .map(|place| Step::DrivingHears(place, to_driving.said[place].clone())),
        );
        steps.extend(
            to_allocation
                .arriving(self.delivery)
                .map(|place| Step::AllocationHears(place, to_allocation.said[place].0)),
        );
    }

    /// A step that changes nothing is none.
    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Cancel>> {
        let sometimes = Property::<Cancel>::sometimes;
        let mut properties = vec![
            Property::<Cancel>::always(ONE_WINNER, |_, state| {
                let said = |event| state.to_allocation.said.iter().any(|(is, _)| *is == event);
                !(said(driven::Event::DrivingStarted) && said(driven::Event::DrivingCancelled))
            }),
            Property::<Cancel>::always(ANSWERS_ARE_TRUE, |_, state| state.answers_are_true()),
            Property::<Cancel>::always(AGREEMENT, |_, state| {
                !state.all_is_heard() || state.contexts_agree()
            }),
            Property::<Cancel>::always(NOTHING_PARKED, |_, state| !state.parked),
            sometimes("a customer cancels in time", |_, state| {
                state.calls.contains(&Call::Cancelled)
            }),
            sometimes("a customer cancels too late", |_, state| {
                state.calls.contains(&Call::Refused("DRIVING_ALREADY_STARTED"))
            }),
            sometimes("a request expires", |_, state| {
                state.allocation.state == asked::State::Expired
            }),
            sometimes("a request expires too late", |_, state| {
                let rejected = (driven::Event::DrivingCancelRejected, driven::State::Approved);
                state.to_allocation.said.contains(&rejected)
            }),
            sometimes("a ride reaches its end", |_, state| {
                state.allocation.state == asked::State::DrivingFinished
            }),
        ];
        if self.decider == Decider::Driving {
            properties.push(sometimes("a customer is not told in time", |_, state| {
                state.calls.contains(&Call::Cancelling)
            }));
        }
        properties
    }

    /// Repeated events are answered again and again: a few times are enough.
    fn within_boundary(&self, state: &State) -> bool {
        self.delivery != Delivery::Repeatedly || state.to_allocation.said.len() <= 6
    }
}

impl Cancel {
    /// A customer has asked for a car.
    fn requested(&self) -> Option<State> {
        let wish = asked::Wish {
            customer: CustomerId::from_subject("customer"),
            pickup: None,
            destination: Place::parse("destination", "Misa", None).ok()?,
            language: asked::Language::Ko,
        };
        let (id, now) = (AllocationId(Uuid::nil()), Timestamp::default());
        let debtors = asked::Debtors::default();
        let terms = asked::Terms { expire_after: Duration::from_secs(600), debtors };
        let (allocation, said) = Allocation::request(id, wish, 0, now, terms);
        Some(State {
            allocation,
            driving: None,
            to_driving: Way { said, heard: BTreeSet::new() },
            to_allocation: Way { said: Vec::new(), heard: BTreeSet::new() },
            calls: vec![Call::NotMade; self.calls],
            accepted: BTreeSet::new(),
            started: false,
            parked: false,
        })
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Cancel(call) => state.calls[call] = self.cancel(state),
            Step::Answer(call) | Step::Timeout(call) => state.calls[call] = state.outcome(),
            Step::Expire => {
                let said = state.allocation.expire(state.allocation.expire_time);
                state.to_driving.said.extend(said);
            }
            Step::Accept(driver) => {
                if state.drive(|driving| driving.accept(subject(driver)).ok()) {
                    state.accepted.insert(driver);
                }
            }
            Step::Start(driver) => {
                let now = Timestamp::default();
                if state.drive(|driving| driving.start(&subject(driver), now).ok()) {
                    state.started = true;
                }
            }
            Step::Finish(driver) => {
                let tariff = Tariff::flat(Money::won(1_000), "");
                let now = Timestamp::default();
                state.drive(|driving| driving.finish(&subject(driver), now, &tariff).ok());
            }
            Step::DrivingHears(place, _) => state.driving_hears(place),
            Step::AllocationHears(place, _) => state.allocation_hears(place),
        }
    }

    /// As `Allocations::cancel`, up to the wait.
    fn cancel(&self, state: &mut State) -> Call {
        let said = match state.allocation.cancel(String::new()) {
            Ok(said) => said,
            Err(no) => return Call::Refused(no.reason),
        };
        state.to_driving.said.extend(said);
        if self.decider == Decider::Allocation {
            state.to_driving.said.extend(state.allocation.driving_cancelled());
        }
        Call::Waits
    }
}

impl State {
    /// As `Allocations::cancel`, after the wait.
    fn outcome(&self) -> Call {
        match self.allocation.cancel_outcome() {
            Ok(()) if self.allocation.state == asked::State::Cancelling => Call::Cancelling,
            Ok(()) => Call::Cancelled,
            Err(no) => Call::Refused(no.reason),
        }
    }

    /// A change of the driving, with its events; answers whether the driving said yes.
    fn drive(&mut self, decision: impl FnOnce(&mut Driving) -> Option<Vec<driven::Event>>) -> bool {
        let Some(driving) = &mut self.driving else { return false };
        let Some(said) = decision(driving) else { return false };
        let state = driving.state;
        self.to_allocation.said.extend(said.into_iter().map(|event| (event, state)));
        true
    }

    /// As driving's policies.
    fn driving_hears(&mut self, place: usize) {
        self.to_driving.heard.insert(place);
        let known = match &self.to_driving.said[place] {
            asked::Event::AllocationRequested => {
                self.open();
                true
            }
            asked::Event::AllocationCancelRequested(cause) => {
                let cause = match cause {
                    asked::CancelCause::Customer => driven::CancelCause::Customer,
                    asked::CancelCause::Unanswered => driven::CancelCause::Unanswered,
                };
                self.drive(|driving| Some(driving.cancel(cause, String::new())))
            }
            asked::Event::AllocationCancelled | asked::Event::AllocationExpired => true,
        };
        self.parked |= !known;
    }

    /// One driving for each allocation.
    fn open(&mut self) {
        if self.driving.is_none() {
            let ride = driven::Ride {
                allocation: self.allocation.id,
                customer: self.allocation.customer.clone(),
                pickup: self.allocation.pickup.clone(),
                destination: self.allocation.destination.clone(),
            };
            let (driving, said) = Driving::open(DrivingId(Uuid::nil()), ride);
            let state = driving.state;
            self.to_allocation.said.extend(said.into_iter().map(|event| (event, state)));
            self.driving = Some(driving);
        }
    }

    /// As allocation's policies.
    fn allocation_hears(&mut self, place: usize) {
        self.to_allocation.heard.insert(place);
        let (event, driving) = self.to_allocation.said[place];
        let driver = self.driving.as_ref().and_then(|driving| driving.driver.clone());
        let allocation = &mut self.allocation;
        let said = match (event, driver) {
            (driven::Event::DrivingOpened, _) => allocation.driving_opened(DrivingId(Uuid::nil())),
            (driven::Event::DrivingApproved, Some(driver)) => allocation.driving_approved(driver),
            (driven::Event::DrivingStarted, _) => allocation.driving_started(),
            (driven::Event::DrivingFinished, _) => allocation.driving_finished(),
            (driven::Event::DrivingCancelled, _) => allocation.driving_cancelled(),
            (driven::Event::DrivingCancelRejected, _) => match driving {
                driven::State::Approved => {
                    allocation.driving_cancel_rejected(asked::State::Approved)
                }
                driven::State::Started => {
                    allocation.driving_cancel_rejected(asked::State::DrivingStarted)
                }
                driven::State::Finished => {
                    allocation.driving_cancel_rejected(asked::State::DrivingFinished)
                }
                driven::State::Requested | driven::State::Cancelled => {
                    self.parked = true;
                    vec![]
                }
            },
            (driven::Event::DrivingApproved, None) | (driven::Event::DrivingPaymentSettled, _) => {
                vec![]
            }
        };
        self.to_driving.said.extend(said);
    }

    fn answers_are_true(&self) -> bool {
        use driven::State::{Finished, Started};
        let driving = self.driving.as_ref().map(|driving| driving.state);
        let started = matches!(driving, Some(Started | Finished));
        let calls = self.calls.iter().all(|call| match call {
            Call::NotMade | Call::Waits | Call::Cancelling => true,
            Call::Cancelled | Call::Refused("ALLOCATION_CLOSED") => !started,
            Call::Refused("DRIVING_ALREADY_STARTED") => started,
            // There is no other reason: above all, nobody's cancel is withdrawn.
            Call::Refused(_) => false,
        });
        calls && self.accepted.len() <= 1 && (!self.started || started)
    }

    fn all_is_heard(&self) -> bool {
        self.to_driving.is_heard() && self.to_allocation.is_heard()
    }

    fn contexts_agree(&self) -> bool {
        let Some(driving) = &self.driving else { return false };
        match driving.state {
            driven::State::Requested => {
                self.allocation.state == asked::State::Requested && !self.allocation.expiring
            }
            driven::State::Approved => self.allocation.state == asked::State::Approved,
            driven::State::Started => self.allocation.state == asked::State::DrivingStarted,
            driven::State::Finished => self.allocation.state == asked::State::DrivingFinished,
            driven::State::Cancelled => {
                matches!(self.allocation.state, asked::State::Cancelled | asked::State::Expired)
            }
        }
    }
}

impl<E> Way<E> {
    /// What may be heard now.
    fn arriving(&self, delivery: Delivery) -> impl Iterator<Item = usize> {
        let next = (0..self.said.len()).find(|place| !self.heard.contains(place));
        (0..self.said.len()).filter(move |place| {
            let again = self.heard.contains(place);
            match delivery {
                Delivery::InOrderAndOnce => next == Some(*place),
                Delivery::Repeatedly => again || next == Some(*place),
                Delivery::InAnyOrder => !again,
            }
        })
    }

    fn is_heard(&self) -> bool {
        self.heard.len() == self.said.len()
    }
}

/// All that can differ between two states.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Allocation { state, expiring, driving, driver, .. } = &self.allocation;
        (state, expiring, driving, driver).hash(hasher);
        self.driving.as_ref().map(|driving| (driving.state, &driving.driver)).hash(hasher);
        for event in &self.to_driving.said {
            std::mem::discriminant(event).hash(hasher);
            if let asked::Event::AllocationCancelRequested(cause) = event {
                std::mem::discriminant(cause).hash(hasher);
            }
        }
        for (event, state) in &self.to_allocation.said {
            (std::mem::discriminant(event), state).hash(hasher);
        }
        (&self.to_driving.heard, &self.to_allocation.heard).hash(hasher);
        (&self.calls, &self.accepted, self.started, self.parked).hash(hasher);
    }
}

/// Calls are interchangeable: states that differ only in which is which count as one.
impl Representative for State {
    fn representative(&self) -> State {
        let mut state = self.clone();
        state.calls.sort_unstable();
        state
    }
}

fn subject(driver: u8) -> DriverId {
    DriverId::from_subject(driver.to_string())
}
