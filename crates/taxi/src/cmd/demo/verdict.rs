//! What must be true of the course of a fault: each violation is one sentence. Pure.
//!
//! Money is for [`fees`](super::fees), single rides are for [`check`](super::check); this is about
//! what people felt of it.

use std::time::Duration;

use proto::driving::v1::driving::PaymentState;

use super::debt::{Debt, REFUSAL, SETTLED};
use super::fault::Effect;
use super::fees::Fee;
use super::ledger::{Call, Command, Ledger};
use super::outage::Course;
use super::report::p99;
use super::scenario::Phase;
use super::witness::DRIVINGS;

/// How long a finish may take beside the wait for payment.
const MARGIN: Duration = Duration::from_secs(1);
/// A request may take so many times longer during a fault than before it,
const FACTOR: f64 = 3.0;
/// and this long in any case: on a busy machine anything takes a while, but never as long as payment.
const FLOOR: Duration = Duration::from_millis(500);
/// How long the last fees may take beside their last pause.
const LATEST: Duration = Duration::from_secs(10);

/// What there is to judge.
pub(super) struct Evidence<'a> {
    /// What happened when.
    pub(super) course: &'a Course,
    /// What people were told.
    pub(super) ledger: &'a Ledger,
    /// What rides cost.
    pub(super) fees: &'a [Fee],
    /// How long a finish waits for payment.
    pub(super) deadline: Duration,
    /// How many times longer than on an idle machine everything else may take.
    pub(super) slack: u32,
    /// What a ride is called.
    pub(super) label: &'a dyn Fn(usize) -> String,
}

/// How long after the end of the fault the last fee is taken at the latest. A pause between two
/// attempts is at most twice as long as the time since the first of them, and something.
pub(super) fn latest(course: &Course) -> Duration {
    course.lasted() * 2 + LATEST
}

impl Evidence<'_> {
    /// Everything that is wrong.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut said = Vec::new();
        self.finishes(&mut said);
        self.others(&mut said);
        self.effect(&mut said);
        self.breaker(&mut said);
        self.last_fees(&mut said);
        self.debts(&mut said);
        said
    }

    /// Nobody waits for payment longer than the deadline, or has to ask twice.
    fn finishes(&self, said: &mut Vec<String>) {
        let most = self.deadline + MARGIN * self.slack;
        for (ride, call) in self.calls(Command::Finish) {
            if call.took > most {
                let label = (self.label)(ride);
                said.push(format!("{label}: its finish took {:.1?}, not {most:?}", call.took));
            }
            self.once(ride, Command::Finish, call, said);
        }
    }

    /// Asking for cars and accepting go on as if nothing had happened.
    fn others(&self, said: &mut Vec<String>) {
        for command in [Command::Request, Command::Accept, Command::Start] {
            for (ride, call) in self.calls(command) {
                self.once(ride, command, call, said);
            }
        }
        let p99 = |phase| p99(self.calls_in(Command::Request, phase).map(|(_, call)| call.took));
        let (Some(before), Some(meanwhile)) = (p99(Phase::Before), p99(Phase::Meanwhile)) else {
            return said.push("nobody asked for a car before the fault, or during it".to_owned());
        };
        let most = before.mul_f64(FACTOR).max(FLOOR * self.slack);
        if meanwhile > most {
            said.push(format!(
                "asking for a car took {meanwhile:.1?} (p99) during the fault, and {before:.1?} before"
            ));
        }
    }

    fn once(&self, ride: usize, command: Command, call: Call, said: &mut Vec<String>) {
        if call.tries > 1 {
            let (label, failed) = ((self.label)(ride), call.tries - 1);
            said.push(format!("{label}: {command:?} failed {failed} times before it was done"));
        }
    }

    /// The fault did what it is for, or the demo has shown nothing.
    fn effect(&self, said: &mut Vec<String>) {
        let finishes = self.calls_in(Command::Finish, Phase::Meanwhile);
        let told: Vec<(usize, Option<PaymentState>)> =
            finishes.map(|(ride, _)| (ride, self.ledger.rides[ride].fee)).collect();
        let count = |state| told.iter().filter(|(_, fee)| *fee == Some(state)).count();
        match self.course.fault.effect {
            Effect::AllDeferred => {
                let others = told.iter().filter(|(_, fee)| *fee != Some(PaymentState::Deferred));
                said.extend(others.map(|(ride, fee)| {
                    let fee = fee.map_or("nothing", |fee| fee.as_str_name());
                    let label = (self.label)(*ride);
                    format!("{label}: its driver was told {fee}, and payment could not know")
                }));
            }
            Effect::SomeDeferred if count(PaymentState::Deferred) == 0 => {
                said.push("the fault has deferred no fee at all".to_owned());
            }
            // A busy payment service has it declined a bit later: its driver hears DEFERRED.
            Effect::SomeDeclined if !self.fees.iter().any(|fee| fee.declined) => {
                said.push("the fault has declined no fee at all".to_owned());
            }
            Effect::SomeDeferred | Effect::SomeDeclined => {}
        }
    }

    /// Driving stops asking a payment service that does not answer, and begins again.
    fn breaker(&self, said: &mut Vec<String>) {
        if self.course.fault.effect != Effect::AllDeferred {
            return;
        }
        let breakers = &self.course.breakers;
        match breakers.opened(DRIVINGS) {
            None => said.push("driving's breaker never opened".to_owned()),
            Some(at) if self.course.phase(at) == Phase::Before => {
                said.push("driving's breaker opened while all was well".to_owned());
            }
            Some(_) if breakers.closed(DRIVINGS).is_none() => {
                said.push("driving's breaker has not closed again".to_owned());
            }
            Some(_) => {}
        }
    }

    /// All fees that had to wait are taken soon after the end of the fault.
    fn last_fees(&self, said: &mut Vec<String>) {
        let most = latest(self.course);
        for fee in self.fees {
            let Some(call) = self.ledger.rides[fee.ride].calls.get(&Command::Finish) else {
                continue;
            };
            let Some(approved) = fee.approved else {
                said.push(format!("{}: its fee has not been taken", fee.label));
                continue;
            };
            let late = approved.since(self.course.cleared.time);
            if self.course.phase(call.began) != Phase::After && late > most {
                let label = &fee.label;
                said.push(format!("{label}: its fee was taken {late:.1?} after the fault's end"));
            }
        }
    }

    /// Whoever owes a fee gets no car, and pays as soon as they can.
    fn debts(&self, said: &mut Vec<String>) {
        for debt in &self.ledger.debts {
            let label = (self.label)(debt.ride);
            let Debt { refusal, settled, .. } = debt;
            if refusal != REFUSAL {
                said.push(format!("{label}: its rider owes the fee, and hears {refusal:?}"));
            }
            if settled.as_deref() != Some(SETTLED) {
                said.push(format!("{label}: its rider settles the fee, and hears {settled:?}"));
            }
        }
        for fee in self.fees.iter().filter(|fee| fee.declined) {
            if !self.ledger.debts.iter().any(|debt| debt.ride == fee.ride) {
                said.push(format!("{}: its fee was declined, and nobody owes it", fee.label));
            }
        }
    }

    fn calls(&self, command: Command) -> impl Iterator<Item = (usize, Call)> {
        let rides = self.ledger.rides.iter().enumerate();
        rides.filter_map(move |(ride, told)| Some((ride, *told.calls.get(&command)?)))
    }

    fn calls_in(&self, command: Command, phase: Phase) -> impl Iterator<Item = (usize, Call)> {
        self.calls(command).filter(move |(_, call)| self.course.phase(call.began) == phase)
    }
}

#[cfg(test)]
mod tests;
