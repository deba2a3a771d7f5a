//! The plan of a demo: who rides when, from where to where, and who changes their mind.
//!
//! Pure: the same seed and the same size make the same plan. What the plan leaves open is what the
//! service decides, above all who of several drivers is first. All durations but
//! [`Journey::stagger`] are simulated time.

use std::time::Duration;

use rand::Rng;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::places::{Lang, NAMES, SPOTS, Spot};

/// What people do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// Everybody rides and pays.
    #[default]
    Happy,
    /// Half of the riders cancel: before a driver accepts, after it, or just when the ride starts.
    Cancel,
    /// Several drivers accept the same ride at once, and one driver accepts two rides at once.
    DriverRace,
}

impl Scenario {
    /// Its name on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Scenario::Happy => "happy",
            Scenario::Cancel => "cancel",
            Scenario::DriverRace => "driver-race",
        }
    }
}

/// How large a demo is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// How many rides.
    pub(super) rides: usize,
    /// How many riders share them.
    pub(super) riders: usize,
    /// How many drivers serve them.
    pub(super) drivers: usize,
}

/// When a rider changes their mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Right after asking; most likely no driver has accepted yet.
    AfterAsking,
    /// Once a driver has accepted.
    AfterAcceptance,
    /// At the very moment when the driver starts.
    AtStart,
}

/// One ride as it is planned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Journey {
    /// Who rides.
    pub(super) rider: usize,
    /// From where.
    pub(super) pickup: Spot,
    /// To where.
    pub(super) destination: Spot,
    /// What the rider does before asking.
    pub(super) wait: Duration,
    /// How long a driver thinks before accepting.
    pub(super) think: Duration,
    /// The way to the rider.
    pub(super) approach: Duration,
    /// The way to the destination.
    pub(super) drive: Duration,
    /// What the driver does after it.
    pub(super) rest: Duration,
    /// When the rider cancels, if they do.
    pub(super) cancel: Option<Moment>,
    /// How long they hesitate at that moment.
    pub(super) hesitate: Duration,
    /// Real time by which driver and rider miss the very moment of a race between them.
    pub(super) stagger: [Duration; 2],
}

/// Somebody who rides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rider {
    /// Which of the riders.
    at: usize,
    /// The language of their messages.
    pub(super) language: Lang,
}

impl Rider {
    /// What they are called.
    pub(super) fn name(&self, lang: Lang) -> String {
        let name = NAMES[self.at % NAMES.len()].said_in(lang);
        match self.at / NAMES.len() {
            0 => name.to_owned(),
            more => format!("{name} {}", more + 1),
        }
    }
}

/// A whole demo as it is planned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// What people do.
    pub(super) scenario: Scenario,
    /// Where the plan came from.
    pub(super) seed: u64,
    /// How large it is.
    pub(super) size: Size,
    /// Who rides.
    pub(super) riders: Vec<Rider>,
    /// All rides; each rider takes theirs one after the other.
    pub(super) journeys: Vec<Journey>,
}

impl Plan {
    /// Draws a plan.
    pub(super) fn draw(scenario: Scenario, seed: u64, size: Size) -> Plan {
        let mut rng = StdRng::seed_from_u64(seed);
        let riders = (0..size.riders)
            .map(|at| Rider { at, language: if rng.random() { Lang::Ko } else { Lang::En } })
            .collect();
        let fickle = fickle(scenario, size.riders, &mut rng);
        let journeys = (0..size.rides)
            .map(|ride| journey(ride % size.riders, fickle[ride % size.riders], &mut rng))
            .collect();
        Plan { scenario, seed, size, riders, journeys }
    }

    /// The rides of one rider, in their order.
    pub(super) fn rides_of(&self, rider: usize) -> impl Iterator<Item = usize> + use<> {
        (rider..self.journeys.len()).step_by(self.size.riders)
    }

    /// A ride as people speak of it.
    pub(super) fn label(&self, ride: usize, lang: Lang) -> String {
        let journey = &self.journeys[ride];
        let rider = self.riders[journey.rider].name(lang);
        format!("{rider} → {}", journey.destination.name.said_in(lang))
    }

    /// More simulated time than all this can take as long as the service itself takes none: twice the
    /// work, shared by as many as can work at the same time, and the chores of the busiest rider.
    pub(super) fn at_most(&self) -> Duration {
        let work = |it: &Journey| it.think + it.approach + it.drive + it.rest;
        let work: Duration = self.journeys.iter().map(work).sum();
        let chores = |ride: usize| self.journeys[ride].wait + self.journeys[ride].hesitate;
        let chores =
            (0..self.size.riders).map(|it| self.rides_of(it).map(chores).sum::<Duration>());
        // In a race one driver waits for another.
        let together = self.size.riders.min(self.size.drivers.saturating_sub(1)).max(1);
        work.div_f64(together as f64) * 2 + chores.max().unwrap_or_default()
    }
}

/// Which riders cancel: half of them, rounded up.
fn fickle(scenario: Scenario, riders: usize, rng: &mut StdRng) -> Vec<bool> {
    let mut fickle: Vec<bool> = (0..riders)
        .map(|rider| scenario == Scenario::Cancel && rider < riders.div_ceil(2))
        .collect();
    fickle.shuffle(rng);
    fickle
}

fn journey(rider: usize, cancels: bool, rng: &mut StdRng) -> Journey {
    let ends: Vec<&Spot> = SPOTS.choose_multiple(rng, 2).collect();
    let mut between = |from: u64, to: u64| Duration::from_millis(rng.random_range(from..to));
    let [wait, think, approach] =
        [between(0, 60_000), between(5_000, 20_000), between(30_000, 90_000)];
    let [drive, rest, hesitate] = [between(60_000, 180_000), between(0, 10_000), between(0, 4_000)];
    let stagger = [between(0, 8), between(0, 8)];
    let moments = [Moment::AfterAsking, Moment::AfterAcceptance, Moment::AtStart];
    // Drawn in any case, so that scenarios of one seed have the same journeys.
    let moment = moments.choose(rng).copied();
    Journey {
        rider,
        pickup: *ends[0],
        destination: *ends[1],
        wait,
        think,
        approach,
        drive,
        rest,
        cancel: moment.filter(|_| cancels),
        hesitate,
        stagger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rides: 23, riders: 5, drivers: 3 };

    #[test]
    fn a_seed_is_a_plan() {
        let plan = |seed| Plan::draw(Scenario::Cancel, seed, SIZE);
        assert_eq!(plan(42), plan(42));
        assert_ne!(plan(42), plan(43));
    }

    #[test]
    fn every_ride_belongs_to_one_rider() {
        let plan = Plan::draw(Scenario::Happy, 1, SIZE);
        let mut rides: Vec<usize> = (0..5).flat_map(|rider| plan.rides_of(rider)).collect();
        assert!((0..5).all(|at| plan.rides_of(at).all(|ride| plan.journeys[ride].rider == at)));
        rides.sort_unstable();
        assert_eq!(rides, (0..23).collect::<Vec<_>>());
    }

    #[test]
    fn people_go_somewhere_else() {
        let plan = Plan::draw(Scenario::Happy, 7, Size { rides: 200, ..SIZE });
        assert!(plan.journeys.iter().all(|journey| journey.pickup != journey.destination));
    }

    #[test]
    fn half_of_the_riders_change_their_mind() {
        for seed in 0..20 {
            let plan = Plan::draw(Scenario::Cancel, seed, SIZE);
            let cancels = |rider| plan.rides_of(rider).all(|it| plan.journeys[it].cancel.is_some());
            let never = |rider| plan.rides_of(rider).all(|it| plan.journeys[it].cancel.is_none());
            assert_eq!((0..5).filter(|rider| cancels(*rider)).count(), 3);
            assert_eq!((0..5).filter(|rider| never(*rider)).count(), 2);
        }
        for scenario in [Scenario::Happy, Scenario::DriverRace] {
            let plan = Plan::draw(scenario, 1, SIZE);
            assert!(plan.journeys.iter().all(|journey| journey.cancel.is_none()));
        }
    }

    #[test]
    fn riders_beyond_the_names_are_numbered() {
        let name = |at| Rider { at, language: Lang::En }.name(Lang::En);
        assert_eq!([name(0), name(20), name(41)], ["Minji", "Minji 2", "Jisoo 3"]);
    }

    #[test]
    fn the_bound_holds_for_one_of_everything() {
        let plan = Plan::draw(Scenario::Happy, 3, Size { rides: 4, riders: 1, drivers: 1 });
        let all =
            |it: &Journey| it.wait + it.think + it.approach + it.drive + it.rest + it.hesitate;
        assert!(plan.at_most() >= plan.journeys.iter().map(all).sum::<Duration>());
    }
}
