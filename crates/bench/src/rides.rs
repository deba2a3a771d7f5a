//! Whole rides, as many as a number of drivers can do, and so many a second.
//!
//! A driver of this city drives one ride after the other. In a closed loop the next one begins at
//! once. In an open loop it begins when it is due, by a schedule that was fixed before: a ride that
//! begins late, because everybody is busy, counts from when it was due (no coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use platform::call::CONSISTENCY_TOKEN_HEADER;
use proto::allocation::v1::WatchAllocationRequest;
use proto::dashboard::v1::GetDrivingInfoRequest;
use proto::driving::v1::driving::PaymentState;
use proto::driving::v1::{
    AcceptDrivingRequest, Driving, FinishDrivingRequest, GetDrivingRequest, StartDrivingRequest,
};
use serde::Serialize;
use testkit::{AllocationClient, DashboardClient, DrivingClient};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::Result;
use crate::city::{City, Customers};
use crate::stats::{Latency, Rounds, due, per_second};

const WARM_UP: Duration = Duration::from_secs(2);
/// A ride that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// So has a view that is older than that.
const VIEW_PATIENCE: Duration = Duration::from_secs(5);
const PAYMENT_POLL: Duration = Duration::from_millis(20);

/// From the request to the payment, in a closed loop.
#[derive(Debug, Serialize)]
pub(crate) struct Rides {
    pub(crate) drivers: usize,
    pub(crate) per_second: Rounds,
    /// Of a whole ride.
    pub(crate) latency: Latency,
    pub(crate) failed: usize,
}

/// From the end of a driving to the dashboard that shows it, in an open loop.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    pub(crate) rate: u32,
    pub(crate) rides: usize,
    /// What became of the rate: rides seen, over the time until the last one was.
    pub(crate) per_second: f64,
    /// From FinishDriving's answer to GetDrivingInfo's with its consistency token.
    pub(crate) latency: Latency,
    /// From when the ride's request was due to the same.
    pub(crate) since_due: Latency,
    pub(crate) failed: usize,
}

/// So many drivers of a city.
pub(crate) async fn drivers(city: &City, count: u32) -> Vec<Driver> {
    let mut drivers = Vec::new();
    for n in 0..count as usize {
        drivers.push(Driver::new(city, n, &format!("bench-{n}"), city.customers()).await);
    }
    drivers
}

/// Whole rides in a closed loop, several times.
pub(crate) async fn closed(
    drivers: &mut Vec<Driver>,
    rounds: u32,
    length: Duration,
) -> Result<Rides> {
    eprintln!("rides: warming up");
    let count = drivers.len();
    shift(drivers, Begin::AtOnce { until: Instant::now() + WARM_UP }).await?;
    let mut speeds = Vec::new();
    let mut all = Day::default();
    for n in 1..=rounds {
        let until = Instant::now() + length;
        let day = shift(drivers, Begin::AtOnce { until }).await?;
        let in_time = day.rides.iter().filter(|ride| ride.end <= until).count();
        speeds.push(per_second(in_time, length));
        all.rides.extend(day.rides);
        all.failed += day.failed;
        eprintln!("rides: round {n} of {rounds}");
    }
    Ok(Rides {
        drivers: count,
        per_second: Rounds::of(speeds),
        latency: Latency::of(all.rides.iter().map(|ride| ride.end - ride.begin)),
        failed: all.failed,
    })
}

/// Rides in an open loop, and when the dashboard shows their end.
pub(crate) async fn open(drivers: &mut Vec<Driver>, rate: u32, length: Duration) -> Result<View> {
    eprintln!("dashboard: {rate} rides a second for {length:?}");
    let start = Instant::now();
    let total = u64::from(rate) * length.as_secs();
    let day = shift(drivers, Begin::Due { start, rate, total, next: AtomicU64::new(0) }).await?;
    let last = day.rides.iter().map(|ride| ride.end).max().unwrap_or(start);
    Ok(View {
        rate,
        rides: day.rides.len(),
        per_second: per_second(day.rides.len(), last - start),
        latency: Latency::of(day.rides.iter().map(|ride| ride.end - ride.finish)),
        since_due: Latency::of(day.rides.iter().map(|ride| ride.end - ride.begin)),
        failed: day.failed,
    })
}

/// One whole ride: a driver by this name drives a customer whose name begins like this.
pub(crate) async fn one(city: &City, driver: &str, customer: &str) -> Result<()> {
    let mut driver = Driver::new(city, 0, driver, Customers::like(customer)).await;
    driver.ride(Instant::now(), &Begin::AtOnce { until: Instant::now() }).await?;
    Ok(())
}

/// When rides begin, and when they end.
enum Begin {
    /// One after the other until then; over when the payment is approved.
    AtOnce { until: Instant },
    /// By a schedule, whoever is free takes the next; over when the dashboard shows the end.
    Due { start: Instant, rate: u32, total: u64, next: AtomicU64 },
}

impl Begin {
    /// When the next ride begins, if there is one.
    fn next(&self) -> Option<Instant> {
        match self {
            Begin::AtOnce { until } => Some(Instant::now()).filter(|now| now < until),
            Begin::Due { start, rate, total, next } => {
                let n = next.fetch_add(1, Ordering::Relaxed);
                (n < *total).then(|| *start + due(n, *rate))
            }
        }
    }
}

/// One ride.
struct Ride {
    /// When it was due.
    begin: Instant,
    /// When FinishDriving answered.
    finish: Instant,
    end: Instant,
}

/// A ride that is under way.
pub(crate) struct Departed {
    allocation: String,
    pub(crate) driving: String,
}

/// What drivers did.
#[derive(Default)]
struct Day {
    rides: Vec<Ride>,
    failed: usize,
}

/// All drivers drive. A driver whose ride failed may have it for ever, and drives no more.
async fn shift(drivers: &mut Vec<Driver>, begin: Begin) -> Result<Day> {
    let begin = Arc::new(begin);
    let mut tasks = JoinSet::new();
    for driver in drivers.drain(..) {
        tasks.spawn(driver.drive(begin.clone()));
    }
    let mut day = Day::default();
    while let Some(done) = tasks.join_next().await {
        let (driver, rides, failure) = done?;
        day.rides.extend(rides);
        match failure {
            None => drivers.push(driver),
            Some(failure) => {
                eprintln!("  a ride failed: {failure}");
                day.failed += 1;
            }
        }
    }
    if drivers.is_empty() {
        return Err("no driver is left: all had a ride that failed".into());
    }
    Ok(day)
}

/// A driver, and an operator who asks for cars and looks at the dashboard.
pub(crate) struct Driver {
    allocation: AllocationClient,
    driving: DrivingClient,
    dashboard: DashboardClient,
    customers: Customers,
}

impl Driver {
    /// The n-th, by this name, who drives these customers.
    pub(crate) async fn new(city: &City, n: usize, name: &str, customers: Customers) -> Driver {
        Driver {
            allocation: city.allocation(n),
            driving: city.driving(n, name).await,
            dashboard: city.dashboard(n),
            customers,
        }
    }

    /// One ride after the other, up to the first that fails.
    async fn drive(mut self, begin: Arc<Begin>) -> (Driver, Vec<Ride>, Option<Status>) {
        let mut rides = Vec::new();
        while let Some(due) = begin.next() {
            sleep_until(due).await;
            let ride = timeout(PATIENCE, self.ride(due, &begin)).await;
            match ride.unwrap_or_else(|_| Err(Status::deadline_exceeded("a ride took too long"))) {
                Ok(ride) => rides.push(ride),
                Err(failure) => return (self, rides, Some(failure)),
            }
        }
        (self, rides, None)
    }

    async fn ride(&mut self, due: Instant, how: &Begin) -> Result<Ride, Status> {
        let Departed { allocation, driving } = self.depart().await?;
        let answer = self.arrive(driving).await?;
        let finish = Instant::now();
        match how {
            Begin::AtOnce { .. } => self.paid(answer.into_inner()).await?,
            Begin::Due { .. } => self.seen(&allocation, answer.metadata()).await?,
        }
        Ok(Ride { begin: due, finish, end: Instant::now() })
    }

    /// The next customer is in the car.
    pub(crate) async fn depart(&mut self) -> Result<Departed, Status> {
        let asked = self.allocation.request_allocation(self.customers.next()).await?;
        let allocation = asked.into_inner().name;
        let name = self.driving_of(&allocation).await?;

        let accept = AcceptDrivingRequest { name: name.clone(), ..Default::default() };
        self.driving.accept_driving(accept).await?;
        let start = StartDrivingRequest { name: name.clone(), ..Default::default() };
        self.driving.start_driving(start).await?;
        Ok(Departed { allocation, driving: name })
    }

    /// The customer gets out, and the fee is asked for.
    pub(crate) async fn arrive(&mut self, driving: String) -> Result<Response<Driving>, Status> {
        let finish = FinishDrivingRequest { name: driving, ..Default::default() };
        self.driving.finish_driving(finish).await
    }

    /// Waits until the allocation knows its driving.
    async fn driving_of(&mut self, allocation: &str) -> Result<String, Status> {
        let watch = WatchAllocationRequest { name: allocation.to_owned(), ..Default::default() };
        let mut changes = self.allocation.watch_allocation(watch).await?.into_inner();
        while let Some(change) = changes.message().await? {
            let allocation = change.allocation.unwrap_or_default();
            if !allocation.driving.is_empty() {
                return Ok(allocation.driving);
            }
        }
        Err(Status::aborted(format!("{allocation} never got a driving")))
    }

    /// Waits until the fare is paid, which it is unless the provider was slow.
    async fn paid(&mut self, mut driving: Driving) -> Result<(), Status> {
        while driving.payment_state() != PaymentState::Approved {
            sleep(PAYMENT_POLL).await;
            let get = GetDrivingRequest { name: driving.name };
            driving = self.driving.get_driving(get).await?.into_inner();
        }
        Ok(())
    }

    /// Waits until the dashboard shows what FinishDriving's answer stands for.
    async fn seen(&mut self, allocation: &str, answer: &MetadataMap) -> Result<(), Status> {
        let token = answer.get(CONSISTENCY_TOKEN_HEADER).and_then(|token| token.to_str().ok());
        let token = token.ok_or_else(|| Status::data_loss("no consistency token was answered"))?;
        let mut get = Request::new(GetDrivingInfoRequest {
            name: allocation.replacen("allocations/", "drivingInfos/", 1),
            consistency_token: token.to_owned(),
        });
        get.set_timeout(VIEW_PATIENCE);
        self.dashboard.get_driving_info(get).await.map(drop)
    }
}
