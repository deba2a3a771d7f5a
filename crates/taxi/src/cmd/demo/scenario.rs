//! The plan of a demo: who rides when, from where to where, and who changes their mind.
//!
//! Pure: the same seed and the same size make the same plan. What the plan leaves open is what the
//! service decides, above all who of several drivers is first. All durations but
//! [`Journey::stagger`] and [`Journey::hold`] are simulated time.

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
    /// The payment service is down for a while: rides finish, and are paid when it is back.
    PaymentDown,
    /// The payment service answers too late for a while: the same.
    PaymentSlow,
    /// The payment provider fails every other time for a while.
    PaymentFlaky,
    /// The payment provider declines most fees for a while: their riders settle them later.
    PaymentDeclined,
    /// The payment provider takes fees for a while, and every other answer is lost.
    AnswerLost,
}

impl Scenario {
    /// Its name on the command line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Scenario::Happy => "happy",
            Scenario::Cancel => "cancel",
            Scenario::DriverRace => "driver-race",
            Scenario::PaymentDown => "payment-down",
            Scenario::PaymentSlow => "payment-slow",
            Scenario::PaymentFlaky => "payment-flaky",
            Scenario::PaymentDeclined => "payment-declined",
            Scenario::AnswerLost => "answer-lost",
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

/// The part of a demo that a ride belongs to. Without a fault all is [`Phase::Before`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// All is well.
    #[default]
    Before,
    /// Something goes wrong.
    Meanwhile,
    /// All is well again.
    After,
}

impl Phase {
    /// Of every five rides one comes before a fault, two meanwhile, two after it.
    fn of(ride: usize, rides: usize) -> Phase {
        match ride * 5 / rides {
            0 => Phase::Before,
            1 | 2 => Phase::Meanwhile,
            _ => Phase::After,
        }
    }
}

/// With fewer rides a fault has nothing to show: ten have to fail before a breaker opens, and three
/// to succeed before it closes.
pub(super) const LEAST_RIDES: usize = 30;

/// Over this long the rides after a fault are spread, in real time: a breaker that is open asks again
/// after four seconds at the latest, and somebody has to come by then.
pub(super) const RECOVERY: Duration = Duration::from_secs(6);

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
    /// When, in the course of a fault.
    pub(super) phase: Phase,
    /// Real time for which nobody asks for it after its phase has begun.
    pub(super) hold: Duration,
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
        let mut journeys: Vec<Journey> = (0..size.rides)
            .map(|ride| journey(ride % size.riders, fickle[ride % size.riders], &mut rng))
            .collect();
        if scenario.fault().is_some() {
            stage(&mut journeys);
        }
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

/// Tells each ride its part in the course of a fault.
fn stage(journeys: &mut [Journey]) {
    let rides = journeys.len();
    for (ride, journey) in journeys.iter_mut().enumerate() {
        journey.phase = Phase::of(ride, rides);
    }
    let after = journeys.partition_point(|journey| journey.phase < Phase::After);
    let spread = rides - after;
    for (at, journey) in journeys[after..].iter_mut().enumerate() {
        journey.hold = RECOVERY.mul_f64(at as f64 / spread as f64);
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
        phase: Phase::default(),
        hold: Duration::ZERO,
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
    fn a_fault_has_a_before_and_an_after() {
        let size = Size { rides: LEAST_RIDES, ..SIZE };
        let plan = Plan::draw(Scenario::PaymentDown, 1, size);
        let count = |phase| plan.journeys.iter().filter(|it| it.phase == phase).count();
        assert_eq!([Phase::Before, Phase::Meanwhile, Phase::After].map(count), [6, 12, 12]);
        assert!(plan.journeys.is_sorted_by_key(|journey| (journey.phase, journey.hold)));
        let late = |journey: &&Journey| journey.hold >= Duration::from_secs(4);
        assert!(plan.journeys.iter().filter(late).count() > 3, "a breaker asks for three");

        let happy = Plan::draw(Scenario::Happy, 1, size);
        assert!(happy.journeys.iter().all(|it| it.phase == Phase::Before && it.hold.is_zero()));
        let same = |(one, other): (&Journey, &Journey)| one.drive == other.drive;
        assert!(plan.journeys.iter().zip(&happy.journeys).all(same), "a seed is a city");
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
