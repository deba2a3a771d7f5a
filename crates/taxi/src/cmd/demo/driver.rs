//! A driver: sees who asks for a car, thinks, accepts, drives, and takes a rest.

use std::time::Duration;

use platform::status::reason;
use proto::dashboard::v1::GetDrivingInfoRequest;
use proto::driving::v1::driving::State;
use proto::driving::v1::{
    AcceptDrivingRequest, Driving, FinishDrivingRequest, GetDrivingRequest, StartDrivingRequest,
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::board::Board;
use super::city::City;
use super::ledger::{Accept, Command, Happening, Stage};
use super::person::{Answer, said};
use super::scenario::Moment;

/// The pause before a driver tries again what failed.
const AGAIN: Duration = Duration::from_millis(500);

/// Serves rides until none is left.
pub(super) async fn live(city: &City, driver: usize, board: &Board) {
    loop {
        let driving = tokio::select! {
            biased;
            () = city.closed() => return,
            // A driver looks at a place of the list of their own, and so seldom meets another.
            driving = board.pick(driver) => driving,
        };
        let ride = city.ride_of(&driving);
        if let Some(ride) = ride {
            // Some are more eager than others, and not always the same ones.
            let eagerness = 1.0 + ((driver + ride) % 4) as f64 / 2.0;
            city.pause(city.plan.journeys[ride].think.mul_f64(eagerness)).await;
        }
        // It may have gone while they were thinking; if not, another may still be faster.
        if let Some(ride) = ride.filter(|_| board.remove(&driving.name)) {
            serve(city, driver, ride, &driving.name).await;
        }
    }
}

async fn serve(city: &City, driver: usize, ride: usize, name: &str) {
    match accept(city, driver, ride, name).await {
        Ok(accepted) => {
            city.tell(ride, &Happening::Accepted(city.driver(driver)));
            drive(city, driver, ride, accepted).await;
        }
        Err(Accept::Busy) => {
            let (driver, ride) = (city.driver(driver), city.full_label(ride));
            let sentence = format!("{ride}: {driver} was told DRIVER_BUSY without having a ride");
            city.note(|ledger| ledger.troubles.push(sentence));
        }
        Err(_) => {}
    }
}

/// Accepts a driving. `Err` is what a driver is told who does not get it.
pub(super) async fn accept(
    city: &City,
    driver: usize,
    ride: usize,
    name: &str,
) -> Result<Driving, Accept> {
    let body = AcceptDrivingRequest {
        name: name.to_owned(),
        request_id: city.request_id(),
        etag: String::new(),
    };
    let asked = city.drivers[driver]
        .call(body, |mut to, request| async move { to.driving.accept_driving(request).await });
    match asked.await {
        Ok(Answer { body, wrote, call }) => {
            city.note(|ledger| {
                ledger.done(ride, Command::Accept, call, wrote);
                ledger.rides[ride].drivers.push(driver);
                ledger.reached(ride, Stage::Accepted);
            });
            Ok(body)
        }
        Err(status) => Err(refused(city, driver, ride, &status)),
    }
}

fn refused(city: &City, driver: usize, ride: usize, status: &Status) -> Accept {
    let told = match (status.code(), reason(status).as_deref()) {
        (Code::FailedPrecondition, Some("ALREADY_ACCEPTED")) => Accept::Lost,
        (Code::FailedPrecondition, Some("DRIVER_BUSY")) => Accept::Busy,
        (Code::FailedPrecondition, Some("DRIVING_CLOSED")) | (Code::NotFound, _) => Accept::Gone,
        _ => Accept::Refused(said(status)),
    };
    match &told {
        Accept::Lost => city.note(|ledger| ledger.lost += 1),
        Accept::Refused(_) => {
            city.trouble(ride, &format!("AcceptDriving by {}", city.driver(driver)), status)
        }
        // Whether a driver may be busy depends on what they did; the caller knows.
        Accept::Busy | Accept::Gone | Accept::Won => {}
    }
    told
}

/// Drives an accepted ride to its end.
pub(super) async fn drive(city: &City, driver: usize, ride: usize, driving: Driving) {
    go_on(city, driver, ride, driving).await;
    city.note(|ledger| ledger.rides[ride].left = true);
}

/// Whatever fails on the way: look where the driving stands, and go on from there.
async fn go_on(city: &City, driver: usize, ride: usize, mut driving: Driving) {
    loop {
        let step = match driving.state() {
            State::Approved => start(city, driver, ride, &driving).await,
            State::Started => finish(city, driver, ride, &driving).await,
            State::Finished | State::Cancelled | State::Requested | State::Unspecified => return,
        };
        driving = match step {
            Ok(driving) => driving,
            Err((method, status)) => {
                // The rider has cancelled, and need not ask whether that suits the driver.
                if reason(&status).as_deref() != Some("DRIVING_CLOSED") {
                    city.trouble(ride, &format!("{method} by {}", city.driver(driver)), &status);
                    sleep(AGAIN).await;
                }
                match look(city, driver, &driving.name).await {
                    Ok(driving) => driving,
                    Err(status) if status.code() == Code::NotFound => return,
                    Err(_) => driving,
                }
            }
        };
    }
}

type Step = Result<Driving, (&'static str, Status)>;

async fn start(city: &City, driver: usize, ride: usize, driving: &Driving) -> Step {
    let journey = &city.plan.journeys[ride];
    city.pause(journey.approach).await;
    city.starting[ride].notify_one();
    if journey.cancel == Some(Moment::AtStart) {
        sleep(journey.stagger[0]).await;
    }
    let body = StartDrivingRequest {
        name: driving.name.clone(),
        request_id: city.request_id(),
        etag: String::new(),
    };
    let asked = city.drivers[driver]
        .call(body, |mut to, request| async move { to.driving.start_driving(request).await });
    let Answer { body, wrote, call } = asked.await.map_err(|status| ("StartDriving", status))?;
    city.note(|ledger| {
        ledger.done(ride, Command::Start, call, wrote);
        ledger.reached(ride, Stage::Driving);
    });
    city.tell(ride, &Happening::Started(city.driver(driver)));
    Ok(body)
}

async fn finish(city: &City, driver: usize, ride: usize, driving: &Driving) -> Step {
    let journey = &city.plan.journeys[ride];
    city.pause(journey.drive).await;
    let body = FinishDrivingRequest {
        name: driving.name.clone(),
        request_id: city.request_id(),
        etag: String::new(),
    };
    let asked = city.drivers[driver]
        .call(body, |mut to, request| async move { to.driving.finish_driving(request).await });
    let Answer { body, wrote, call } = asked.await.map_err(|status| ("FinishDriving", status))?;
    let fare = body.fare.as_ref().map_or(0, |fare| fare.units);
    city.note(|ledger| {
        ledger.done(ride, Command::Finish, call, wrote.clone());
        ledger.rides[ride].fare = Some(fare);
        ledger.rides[ride].fee = Some(body.payment_state());
        ledger.reached(ride, Stage::Finished);
    });
    city.tell(ride, &Happening::Finished(fare));
    tokio::join!(city.pause(journey.rest), see(city, driver, &body.allocation, wrote));
    Ok(body)
}

/// Looks at the dashboard until it shows the finish, and takes the time.
async fn see(city: &City, driver: usize, allocation: &str, wrote: String) {
    let since = Instant::now();
    let body = GetDrivingInfoRequest { name: info_name(allocation), consistency_token: wrote };
    let asked = city.drivers[driver]
        .call(body, |mut to, request| async move { to.dashboard.get_driving_info(request).await });
    // A view that never gets there is found by the checks.
    if asked.await.is_ok() {
        city.note(|ledger| ledger.shown.push(since.elapsed()));
    }
}

async fn look(city: &City, driver: usize, name: &str) -> Result<Driving, Status> {
    let body = GetDrivingRequest { name: name.to_owned() };
    let asked = city.drivers[driver]
        .call(body, |mut to, request| async move { to.driving.get_driving(request).await });
    asked.await.map(|answer| answer.body)
}

/// The dashboard's name of the ride that began with this allocation.
pub(super) fn info_name(allocation: &str) -> String {
    allocation.replacen("allocations/", "drivingInfos/", 1)
}
