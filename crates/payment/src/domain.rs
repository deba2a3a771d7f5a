//! The payment: the fee of one driving, taken exactly once.

use std::time::Duration;

use kernel::{
    Aggregate, AllocationId, CustomerId, DrivingId, Money, PaymentId, Rejection, Timestamp, Uuid,
};

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
    /// The pause after this many attempts.
    pub fn pause(self, attempts: u32) -> Duration {
        self.first.saturating_mul(1 << attempts.saturating_sub(1).min(31)).min(self.max)
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
    /// The attempt that is under way; there is one exactly while IN_FLIGHT.
    pub claim: Option<Claim>,
    /// How often the provider has been asked.
    pub attempt_count: u32,
    /// When it is tried again, at the earliest.
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
            next_attempt_time: Some(due),
            in_doubt: false,
            deferral_announced: false,
            provider_reference: String::new(),
            decline_reason: String::new(),
            refunded_amount: Money::won(0),
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
        self.state = if self.in_doubt { State::Unknown } else { State::Deferred };
        self.next_attempt_time = Some(now.plus(retry.pause(self.attempt_count)));
        // Customers are told once, however long it takes.
        let announced = std::mem::replace(&mut self.deferral_announced, true);
        Ok(if announced { vec![] } else { vec![Event::PaymentDeferred] })
    }

    /// Nobody knows whether this attempt took the fee. The next one asks under the same key.
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
        if self.claim != Some(claim) {
            let message = "another attempt has the say by now";
            return Err(Rejection::aborted("ATTEMPT_OVERTAKEN", message));
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

    /// The key under which the provider charges at most once: always the same for one driving.
    pub fn charge_key(&self) -> Uuid {
        Uuid::new_v5(&self.fee.driving.0, b"charge")
    }

    /// The cause under which the outcome of the present attempt goes on record.
    pub fn outcome_cause(&self) -> Uuid {
        Uuid::new_v5(&self.id.0, format!("outcome {}", self.attempt_count).as_bytes())
    }
}

/// The driving has its payment.
pub fn payment_exists() -> Rejection {
    Rejection::already_exists("PAYMENT_EXISTS", "there is one payment for a driving, for ever")
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETRY: Retry = Retry { first: Duration::from_secs(1), max: Duration::from_secs(60) };

    fn fee() -> Fee {
        let (driving, allocation) = (DrivingId(Uuid::from_u128(2)), AllocationId(Uuid::nil()));
        Fee::new(driving, allocation, CustomerId::from_subject("C1"), Money::won(3000))
            .expect("a fee")
    }

    fn requested() -> Payment {
        Payment::request(PaymentId(Uuid::from_u128(1)), fee(), Timestamp::default()).0
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    fn claim(id: u128, seconds: u64) -> Claim {
        Claim { id: Uuid::from_u128(id), time: at(seconds) }
    }

    /// A payment in this state; when IN_FLIGHT, claimed by the first attempt since time 0.
    fn in_state(state: State) -> Payment {
        match state {
            State::InFlight => Payment::pay(PaymentId(Uuid::from_u128(1)), fee(), claim(1, 0)).0,
            state => Payment { state, ..requested() },
        }
    }

    type Decision = fn(&mut Payment) -> Result<Vec<Event>, Rejection>;

    #[test]
    fn the_transition_table() {
        use Event::*;
        use State::*;
        let columns: [Decision; 7] = [
            |payment| payment.claim(claim(2, 9)),
            |payment| payment.claim(claim(2, 10)),
            |payment| payment.approved(claim(1, 0), "ch_1".to_owned(), at(1)),
            |payment| payment.declined(claim(1, 0), "no money".to_owned()),
            |payment| payment.deferred(claim(1, 0), at(1), RETRY),
            |payment| payment.unknown(claim(1, 0), at(1), RETRY),
            |payment| payment.approved(claim(2, 0), "ch_1".to_owned(), at(1)),
        ];
        let flies = Ok((InFlight, &[] as &[Event]));
        let (busy, settled) = (Err("PAYMENT_IN_FLIGHT"), Err("PAYMENT_NOT_OUTSTANDING"));
        let late = Err("ATTEMPT_OVERTAKEN");
        let in_flight = [
            busy,
            flies,
            Ok((Approved, &[PaymentApproved] as &[Event])),
            Ok((Declined, &[PaymentDeclined])),
            Ok((Deferred, &[PaymentDeferred])),
            Ok((Unknown, &[PaymentDeferred])),
            late,
        ];
        for (state, outcomes) in [
            (Requested, [flies, flies, late, late, late, late, late]),
            (InFlight, in_flight),
            (Approved, [settled, settled, late, late, late, late, late]),
            (Deferred, [flies, flies, late, late, late, late, late]),
            (Declined, [settled, settled, late, late, late, late, late]),
            (Unknown, [flies, flies, late, late, late, late, late]),
            (Refunded, [settled, settled, late, late, late, late, late]),
        ] {
            for (column, (decide, outcome)) in columns.into_iter().zip(outcomes).enumerate() {
                let mut payment = in_state(state);
                let said = decide(&mut payment).map_err(|no| no.reason);
                let said = said.as_ref().map(|events| (payment.state, events.as_slice()));
                assert_eq!(said, outcome.as_ref().copied(), "{state:?}, column {column}");
            }
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_maximum() {
        let pauses = [1, 2, 3, 7, 40, u32::MAX].map(|attempts| RETRY.pause(attempts).as_secs());
        assert_eq!(pauses, [1, 2, 4, 60, 60, 60]);
        let mut payment = in_state(State::InFlight);
        payment.deferred(claim(1, 0), at(1), RETRY).expect("in flight");
        assert_eq!((payment.next_attempt_time, payment.due_time()), (Some(at(2)), Some(at(2))));
    }

    #[test]
    fn only_the_providers_word_ends_a_doubt() {
        let mut payment = in_state(State::InFlight);
        payment.claim(claim(2, 10)).expect("the first attempt has died");
        payment.deferred(claim(2, 10), at(11), RETRY).expect("in flight");
        assert_eq!(payment.state, State::Unknown, "the first attempt may have taken the fee");
        payment.claim(claim(3, 20)).expect("unknown");
        payment.declined(claim(3, 20), "no money".into()).expect("in flight");
        assert_eq!((payment.state, payment.in_doubt), (State::Declined, false));
    }

    #[test]
    fn another_fee_for_the_same_driving_is_refused() {
        let payment = requested();
        assert_eq!(payment.require_same(&fee()), Ok(()));
        for other in [
            Fee { amount: Money::won(3001), ..fee() },
            Fee { customer: CustomerId::from_subject("C2"), ..fee() },
            Fee { allocation: AllocationId(Uuid::from_u128(9)), ..fee() },
        ] {
            let said = payment.require_same(&other).map_err(|no| no.reason);
            assert_eq!(said, Err("DRIVING_CHARGED_DIFFERENTLY"));
        }
        let Fee { driving, allocation, customer, .. } = fee();
        let nothing = Fee::new(driving, allocation, customer, Money::won(0));
        assert_eq!(nothing.map_err(|no| no.reason), Err("INVALID_AMOUNT"));
    }

    #[test]
    fn the_key_belongs_to_the_driving() {
        let another = Payment { id: PaymentId(Uuid::from_u128(9)), ..requested() };
        assert_eq!(requested().charge_key(), another.charge_key());
        assert_ne!(requested().outcome_cause(), in_state(State::InFlight).outcome_cause());
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Claim,
        /// How the attempt of this claim, the latest or a slow one, says that it ended.
        Outcome(usize, Answer),
    }

    #[derive(Clone, Copy, Debug)]
    enum Answer {
        Approved,
        Declined,
        Deferred,
        Unknown,
    }

    fn step() -> impl Strategy<Value = Step> {
        use Answer::*;
        let answer = proptest::sample::select(vec![Approved, Declined, Deferred, Unknown]);
        prop_oneof![
            (0..15u64).prop_map(Step::Wait),
            Just(Step::Claim),
            (0..3usize, answer).prop_map(|(age, answer)| Step::Outcome(age, answer)),
        ]
    }

    proptest! {
        /// Whoever claims, answers late, never answers or dies, in whatever order: at most one
        /// approval, which stays; the fee never changes; the customer hears of a delay at most once;
        /// and whoever does not know whether the fee was taken never says that it was not.
        #[test]
        fn no_sequence_breaks_a_rule(steps in proptest::collection::vec(step(), 0..40)) {
            let mut payment = requested();
            let (mut now, mut claims, mut events) = (0, Vec::new(), Vec::new());
            let mut answer_lost = false;
            for step in steps {
                let before = payment.clone();
                let said = match step {
                    Step::Wait(seconds) => { now += seconds; Ok(vec![]) }
                    Step::Claim => {
                        let new = claim(claims.len() as u128, now);
                        let said = payment.claim(new);
                        if said.is_ok() {
                            // A claim that was taken over never got an answer.
                            answer_lost |= before.claim.is_some();
                            claims.push(new);
                        }
                        said
                    }
                    Step::Outcome(age, answer) => {
                        let Some(&claim) = claims.iter().rev().nth(age) else { continue };
                        match answer {
                            Answer::Approved => payment.approved(claim, "ch_1".into(), at(now)),
                            Answer::Declined => payment.declined(claim, "no money".into()),
                            Answer::Deferred => payment.deferred(claim, at(now), RETRY),
                            Answer::Unknown => {
                                let said = payment.unknown(claim, at(now), RETRY);
                                answer_lost |= said.is_ok();
                                said
                            }
                        }
                    }
                };
                if said.is_err() {
                    prop_assert_eq!(&before, &payment);
                }
                events.extend(said.unwrap_or_default());

                prop_assert_eq!(&payment.fee, &fee());
                prop_assert_eq!(payment.attempt_count as usize, claims.len());
                prop_assert_eq!(payment.claim.is_some(), payment.state == State::InFlight);
                if before.state == State::Approved {
                    prop_assert_eq!(&before, &payment);
                }
                let settled = matches!(payment.state, State::Approved | State::Declined);
                prop_assert_eq!(payment.due_time().is_none(), settled);
                prop_assert!(!(answer_lost && payment.state == State::Deferred));
                let count = |wanted| events.iter().filter(|event| **event == wanted).count();
                let approvals = usize::from(payment.state == State::Approved);
                prop_assert_eq!(count(Event::PaymentApproved), approvals);
                prop_assert!(count(Event::PaymentDeferred) <= 1);
            }
        }
    }
}
