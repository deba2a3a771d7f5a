//! Customers: ask for a car, look how it stands, sometimes cancel, pay what was declined, and ask for
//! the next one.

use std::time::Duration;

use kernel::Role;
use proto::payment::v1::Payment;
use proto::payment::v1::payment::State as PaymentState;
use rand::Rng;
use tokio::time::Instant;

use crate::Result;
use crate::calls::{Answer, Bill, Call, ride_of};
use crate::people::{City, Person, Phase, Told};

/// A ride that takes longer is left alone.
const PATIENCE: Duration = Duration::from_secs(25);
/// How many in a hundred rides are cancelled, or at least somebody tries to.
const CANCELS: f64 = 0.35;
/// Every so-manieth customer has no money.
const POOR: u64 = 6;
/// How often somebody asks for a car who is told to pay first.
const REFUSALS: usize = 3;
/// States of an allocation from which it goes nowhere.
const FINAL: [&str; 3] = ["DRIVING_FINISHED", "CANCELLED", "EXPIRED"];

/// Rides until the city closes. Whoever is left alone with a ride that does not end goes on under
/// another name, since a customer has one ride at a time.
pub(crate) async fn ride(city: City, number: u64) -> Result<()> {
    for life in 1.. {
        let poor = if number % POOR == POOR - 1 { "declined-" } else { "" };
        let subject = format!("{poor}torture-{number}.{life}");
        let seed = number * 1_000 + life;
        let mut rider = Rider(Person::new(&city, Role::Customer, &subject, seed).await?);
        rider.rides().await;
        if city.is(Phase::Closing) {
            break;
        }
    }
    Ok(())
}

struct Rider(Person);

impl Rider {
    /// One ride after the other, up to the first that does not end, or that cannot be paid.
    async fn rides(&mut self) {
        let mut refusals = 0;
        while !self.0.city.is(Phase::Closing) {
            self.0.pause(20..400).await;
            self.pays_what_was_declined().await;
            let address = format!("Misa {}", self.0.rng.random_range(1..1_000));
            match self.0.command(Call::Request { address }).await {
                Told::Yes(answer) => {
                    refusals = 0;
                    if !self.follows(answer).await {
                        return;
                    }
                }
                // What has just been paid may be owed for a moment yet, elsewhere.
                Told::No(reason) if reason == "OUTSTANDING_PAYMENT" && refusals < REFUSALS => {
                    refusals += 1;
                }
                Told::No(_) | Told::Nothing => return,
            }
            self.0.perhaps_repeat().await;
        }
    }

    /// Pays what was declined, and sometimes what would be taken without.
    async fn pays_what_was_declined(&mut self) {
        let mut states = vec![PaymentState::Declined as i32];
        if self.0.rng.random_bool(0.2) {
            states.extend([PaymentState::Deferred as i32, PaymentState::Unknown as i32]);
        }
        for bill in self.0.payments(states).await.unwrap_or_default().iter().map(bill) {
            self.0.command(Call::Settle(bill.clone())).await;
            if self.0.rng.random_bool(0.5) {
                self.0.question(Call::GetPayment(bill)).await;
            }
        }
    }

    /// Follows a ride; whether it came to an end.
    async fn follows(&mut self, asked: Answer) -> bool {
        let begin = Instant::now();
        let allocation = asked.seen.resource.clone();
        let mut cancel_at = self.0.rng.random_bool(CANCELS).then(|| self.change_of_mind());
        let mut written = Some(asked);
        let mut ended = false;
        while !ended && begin.elapsed() < PATIENCE && !self.0.city.is(Phase::Over) {
            self.0.pause(80..350).await;
            if cancel_at.is_some_and(|at| begin.elapsed() >= at) {
                cancel_at = None;
                let cancel = Call::Cancel { allocation: allocation.clone() };
                if let Told::Yes(answer) = self.0.command(cancel).await {
                    written = Some(answer);
                }
            }
            let state = Call::GetAllocation { allocation: allocation.clone() };
            if let Told::Yes(answer) = self.0.question(state).await {
                ended = FINAL.contains(&answer.seen.state.as_str());
            }
            if self.0.rng.random_bool(0.5) {
                self.looks_at_the_dashboard(&allocation, written.take()).await;
            }
        }
        if ended {
            self.looks_at_the_dashboard(&allocation, None).await;
        }
        ended
    }

    /// Looks at the whole ride; who brings what they wrote must find it there.
    async fn looks_at_the_dashboard(&mut self, allocation: &str, written: Option<Answer>) {
        let Some(ride) = ride_of(allocation) else { return };
        let token = written.as_ref().map(|answer| answer.token.clone()).unwrap_or_default();
        let seen = match self.0.question(Call::GetInfo { ride, token }).await {
            Told::Yes(answer) => answer.seen.state,
            Told::No(reason) => reason,
            Told::Nothing => return,
        };
        let Some(written) = written else { return };
        self.0.city.own_writes.look();
        if !may_follow(&written.seen.state, &seen) {
            let state = written.seen.state;
            self.0.city.own_writes.report(format!("{allocation}: wrote {state}, then read {seen}"));
        }
    }

    /// How long after asking; most are early, so that they meet the accept and the start.
    fn change_of_mind(&mut self) -> Duration {
        let most = if self.0.rng.random_bool(0.8) { 1_500 } else { 6_000 };
        Duration::from_millis(self.0.rng.random_range(0..most))
    }
}

/// What is to be paid.
pub(crate) fn bill(payment: &Payment) -> Bill {
    Bill { payment: payment.name.clone(), ride: ride_of(&payment.allocation) }
}

/// Whether a ride that stood there can be seen like this later. A cancel that was too late leaves
/// the driving as it is, which has started by then.
fn may_follow(written: &str, seen: &str) -> bool {
    match (written, seen) {
        (_, "DRIVING_INFO_NOT_FOUND" | "UNSPECIFIED") => false,
        ("REQUESTED", _) => true,
        (_, "REQUESTED" | "APPROVED") => false,
        ("CANCELLED", seen) => seen == "CANCELLED",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_from_before_what_they_wrote() {
        assert!(may_follow("REQUESTED", "REQUESTED"));
        assert!(may_follow("REQUESTED", "EXPIRED"));
        assert!(may_follow("CANCELLING", "DRIVING_STARTED"));
        assert!(!may_follow("REQUESTED", "DRIVING_INFO_NOT_FOUND"));
        assert!(!may_follow("CANCELLING", "APPROVED"));
        assert!(!may_follow("CANCELLED", "CANCELLING"));
    }
}
