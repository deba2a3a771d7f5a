//! What a city does meanwhile: customers ask for cars, and drivers finish rides begun before.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use proto::driving::v1::driving::PaymentState;

use crate::Result;
use crate::city::City;
use crate::rides::Driver;

use crate::offer::{Done, offer};

/// Rides that are begun at the same time.
const DEPARTURES: usize = 32;

/// Drivers, each with one ride at a time.
#[derive(Default)]
pub(crate) struct Fleet {
    idle: Vec<Driver>,
    hired: usize,
}

/// A driver with a customer in the car.
pub(crate) struct Ride {
    driver: Driver,
    driving: String,
}

/// A driving that has finished.
pub(crate) struct Finished {
    pub(crate) driving: String,
    pub(crate) deferred: bool,
}

/// What became of calls: those that were answered, and the number of the others.
pub(crate) struct Answers<T> {
    pub(crate) done: Vec<Done<T>>,
    pub(crate) failed: usize,
}

impl Fleet {
    /// Begins so many rides.
    pub(crate) async fn depart(&mut self, city: &City, count: usize) -> Result<Vec<Ride>> {
        while self.idle.len() < count {
            let (n, name) = (self.hired, format!("bench-{}", self.hired));
            self.idle.push(Driver::new(city, n, &name, city.customers()).await);
            self.hired += 1;
        }
        let drivers = self.idle.split_off(self.idle.len() - count);
        let departures = drivers.into_iter().map(async |mut driver: Driver| {
            let driving = driver.depart().await?.driving;
            Result::Ok(Ride { driver, driving })
        });
        futures::stream::iter(departures).buffer_unordered(DEPARTURES).try_collect().await
    }

    /// Finishes these rides, so many a second. A driver whose ride does not end drives no more.
    pub(crate) async fn arrive(&mut self, rides: Vec<Ride>, rate: u32) -> Answers<Finished> {
        let count = rides.len() as u32;
        let mut rides = rides.into_iter();
        let all = offer(rate, count, move || {
            let ride = rides.next();
            async move { arrive(ride?).await }
        });
        let (mut done, mut failed) = (Vec::new(), 0);
        for Done { due, end, outcome } in all.await {
            match outcome {
                None => failed += 1,
                Some((driver, outcome)) => {
                    self.idle.push(driver);
                    done.push(Done { due, end, outcome });
                }
            }
        }
        Answers { done, failed }
    }
}

async fn arrive(Ride { mut driver, driving }: Ride) -> Option<(Driver, Finished)> {
    match driver.arrive(driving.clone()).await {
        Ok(answer) => {
            let deferred = answer.get_ref().payment_state() == PaymentState::Deferred;
            Some((driver, Finished { driving, deferred }))
        }
        Err(status) => {
            eprintln!("  {driving} does not finish: {status}");
            None
        }
    }
}

/// Customers ask for cars for a while, so many a second.
pub(crate) async fn requests(city: &City, rate: u32, length: Duration) -> Answers<()> {
    let customers = city.customers();
    let mut n = 0;
    let count = length.as_secs() as u32 * rate;
    let all = offer(rate, count, || {
        n += 1;
        let (mut client, wish) = (city.allocation(n), customers.next());
        async move { client.request_allocation(wish).await.map(drop) }
    });
    let (mut done, mut failed) = (Vec::new(), 0);
    for Done { due, end, outcome } in all.await {
        match outcome {
            Ok(()) => done.push(Done { due, end, outcome: () }),
            Err(status) => {
                eprintln!("  a request failed: {status}");
                failed += 1;
            }
        }
    }
    Answers { done, failed }
}
