//! The driver race: drivers who accept at the same instant.
//!
//! Somebody has to say "now", so here the drivers do not choose for themselves. Whoever is free
//! joins a contest, whoever wins one drives, and what everybody was told is kept for the checks.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use proto::driving::v1::Driving;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::board::Board;
use super::city::City;
use super::driver::{accept, drive};
use super::ledger::{Accept, Contest, Happening, Kind};

/// The most drivers in one contest.
const CONTENDERS: usize = 5;
/// One double for so many races.
const RACES_A_DOUBLE: usize = 3;
/// How long a double that is due waits for a second ride.
const SECOND_RIDE: Duration = Duration::from_secs(2);
/// How often it looks for one.
const LOOK: Duration = Duration::from_millis(50);

/// A driver who accepts a driving, and what came of it.
type Tried = (usize, Result<Driving, Accept>);

/// The contests of one demo.
struct Races {
    city: Arc<City>,
    /// Drivers without a ride.
    free: Vec<usize>,
    /// Drivers with one; each comes back when it is over.
    away: JoinSet<usize>,
    races: usize,
    doubles: usize,
}

/// Holds contests until no ride is left.
pub(super) async fn live(city: Arc<City>) {
    let board = Board::follow(&city, 0);
    let free = (0..city.drivers.len()).collect();
    let mut races = Races { city: city.clone(), free, away: JoinSet::new(), races: 0, doubles: 0 };
    let mut alone_since = Instant::now();
    loop {
        let open = board.all();
        if open.len() != 1 {
            alone_since = Instant::now();
        }
        let waits = races.double_is_due() && alone_since.elapsed() < SECOND_RIDE;
        match open.as_slice() {
            [first, second, ..] if races.double_is_due() && !races.free.is_empty() => {
                races.double([first, second], &board).await;
            }
            [only] if races.free.len() > 1 && !waits => races.race(only, &board).await,
            [first, _, ..] if races.free.len() > 1 => races.race(first, &board).await,
            open => {
                let looks_again = open.len() == 1 && waits;
                tokio::select! {
                    biased;
                    () = city.closed() => break,
                    Some(Ok(back)) = races.away.join_next() => races.free.push(back),
                    () = board.changed() => {}
                    () = sleep(LOOK), if looks_again => {}
                }
            }
        }
    }
    races.away.join_all().await;
}

impl Races {
    fn double_is_due(&self) -> bool {
        self.city.plan.size.riders > 1 && self.doubles * RACES_A_DOUBLE <= self.races
    }

    /// Several drivers accept one ride.
    async fn race(&mut self, driving: &Driving, board: &Board) {
        self.races += 1;
        board.remove(&driving.name);
        let contenders = self.free.drain(..self.free.len().min(CONTENDERS)).collect();
        self.contest(Kind::Race, driving, contenders).await;
    }

    /// One driver accepts two rides; then others accept the one that is taken.
    async fn double(&mut self, drivings: [&Driving; 2], board: &Board) {
        self.doubles += 1;
        let driver = self.free.remove(0);
        let tries = drivings.map(|driving| attempt(&self.city, driver, driving));
        let tried = join_all(tries).await;
        let about = drivings.map(|driving| driving.name.as_str()).join(" and ");
        self.keep(Kind::Double, format!("{} for {about}", self.city.driver(driver)), &tried);
        let mut won = Vec::new();
        for (driving, (_, outcome)) in drivings.into_iter().zip(tried) {
            if let Ok(accepted) = outcome {
                board.remove(&driving.name);
                won.push(accepted);
            }
        }
        let taken = won.first().cloned();
        match taken {
            None => self.free.push(driver),
            Some(taken) => {
                self.tell(driver, &taken, 1);
                self.depart(driver, won);
                let contenders: Vec<usize> =
                    self.free.drain(..self.free.len().min(CONTENDERS)).collect();
                if !contenders.is_empty() {
                    self.contest(Kind::Late, &taken, contenders).await;
                }
            }
        }
    }

    /// These drivers accept one driving at the same instant. The winner drives, the others are free.
    async fn contest(&mut self, kind: Kind, driving: &Driving, drivers: Vec<usize>) {
        let tries = drivers.iter().map(|driver| attempt(&self.city, *driver, driving));
        let tried = join_all(tries).await;
        self.keep(kind, format!("{} drivers for {}", drivers.len(), driving.name), &tried);
        for (driver, outcome) in tried {
            match outcome {
                Ok(accepted) => {
                    self.tell(driver, &accepted, drivers.len());
                    self.depart(driver, vec![accepted]);
                }
                Err(_) => self.free.push(driver),
            }
        }
    }

    fn keep(&self, kind: Kind, about: String, tried: &[Tried]) {
        let told = |(_, outcome): &Tried| outcome.as_ref().err().cloned().unwrap_or(Accept::Won);
        let contest = Contest { kind, about, told: tried.iter().map(told).collect() };
        self.city.note(|ledger| ledger.contests.push(contest));
    }

    fn tell(&self, driver: usize, accepted: &Driving, among: usize) {
        let name = self.city.driver(driver);
        let happening = match among {
            1 => Happening::Accepted(name),
            among => Happening::Raced(name, among),
        };
        if let Some(ride) = self.city.ride_of(accepted) {
            self.city.tell(ride, &happening);
        }
    }

    /// A driver leaves for their ride; for their rides, should they have been given too many.
    fn depart(&mut self, driver: usize, accepted: Vec<Driving>) {
        let city = self.city.clone();
        self.away.spawn(async move {
            for driving in accepted {
                if let Some(ride) = city.ride_of(&driving) {
                    drive(&city, driver, ride, driving).await;
                }
            }
            driver
        });
    }
}

async fn attempt(city: &City, driver: usize, driving: &Driving) -> Tried {
    match city.ride_of(driving) {
        Some(ride) => (driver, accept(city, driver, ride, &driving.name).await),
        None => (driver, Err(Accept::Gone)),
    }
}
