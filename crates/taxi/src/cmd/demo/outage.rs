//! The course of a fault: rides while all is well, rides while it is set, rides after it was taken
//! back, and what became of the breakers meanwhile.

use std::convert::Infallible;
use std::time::Duration;

use kernel::Timestamp;
use tokio::time::{Instant, interval, sleep};

use super::city::City;
use super::fault::Fault;
use super::ledger::Stage;
use super::scenario::Phase;
use super::witness::{Breakers, Witness};
use crate::exit::Exit;
use crate::ready::Ready;

/// How often it is looked whether a phase is over.
const LOOK: Duration = Duration::from_millis(50);
/// How often the breakers are looked at.
const METRICS: Duration = Duration::from_millis(100);

/// A point in time, for those who measure and for those who compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// For durations.
    pub(super) at: Instant,
    /// For what the service has written down.
    pub(super) time: Timestamp,
}

/// What happened when.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// What went wrong.
    pub(super) fault: Fault,
    /// When the demo began.
    pub(super) began: Instant,
    /// From here on it was in force,
    pub(super) set: Moment,
    /// up to here at least.
    pub(super) cleared: Moment,
    /// What was seen of the breakers.
    pub(super) breakers: Breakers,
}

impl Course {
    /// When something happened that began then.
    pub(super) fn phase(&self, began: Instant) -> Phase {
        match began {
            before if before < self.set.at => Phase::Before,
            meanwhile if meanwhile < self.cleared.at => Phase::Meanwhile,
            _ => Phase::After,
        }
    }

    /// How long it lasted.
    pub(super) fn lasted(&self) -> Duration {
        self.cleared.at - self.set.at
    }
}

/// Lets things go wrong, and right again, as the rides go on.
pub(super) async fn conduct(city: &City, fault: Fault, mesh: &Ready) -> Result<Course, Exit> {
    let began = Instant::now();
    let witness = Witness::of(mesh)?;
    let mut breakers = Breakers::default();
    look(&witness, &mut breakers).await.map_err(Exit::unavailable)?;
    let (set, cleared) = tokio::select! {
        moments = stages(city, fault, mesh) => moments?,
        never = follow(&witness, &mut breakers) => match never {},
    };
    look(&witness, &mut breakers).await.map_err(Exit::unavailable)?;
    Ok(Course { fault, began, set, cleared, breakers })
}

async fn stages(city: &City, fault: Fault, mesh: &Ready) -> Result<(Moment, Moment), Exit> {
    over(city, Phase::Before).await;
    let in_force = fault.set(mesh).await?;
    let set = city.moment();
    city.note(|ledger| ledger.fault = Some(fault.setting()));
    city.enter(Phase::Meanwhile);
    over(city, Phase::Meanwhile).await;
    let cleared = city.moment();
    in_force.take_back().await?;
    city.note(|ledger| ledger.fault = None);
    city.enter(Phase::After);
    over(city, Phase::After).await;
    Ok((set, cleared))
}

/// Waits until nothing more happens to the rides of a phase: they have ended, or their rider waits
/// for the next one.
async fn over(city: &City, phase: Phase) {
    let is_over = || {
        city.note(|ledger| {
            let rides = ledger.rides.iter().zip(&city.plan.journeys);
            rides.filter(|(_, journey)| journey.phase == phase).all(|(ride, journey)| {
                let ended = ride.stage.is_final() && (ride.stage != Stage::Finished || ride.left);
                ended || phase == Phase::Meanwhile && ledger.owes(journey.rider)
            })
        })
    };
    while !is_over() {
        sleep(LOOK).await;
    }
}

/// Watches the breakers, for as long as it is polled.
async fn follow(witness: &Witness, breakers: &mut Breakers) -> Infallible {
    let mut looks = interval(METRICS);
    loop {
        looks.tick().await;
        // Counters forget nothing, so one that was missed is made up for by the next.
        look(witness, breakers).await.ok();
    }
}

async fn look(witness: &Witness, breakers: &mut Breakers) -> Result<(), String> {
    let seen = witness.breakers().await?;
    breakers.saw(Instant::now(), seen);
    Ok(())
}
