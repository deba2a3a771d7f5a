//! Drivers: look for open drivings, fight for one, start it, finish it.

use std::time::Duration;

use kernel::Role;
use proto::driving::v1::Driving;
use proto::driving::v1::driving::State;
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use crate::Result;
use crate::calls::{Call, Offer, ride_of};
use crate::people::{City, Person, Phase, Told};

/// A driving that cannot be brought to its end within this time is left for later.
const PATIENCE: Duration = Duration::from_secs(20);
/// All drivers look at the same few, so that several want the same one.
const CHOICE: usize = 3;

/// Drives until the city is over.
pub(crate) async fn drive(city: City, number: u64) -> Result<()> {
    let subject = format!("torture-{number}");
    let person = Person::new(&city, Role::Driver, &subject, 1_000_000 + number).await?;
    Driver(person).drives().await;
    Ok(())
}

struct Driver(Person);

impl Driver {
    async fn drives(&mut self) {
        while !self.0.city.is(Phase::Over) {
            self.0.pause(30..250).await;
            let open = self.0.drivings(vec![State::Requested as i32]).await.unwrap_or_default();
            // The oldest ones: their customers wait.
            let oldest: Vec<Offer> = open.iter().rev().take(CHOICE).map(offer).collect();
            if let Some(offer) = oldest.choose(&mut self.0.rng).cloned() {
                self.wants(offer).await;
            }
            self.0.perhaps_repeat().await;
        }
    }

    async fn wants(&mut self, offer: Offer) {
        match self.0.command(Call::Accept(offer.clone())).await {
            Told::Yes(_) => self.goes_on(offer).await,
            Told::No(reason) if reason == "DRIVER_BUSY" => self.looks_what_is_mine().await,
            Told::No(_) => {}
            Told::Nothing => self.looks_what_is_mine().await,
        }
    }

    /// A driver who does not know whether they have a driving finds out.
    async fn looks_what_is_mine(&mut self) {
        let active = vec![State::Approved as i32, State::Started as i32];
        let mine = self.0.drivings(active).await.unwrap_or_default();
        let mine = mine.iter().find(|driving| driving.driver == self.0.who);
        if let Some(mine) = mine.map(offer) {
            self.goes_on(mine).await;
        }
    }

    /// Start, finish, and a look at the payment, as far as it goes.
    async fn goes_on(&mut self, offer: Offer) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && !self.0.city.is(Phase::Over) {
            self.0.pause(50..600).await;
            let now = match self.0.question(Call::GetDriving(offer.clone())).await {
                Told::Yes(now) => now,
                Told::No(_) => return,
                Told::Nothing => continue,
            };
            match now.seen.state.as_str() {
                "APPROVED" => {
                    self.0.command(Call::Start(offer.clone())).await;
                }
                "STARTED" => {
                    self.0.command(Call::Finish(offer.clone())).await;
                }
                "FINISHED" if now.seen.payment_state.as_deref() == Some("PENDING") => {}
                _ => return,
            }
            if self.0.rng.random_bool(0.02) {
                // Somebody forgets about it for a while.
                return;
            }
        }
    }
}

fn offer(driving: &Driving) -> Offer {
    Offer { driving: driving.name.clone(), ride: ride_of(&driving.allocation) }
}
