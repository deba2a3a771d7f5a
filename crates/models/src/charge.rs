//! The way of a fee: called for, asked for, taken or refused, settled, given back. Once.
//!
//! The aggregate is the context's own: [`Payment`] decides here as it does in production. Around it
//! are modelled the use cases that claim it, ask, and put the outcome on record, each of them a step
//! of its own; and the provider, which has its own mind and its own record.
//!
//! | modelled | how |
//! |---|---|
//! | driving | calls for the fee, and calls again; its event may come before, between, after or alone |
//! | an attempt | claims in one transaction, looks up when in doubt, asks, puts the outcome on record in another; at any moment it may die, be as slow as it likes, or give up waiting |
//! | two replicas | two attempts at a time, by a call, the reconciler, the customer or the operator |
//! | the term of a claim | may be over at any moment: the next attempt takes over, the slow one goes on |
//! | the network | a request for which nobody waits any more arrives at any later time, or never; an answer that is lost is a request that arrives after its attempt has given up |
//! | the provider | takes or refuses as it likes; knows a key again, also one it has refused; a look-up tells what has arrived |
//! | the customer, the operator | settle what was refused, under a new key; give back in two parts |
//!
//! Left out: time, the rows' own races (a change is one step), request ids and causes (they make
//! repetitions harmless that are harmless here, too), admission, and the rate of the reconciler.
//!
//! # What was found
//!
//! With all [`lines`] everything holds: about 21 000 states for two calls and three faults, 42 000 with
//! two settlements, 26 000 with two refunds, 85 000 with one of each. Without one of them:
//!
//! | without | what breaks |
//! |---|---|
//! | one key for all attempts | the provider takes the fee twice |
//! | a provider that knows keys | the provider takes the fee twice |
//! | the record before the question | who dies in between leaves a payment that says *not asked*, and the fee is taken |
//! | the same key when the look-up finds nothing | the request was still on its way: taken twice |
//! | silence that means *unknown* | the payment says *not taken*, and it is |
//! | the claim behind the outcome | a slow attempt says *not taken* of what another has taken, or puts it on record twice |
//! | the look-up | nothing: the same key would do. It asks without the risk of taking |

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use kernel::{AllocationId, CustomerId, DrivingId, Money, PaymentId, Rejection, Timestamp, Uuid};
use payment::domain::{Claim, Event, Fee, Payment, RefundWish, Retry, State as Stands};
use stateright::{Model, Property, Representative};

use self::attempt::{Attempt, Phase, Verdict};
use self::lines::{Lines, Record};
use self::provider::{Copy, Decision, Provider};

pub mod attempt;
pub mod lines;
pub mod provider;
#[cfg(test)]
mod tests;

/// Who does how much, and how much may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charge {
    /// How often driving calls for the fee.
    pub calls: u8,
    /// How often the reconciler takes it up.
    pub take_ups: u8,
    /// How often the customer wants to settle.
    pub settlements: u8,
    /// How often the operator gives half of it back.
    pub refunds: u8,
    /// How often an attempt dies, gives up waiting or cannot reach the provider, altogether.
    pub faults: u8,
    /// What keeps money safe.
    pub lines: Lines,
}

/// Everything there is at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    payment: Option<Payment>,
    /// By the number that is the id of the claim.
    attempts: BTreeMap<u8, Attempt>,
    /// Requests in the network.
    under_way: Vec<Copy>,
    provider: Provider,
    /// The keys of what is on record as taken and as given back.
    ledger: Ledger,
    /// What is left of the model's numbers.
    left: Left,
}

/// The keys of what is on record as taken and as given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ledger {
    taken: Vec<Uuid>,
    given_back: Vec<Uuid>,
}

/// How often things may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    calls: u8,
    take_ups: u8,
    settlements: u8,
    refunds: u8,
    faults: u8,
}

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Driving calls for the fee.
    Call,
    /// Payment hears that the driving has finished.
    Hear,
    /// The reconciler takes up what is due.
    TakeUp,
    /// The customer wants to settle.
    Settle,
    /// The operator gives half of it back.
    Refund,
    /// An attempt goes on.
    Attempt(u8, attempt::Step),
    /// A request arrives at the provider.
    Arrive(Copy, Decision),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Call => write!(f, "driving calls"),
            Step::Hear => write!(f, "payment hears of the finish"),
            Step::TakeUp => write!(f, "the reconciler takes it up"),
            Step::Settle => write!(f, "the customer settles"),
            Step::Refund => write!(f, "the operator gives back"),
            Step::Attempt(id, step) => write!(f, "attempt {id} {step}"),
            Step::Arrive(copy, decision) => write!(f, "{copy} arrives: {decision}"),
        }
    }
}

/// The provider takes the fee at most once.
pub const TAKEN_ONCE: &str = "the provider takes the fee at most once";
/// The provider gives nothing back twice, and nothing that it has not taken.
pub const GIVEN_BACK_ONCE: &str = "the provider gives each part back at most once";
/// When nothing is under way, the ledger is what the provider has done.
pub const LEDGER_IS_TRUE: &str = "at rest the ledger is what the provider has done";
/// Nobody is told that the fee was not taken while it was, or may yet be.
pub const NOT_TAKEN_IS_TRUE: &str = "what is said not to be taken is not";
/// Nobody is told that the fee was taken while it was not.
pub const TAKEN_IS_TRUE: &str = "what is said to be taken is";
/// From every state: if nothing goes wrong any more, the fee is taken or refused.
pub const SETTLED: &str = "in the end the fee is taken or refused";

impl Model for Charge {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let Charge { calls, take_ups, settlements, refunds, faults, .. } = *self;
        vec![State {
            payment: None,
            attempts: BTreeMap::new(),
            under_way: Vec::new(),
            provider: Provider::default(),
            ledger: Ledger::default(),
            left: Left { calls, take_ups, settlements, refunds, faults },
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let left = state.left;
        for (count, step) in [
            (left.calls, Step::Call),
            (1, Step::Hear),
            (left.take_ups, Step::TakeUp),
            (left.settlements, Step::Settle),
            (left.refunds, Step::Refund),
        ] {
            if count > 0 {
                steps.push(step);
            }
        }
        for (id, attempt) in &state.attempts {
            let next = attempt.steps(left.faults > 0);
            steps.extend(next.map(|step| Step::Attempt(*id, step)));
        }
        for copy in &state.under_way {
            let answers = state.provider.answers(self.lines.provider, copy);
            steps.extend(answers.map(|decision| Step::Arrive(*copy, decision)));
        }
    }

    /// A step that changes nothing is none.
    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Charge>> {
        let always = Property::<Charge>::always;
        let sometimes = Property::<Charge>::sometimes;
        let mut properties = vec![
            always(TAKEN_ONCE, |_, state| state.provider.taken.len() <= 1),
            always(GIVEN_BACK_ONCE, |_, state| state.provider.gives_back_once()),
            always(LEDGER_IS_TRUE, |_, state| !state.is_at_rest() || state.ledger_is_true()),
            always(NOT_TAKEN_IS_TRUE, |_, state| state.not_taken_is_true()),
            always(TAKEN_IS_TRUE, |_, state| state.taken_is_true()),
            always(SETTLED, Charge::ends_well),
            sometimes("a fee is taken", |_, state| state.stands(Stands::Approved)),
        ];
        if self.faults > 0 && self.take_ups > 0 {
            properties.extend([
                sometimes("a fee is taken, and nobody knows", |_, state| {
                    state.stands(Stands::Unknown) && !state.provider.taken.is_empty()
                }),
                sometimes("a slow attempt has been overtaken", |_, state| {
                    let claim = state.payment.as_ref().and_then(|payment| payment.claim);
                    let holds = |id: &u8| claim.is_some_and(|claim| claim.id == number(*id));
                    state.attempts.keys().any(|id| !holds(id))
                }),
                sometimes("a look-up misses a request that is on its way", |_, state| {
                    state.attempts.values().any(|attempt| {
                        let late = |copy: &Copy| copy.waits.is_none() && copy.key == attempt.key;
                        attempt.in_doubt
                            && attempt.phase == Phase::Asks
                            && state.under_way.iter().any(late)
                    })
                }),
            ]);
        }
        if self.settlements > 0 {
            properties.push(sometimes("a refused fee is settled", |_, state| {
                let number = state.payment.as_ref().map_or(0, |payment| payment.charge_number);
                state.stands(Stands::Approved) && number > 1
            }));
        }
        if self.refunds > 0 {
            properties.push(sometimes("a fee is given back", |_, state| {
                state.stands(Stands::Refunded) && state.is_at_rest()
            }));
        }
        properties
    }

    /// What is broken need not be broken again.
    fn within_boundary(&self, state: &State) -> bool {
        state.provider.taken.len() <= 2 && state.ledger.taken.len() <= 2
    }
}

impl Charge {
    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Call => {
                if self.call(state) {
                    state.left.calls -= 1;
                }
            }
            Step::Hear => {
                if state.payment.is_none() {
                    state.payment = Some(Payment::request(PAYMENT, fee(), Timestamp::default()).0);
                }
            }
            Step::TakeUp => {
                if self.begin(state, Payment::take_up) {
                    state.left.take_ups = state.left.take_ups.saturating_sub(1);
                }
            }
            Step::Settle => {
                if self.begin(state, Payment::settle) {
                    state.left.settlements -= 1;
                }
            }
            Step::Refund => {
                let key = Uuid::new_v5(&PAYMENT.0, &[state.left.refunds]);
                let half = Some(Money::won(1));
                let wish = RefundWish { key, amount: half, reason: String::new() };
                if self.begin(state, |payment, claim| payment.refund(wish.clone(), claim)) {
                    state.left.refunds -= 1;
                }
            }
            Step::Attempt(id, step) => {
                if step.is_fault() {
                    state.left.faults -= 1;
                }
                self.attempt_does(state, id, step);
            }
            Step::Arrive(copy, decision) => self.arrive(state, copy, decision),
        }
        if let Some(payment) = &mut state.payment {
            forget_time(payment);
        }
        state.under_way.sort_unstable();
    }

    /// As `Payments::pay`: the first call makes the payment, and every call claims it.
    fn call(&self, state: &mut State) -> bool {
        if state.payment.is_some() {
            return self.begin(state, Payment::claim);
        }
        let mut payment = Payment::request(PAYMENT, fee(), Timestamp::default()).0;
        forget_time(&mut payment);
        state.payment = Some(payment);
        self.begin(state, Payment::claim)
    }

    /// Somebody claims the payment for an attempt; not when another one has it, or there is nothing
    /// to do.
    fn begin(
        &self,
        state: &mut State,
        claims: impl Fn(&mut Payment, Claim) -> Result<Vec<Event>, Rejection>,
    ) -> bool {
        let Some(id) = state.free_number() else { return false };
        let Some(mut payment) = state.payment.clone() else { return false };
        // The term of a claim, and every pause, may be over at any moment.
        let time = payment.due_time().unwrap_or_default();
        let settles = payment.state == Stands::Declined;
        if claims(&mut payment, Claim { id: number(id), time }).is_err() {
            return false;
        }
        let attempt = Attempt::of(&payment, id, settles, &self.lines);
        state.attempts.insert(id, attempt);
        if self.lines.record == Record::ThenAsk {
            state.payment = Some(payment);
        }
        true
    }

    /// The provider decides on a request, and answers if anybody waits.
    fn arrive(&self, state: &mut State, copy: Copy, decision: Decision) {
        let place = state.under_way.iter().position(|it| *it == copy);
        place.map(|place| state.under_way.remove(place));
        state.provider.decide(self.lines.provider, &copy, decision);
        if let Some(attempt) = copy.waits.and_then(|id| state.attempts.get_mut(&id)) {
            attempt.phase = Phase::Knows(match decision {
                Decision::Yes => Verdict::Yes,
                Decision::No => Verdict::No,
            });
        }
    }

    /// Whether the fee is taken or refused when nothing goes wrong any more, whatever becomes of
    /// requests for which nobody waits.
    fn ends_well(&self, state: &State) -> bool {
        [false, true].into_iter().all(|late_ones_arrive| {
            let mut state = state.clone();
            if !late_ones_arrive {
                state.under_way.retain(|copy| copy.waits.is_some());
            }
            self.comes_to_rest(state)
        })
    }

    fn comes_to_rest(&self, mut state: State) -> bool {
        const LONG_ENOUGH: usize = 60;
        for _ in 0..LONG_ENOUGH {
            if state.is_at_rest() {
                return state.stands(Stands::Approved)
                    || state.stands(Stands::Declined)
                    || state.stands(Stands::Refunded);
            }
            let step = self.next_good_step(&state);
            self.take(&mut state, step);
        }
        false
    }

    /// What happens next when nothing goes wrong: what is under way comes to its end, and then the
    /// reconciler looks after the rest.
    fn next_good_step(&self, state: &State) -> Step {
        if let Some(copy) = state.under_way.first() {
            let mut answers = state.provider.answers(self.lines.provider, copy);
            return Step::Arrive(*copy, answers.next().unwrap_or(Decision::Yes));
        }
        let next = |(id, attempt): (&u8, &Attempt)| {
            let step = attempt.steps(false).next()?;
            Some(Step::Attempt(*id, step))
        };
        let going_on = state.attempts.iter().find_map(next);
        let otherwise = if state.payment.is_none() { Step::Hear } else { Step::TakeUp };
        going_on.unwrap_or(otherwise)
    }
}

impl State {
    fn stands(&self, state: Stands) -> bool {
        self.payment.as_ref().is_some_and(|payment| payment.state == state)
    }

    /// Nothing is under way, and nobody has to look after anything.
    fn is_at_rest(&self) -> bool {
        let looked_after = self.payment.as_ref().is_some_and(|it| it.due_time().is_none());
        looked_after && self.attempts.is_empty() && self.under_way.is_empty()
    }

    /// Of two replicas one has time for another attempt, by this number.
    fn free_number(&self) -> Option<u8> {
        const REPLICAS: usize = 2;
        let claim = self.payment.as_ref().and_then(|payment| payment.claim);
        let used = |id: &u8| {
            self.attempts.contains_key(id) || claim.is_some_and(|claim| claim.id == number(*id))
        };
        let free = (0..=u8::MAX).find(|id| !used(id));
        free.filter(|_| self.attempts.len() < REPLICAS)
    }

    /// What has happened to the payment goes on record beside it.
    fn note(&mut self, key: Uuid, events: Vec<Event>) {
        for event in events {
            match event {
                Event::PaymentApproved => self.ledger.taken.push(key),
                Event::PaymentRefunded(refund) => self.ledger.given_back.push(refund.key),
                Event::PaymentDeferred | Event::PaymentDeclined => {}
            }
        }
    }

    fn ledger_is_true(&self) -> bool {
        let sorted = |keys: &[Uuid]| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys
        };
        sorted(&self.ledger.taken) == sorted(&self.provider.taken)
            && sorted(&self.ledger.given_back) == sorted(&self.provider.given_back)
    }

    /// REQUESTED says that nobody has asked; DEFERRED and DECLINED say that nothing was taken.
    fn not_taken_is_true(&self) -> bool {
        let says = [Stands::Requested, Stands::Deferred, Stands::Declined];
        if !says.into_iter().any(|state| self.stands(state)) {
            return true;
        }
        let may_be_taken =
            |copy: &Copy| !copy.gives_back && !self.provider.refused.contains(&copy.key);
        self.provider.taken.is_empty() && !self.under_way.iter().any(may_be_taken)
    }

    fn taken_is_true(&self) -> bool {
        let says = self.stands(Stands::Approved) || self.stands(Stands::Refunded);
        !says || !self.provider.taken.is_empty()
    }
}

/// The payment that all of this is about.
const PAYMENT: PaymentId = PaymentId(Uuid::from_u128(1));

fn fee() -> Fee {
    Fee {
        driving: DrivingId(Uuid::from_u128(2)),
        allocation: AllocationId(Uuid::from_u128(3)),
        customer: CustomerId::from_subject(""),
        amount: Money::won(2),
    }
}

/// The id of a claim.
fn number(id: u8) -> Uuid {
    Uuid::from_u128(id.into())
}

fn retry() -> Retry {
    Retry { first: Duration::from_secs(1), max: Duration::from_secs(1) }
}

/// Any time may pass between two steps, so it does not matter when something was, nor how often
/// something was tried.
fn forget_time(payment: &mut Payment) {
    payment.attempt_count = 0;
    payment.next_attempt_time = payment.next_attempt_time.map(|_| Timestamp::default());
    payment.approve_time = None;
    if let Some(claim) = &mut payment.claim {
        claim.time = Timestamp::default();
    }
    if let Some(refund) = &mut payment.refund {
        refund.attempt_count = 0;
    }
}

/// All that can differ between two states.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if let Some(payment) = &self.payment {
            let claim = payment.claim.map(|claim| claim.id);
            let refund = payment.refund.as_ref().map(|refund| refund.key);
            (payment.state, claim, refund, payment.charge_number).hash(hasher);
            (payment.in_doubt, payment.deferral_announced).hash(hasher);
            (payment.next_attempt_time.is_some(), payment.refunded_amount.as_won()).hash(hasher);
        }
        (&self.attempts, &self.under_way, &self.provider).hash(hasher);
        (&self.ledger, &self.left).hash(hasher);
    }
}

/// Numbers of attempts are given anew as soon as they are free, so few states differ in them alone.
impl Representative for State {
    fn representative(&self) -> State {
        self.clone()
    }
}
