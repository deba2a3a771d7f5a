//! One attempt: from the claim to the outcome on record, as the use cases of payment make it.

use std::fmt;

use kernel::{Timestamp, Uuid};
use payment::domain::{Claim, Event, Payment};

use super::lines::{Key, Lines, LookUp, NotFound, Outcome, Record, Silence};
use super::provider::{Copy, Decision};
use super::{Charge, State, number, retry};

/// An attempt that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    /// Under which key it asks.
    pub(super) key: Uuid,
    /// Whether it asks to give back.
    pub(super) gives_back: bool,
    /// Whether an earlier one may have taken the fee.
    pub(super) in_doubt: bool,
    /// Whether its claim is on record.
    pub(super) is_recorded: bool,
    /// Whether it settles what was refused.
    pub(super) settles: bool,
    pub(super) phase: Phase,
}

/// What it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Look up what has become of the earlier ones.
    LooksUp,
    /// Ask.
    Asks,
    /// Wait for the answer.
    Waits,
    /// Put on record what came of it.
    Knows(Verdict),
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// The money was taken, or given back.
    Yes,
    /// The provider refuses.
    No,
    /// This attempt has certainly changed nothing.
    NotCharged,
    /// Nobody knows.
    Unknown,
}

/// One step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It asks the provider what it knows of the key.
    LookUp,
    /// It sends its request.
    Ask,
    /// It cannot even send it.
    CannotReach,
    /// It does not wait any longer for an answer.
    GiveUp,
    /// It puts on record what came of it.
    Record,
    /// Its process dies.
    Die,
}

impl Step {
    /// Whether it only happens when something goes wrong.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Step::CannotReach | Step::GiveUp | Step::Die)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::LookUp => "looks it up",
            Step::Ask => "asks",
            Step::CannotReach => "cannot reach the provider",
            Step::GiveUp => "gives up waiting",
            Step::Record => "puts the outcome on record",
            Step::Die => "dies",
        })
    }
}

impl Attempt {
    /// The attempt with this number, which has claimed this payment.
    pub(super) fn of(claimed: &Payment, id: u8, settles: bool, lines: &Lines) -> Attempt {
        let refund = claimed.refund.as_ref().map(|refund| refund.key);
        let charge = match lines.key {
            Key::OfTheCharge => claimed.charge_key(),
            Key::OfTheAttempt => Uuid::new_v5(&claimed.charge_key(), &[id]),
        };
        let looks_up = refund.is_none() && claimed.in_doubt && lines.look_up == LookUp::InDoubt;
        Attempt {
            key: refund.unwrap_or(charge),
            gives_back: refund.is_some(),
            in_doubt: claimed.in_doubt,
            is_recorded: lines.record == Record::ThenAsk,
            settles,
            phase: if looks_up { Phase::LooksUp } else { Phase::Asks },
        }
    }

    /// What it can do next.
    pub(super) fn steps(&self, with_faults: bool) -> impl Iterator<Item = Step> + use<> {
        let steps: &'static [Step] = match self.phase {
            Phase::LooksUp => &[Step::LookUp, Step::GiveUp, Step::Die],
            Phase::Asks => &[Step::Ask, Step::CannotReach, Step::Die],
            Phase::Waits => &[Step::GiveUp, Step::Die],
            Phase::Knows(_) => &[Step::Record, Step::Die],
        };
        steps.iter().copied().filter(move |step| with_faults || !step.is_fault())
    }
}

impl Charge {
    pub(super) fn attempt_does(&self, state: &mut State, id: u8, step: Step) {
        let Some(attempt) = state.attempts.get_mut(&id) else { return };
        match step {
            Step::LookUp => match state.provider.look_up(attempt.key) {
                Some(Decision::Yes) => attempt.phase = Phase::Knows(Verdict::Yes),
                Some(Decision::No) => attempt.phase = Phase::Knows(Verdict::No),
                None => {
                    attempt.phase = Phase::Asks;
                    if self.lines.not_found == NotFound::ForGood {
                        attempt.key = Uuid::new_v5(&attempt.key, b"anew");
                    }
                }
            },
            Step::Ask => {
                attempt.phase = Phase::Waits;
                let Attempt { key, gives_back, .. } = *attempt;
                state.under_way.push(Copy { key, gives_back, waits: Some(id) });
            }
            Step::CannotReach => attempt.phase = Phase::Knows(Verdict::NotCharged),
            Step::GiveUp => {
                attempt.phase = Phase::Knows(match self.lines.silence {
                    Silence::Unknown => Verdict::Unknown,
                    Silence::NotCharged => Verdict::NotCharged,
                });
                state.let_go(id);
            }
            Step::Record => {
                if let Some(attempt) = state.attempts.remove(&id) {
                    self.record(state, id, attempt);
                }
            }
            Step::Die => {
                state.attempts.remove(&id);
                state.let_go(id);
            }
        }
    }

    /// As `Payments::charge` and `Payments::give_back`, after the answer.
    fn record(&self, state: &mut State, id: u8, attempt: Attempt) {
        let Phase::Knows(verdict) = attempt.phase else { return };
        let Some(mut payment) = state.payment.clone() else { return };
        let mut claim = Claim { id: number(id), time: Timestamp::default() };
        if !attempt.is_recorded {
            // Late, and perhaps in vain.
            claim.time = payment.due_time().unwrap_or_default();
            let claimed =
                if attempt.settles { payment.settle(claim) } else { payment.take_up(claim) };
            if claimed.is_err() {
                return;
            }
        }
        if self.lines.outcome == Outcome::OfAnybody {
            claim.time = payment.claim.map_or(claim.time, |claim| claim.time);
            payment.claim = Some(claim);
        }
        claim = payment.claim.filter(|held| held.id == claim.id).unwrap_or(claim);
        if let Some(events) = outcome(&mut payment, attempt, verdict, claim) {
            state.payment = Some(payment);
            state.note(attempt.key, events);
        }
    }
}

/// What the payment makes of a verdict; nothing, when another attempt has the say.
fn outcome(
    payment: &mut Payment,
    attempt: Attempt,
    verdict: Verdict,
    claim: Claim,
) -> Option<Vec<Event>> {
    let now = Timestamp::default();
    let said = match (attempt.gives_back, verdict) {
        (false, Verdict::Yes) => payment.approved(claim, String::new(), now),
        (false, Verdict::No) => payment.declined(claim, String::new()),
        (false, Verdict::NotCharged) => payment.deferred(claim, now, retry()),
        (false, Verdict::Unknown) => payment.unknown(claim, now, retry()),
        (true, Verdict::Yes) => payment.refunded(claim),
        (true, Verdict::No) => payment.refund_refused(claim),
        (true, Verdict::NotCharged | Verdict::Unknown) => {
            payment.refund_unknown(claim, now, retry())
        }
    };
    said.ok()
}

impl State {
    /// Nobody waits any longer for the answer to this attempt's request.
    fn let_go(&mut self, id: u8) {
        for copy in self.under_way.iter_mut().filter(|copy| copy.waits == Some(id)) {
            copy.waits = None;
        }
    }
}
