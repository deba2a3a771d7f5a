//! Operators: give money back, wholly and in parts, and look after fees that are late.

use kernel::Role;
use proto::payment::v1::Payment;
use proto::payment::v1::payment::State;
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::Result;
use crate::calls::Call;
use crate::people::{City, Person, Phase};
use crate::riders::bill;

/// How many operators there are.
pub(crate) const COUNT: u64 = 2;

/// Works until the city closes.
pub(crate) async fn operate(city: City, number: u64) -> Result<()> {
    let subject = format!("torture-{number}");
    let person = Person::new(&city, Role::Operator, &subject, 2_000_000 + number).await?;
    Operator(person).works().await;
    Ok(())
}

struct Operator(Person);

impl Operator {
    async fn works(&mut self) {
        while !self.0.city.is(Phase::Closing) {
            self.0.pause(200..1_500).await;
            if self.0.rng.random_bool(0.8) {
                self.gives_back().await;
            } else {
                self.hurries().await;
            }
            self.0.perhaps_repeat().await;
        }
    }

    /// Some of the fees that were taken lately, or what is left of one; sometimes more than that.
    async fn gives_back(&mut self) {
        let Some(payment) = self.one_that_is(&[State::Approved, State::Refunded]).await else {
            return;
        };
        let fee = payment.amount.as_ref().map_or(1, |amount| amount.units);
        let amount = match self.0.rng.random_range(0..10) {
            0..3 => None,
            3..9 => Some(self.0.rng.random_range(1..=fee)),
            _ => Some(fee + 1),
        };
        self.0.command(Call::Refund { bill: bill(&payment), amount }).await;
        if self.0.rng.random_bool(0.3) {
            self.0.repeat().await;
        }
        self.0.question(Call::GetPayment(bill(&payment))).await;
    }

    /// Has a late fee tried now.
    async fn hurries(&mut self) {
        let late = [State::Requested, State::Deferred, State::Unknown, State::InFlight];
        if let Some(payment) = self.one_that_is(&late).await {
            self.0.command(Call::Settle(bill(&payment))).await;
        }
    }

    async fn one_that_is(&mut self, states: &[State]) -> Option<Payment> {
        let states = states.iter().map(|state| *state as i32).collect();
        let payments = self.0.payments(states).await?;
        payments.choose(&mut self.0.rng).cloned()
    }
}
