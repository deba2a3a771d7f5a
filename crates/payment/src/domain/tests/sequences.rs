//! Any order of steps, and any fate of an attempt.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Begin {
    Claim,
    Settle,
    TakeUp,
    Refund(Option<i64>),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Approved,
    Declined,
    Deferred,
    Unknown,
    Refunded,
    RefundRefused,
    RefundUnknown,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Hint,
    Begin(Begin),
    /// How the attempt of this claim, the latest or a slow one, says that it ended.
    Outcome(usize, Answer),
}

fn begin() -> impl Strategy<Value = Begin> {
    prop_oneof![
        Just(Begin::Claim),
        Just(Begin::Settle),
        Just(Begin::TakeUp),
        proptest::option::of(-100..3500i64).prop_map(Begin::Refund),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    use Answer::*;
    let answer = proptest::sample::select(vec![
        Approved,
        Declined,
        Deferred,
        Unknown,
        Refunded,
        RefundRefused,
        RefundUnknown,
    ]);
    prop_oneof![
        (0..15u64).prop_map(Step::Wait),
        Just(Step::Hint),
        begin().prop_map(Step::Begin),
        (0..3usize, answer).prop_map(|(age, answer)| Step::Outcome(age, answer)),
    ]
}

fn outcome(
    payment: &mut Payment,
    claim: Claim,
    answer: Answer,
    now: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    match answer {
        Answer::Approved => payment.approved(claim, "ch_1".into(), now),
        Answer::Declined => payment.declined(claim, "no money".into()),
        Answer::Deferred => payment.deferred(claim, now, RETRY),
        Answer::Unknown => payment.unknown(claim, now, RETRY),
        Answer::Refunded => payment.refunded(claim),
        Answer::RefundRefused => payment.refund_refused(claim),
        Answer::RefundUnknown => payment.refund_unknown(claim, now, RETRY),
    }
}

proptest! {
    /// Whoever claims, settles, refunds, answers late, never answers or dies, in whatever order: at
    /// most one approval, which stays; the fee never changes; never more is given back than was
    /// taken; a key is given up only after a refusal; the customer hears of a delay at most once for
    /// each; and whoever does not know whether the fee was taken never says that it was not.
    #[test]
    fn no_sequence_breaks_a_rule(steps in proptest::collection::vec(step(), 0..60)) {
        use State::*;
        let mut payment = requested();
        let (mut now, mut claims, mut events) = (0, Vec::new(), Vec::new());
        let mut answer_lost = false;
        for step in steps {
            let before = payment.clone();
            let said = match step {
                Step::Wait(seconds) => { now += seconds; Ok(vec![]) }
                Step::Hint => Ok(payment.hint(at(now))),
                Step::Begin(begin) => {
                    let new = claim(claims.len() as u128, now);
                    let said = match begin {
                        Begin::Claim => payment.claim(new),
                        Begin::Settle => payment.settle(new),
                        Begin::TakeUp => payment.take_up(new),
                        Begin::Refund(won) => payment.refund(wish(claims.len() as u128, won), new),
                    };
                    if said.is_ok() {
                        // A claim that was taken over never got an answer.
                        answer_lost |= before.state == InFlight;
                        claims.push(new);
                    }
                    said
                }
                Step::Outcome(age, answer) => {
                    let Some(&claim) = claims.iter().rev().nth(age) else { continue };
                    // An attempt to charge does not say that it has given back, nor the reverse.
                    let of_refund = matches!(
                        answer, Answer::Refunded | Answer::RefundRefused | Answer::RefundUnknown
                    );
                    if payment.claim == Some(claim) && of_refund != payment.refund.is_some() {
                        continue;
                    }
                    let said = outcome(&mut payment, claim, answer, at(now));
                    if said.is_ok() {
                        answer_lost = match answer {
                            Answer::Approved | Answer::Declined => false,
                            Answer::Unknown => true,
                            _ => answer_lost,
                        };
                    }
                    said
                }
            };
            if said.is_err() {
                prop_assert_eq!(&before, &payment);
            }
            events.extend(said.unwrap_or_default());

            let taken = |state| matches!(state, Approved | Refunded);
            prop_assert_eq!(&payment.fee, &fee());
            prop_assert!(!taken(before.state) || taken(payment.state));
            prop_assert!(before.state != Refunded || payment.state == Refunded);
            prop_assert!(payment.state != InFlight || payment.claim.is_some());
            prop_assert!(payment.claim.is_none() || payment.state == InFlight || payment.refund.is_some());
            prop_assert!(payment.refund.is_none() || taken(payment.state));
            prop_assert!(before.charge_key() == payment.charge_key() || before.state == Declined);
            let settled = taken(payment.state) && payment.refund.is_none() || payment.state == Declined;
            prop_assert_eq!(payment.due_time().is_none(), settled);
            prop_assert!(!(answer_lost && matches!(payment.state, Deferred | Declined)));

            let won = |refund: &Refund| refund.amount.as_won();
            let refunds = || events.iter().filter_map(|event| match event {
                Event::PaymentRefunded(refund) => Some(refund),
                _ => None,
            });
            let given: i64 = refunds().map(won).sum();
            prop_assert_eq!(given, payment.refunded_amount.as_won());
            let pending = payment.refund.as_ref().map_or(0, won);
            prop_assert!(given + pending <= fee().amount.as_won());
            let keys: BTreeSet<Uuid> = refunds().map(|refund| refund.key).collect();
            prop_assert_eq!(keys.len(), refunds().count());
            let count = |wanted| events.iter().filter(|event| **event == wanted).count();
            prop_assert_eq!(count(Event::PaymentApproved), usize::from(taken(payment.state)));
            let charges = payment.charge_number as usize;
            prop_assert!(count(Event::PaymentDeferred) <= charges);
            prop_assert!(count(Event::PaymentDeclined) >= charges - 1);
        }
    }
}

/// What becomes of one attempt on the way to the provider and back.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The provider is away: nothing was sent.
    Away,
    /// The provider decides and answers.
    Answered,
    /// It decides, and the answer is lost.
    Lost,
    /// The request is under way for long, and nobody waits for it.
    Delayed,
    /// Whoever asks dies once the provider has decided.
    Died,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Wait(u64),
    Attempt(Begin, Fate, bool),
    /// A delayed request reaches the provider, which approves or refuses.
    Arrival(bool),
}

fn money_moves() -> impl Strategy<Value = Move> {
    use Fate::*;
    let begin = proptest::sample::select(vec![Begin::Claim, Begin::Settle, Begin::TakeUp]);
    let fate = proptest::sample::select(vec![Away, Answered, Lost, Delayed, Died]);
    prop_oneof![
        (0..15u64).prop_map(Move::Wait),
        (begin, fate, any::<bool>())
            .prop_map(|(begin, fate, pays)| Move::Attempt(begin, fate, pays)),
        any::<bool>().prop_map(Move::Arrival),
    ]
}

/// A provider as real ones promise to be: what it has said about a key it says for ever.
#[derive(Default)]
struct Provider {
    verdicts: HashMap<Uuid, bool>,
    under_way: Vec<Uuid>,
}

impl Provider {
    fn decide(&mut self, key: Uuid, pays: bool) -> Answer {
        let approved = *self.verdicts.entry(key).or_insert(pays);
        if approved { Answer::Approved } else { Answer::Declined }
    }

    /// One attempt as the use case makes it: in doubt it looks the charge up first. Nothing when
    /// whoever asks has died.
    fn ask(&mut self, payment: &Payment, fate: Fate, pays: bool) -> Option<Answer> {
        let key = payment.charge_key();
        if payment.in_doubt {
            match (fate, self.verdicts.get(&key)) {
                (Fate::Died, _) => return None,
                (Fate::Answered, Some(_)) => return Some(self.decide(key, pays)),
                (Fate::Answered, None) => {}
                _ => return Some(Answer::Unknown),
            }
        }
        match fate {
            Fate::Away => Some(Answer::Deferred),
            Fate::Answered => Some(self.decide(key, pays)),
            Fate::Lost => {
                self.decide(key, pays);
                Some(Answer::Unknown)
            }
            Fate::Delayed => {
                self.under_way.push(key);
                Some(Answer::Unknown)
            }
            Fate::Died => {
                self.decide(key, pays);
                None
            }
        }
    }

    fn charges(&self) -> usize {
        self.verdicts.values().filter(|approved| **approved).count()
    }
}

proptest! {
    /// With a provider that loses answers, processes that die and requests that arrive late: at most
    /// one charge, whatever is settled when; who reads DEFERRED or DECLINED has not paid; and in the
    /// end everybody knows.
    #[test]
    fn money_moves_once(moves in proptest::collection::vec(money_moves(), 0..40)) {
        let (mut payment, mut provider) = (requested(), Provider::default());
        let (mut now, mut attempts) = (0, 0);
        let end = [Move::Wait(1000), Move::Attempt(Begin::TakeUp, Fate::Answered, true)];
        for step in moves.into_iter().chain(end) {
            match step {
                Move::Wait(seconds) => now += seconds,
                Move::Arrival(pays) => {
                    if let Some(key) = provider.under_way.pop() {
                        provider.decide(key, pays);
                    }
                }
                Move::Attempt(begin, fate, pays) => {
                    attempts += 1;
                    let claim = claim(attempts, now);
                    let said = match begin {
                        Begin::Settle => payment.settle(claim),
                        Begin::TakeUp => payment.take_up(claim),
                        _ => payment.claim(claim),
                    };
                    let answer = said.ok().and_then(|_| provider.ask(&payment, fate, pays));
                    if let Some(answer) = answer {
                        outcome(&mut payment, claim, answer, at(now)).expect("it has the claim");
                    }
                }
            }
            prop_assert!(provider.charges() <= 1);
            let taken = provider.verdicts.get(&payment.charge_key());
            match payment.state {
                State::Approved => prop_assert_eq!(taken, Some(&true)),
                State::Declined => prop_assert_eq!((taken, provider.charges()), (Some(&false), 0)),
                State::Deferred => prop_assert_eq!(provider.charges(), 0),
                _ => {}
            }
        }
        prop_assert!(matches!(payment.state, State::Approved | State::Declined));
        prop_assert_eq!(provider.charges(), usize::from(payment.state == State::Approved));
    }
}
