//! A rider: asks for a car, follows the ride to its end, and perhaps changes their mind.

use std::time::Duration;

use platform::status::reason;
use proto::allocation::v1::allocation::State;
use proto::allocation::v1::{
    Allocation, CancelAllocationRequest, RequestAllocationRequest, WatchAllocationRequest,
};
use proto::google::r#type::LatLng;
use proto::r#type::v1::Place;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::city::City;
use super::debt;
use super::ledger::{Cancel, Command, Happening, Stage};
use super::person::{Answer, said};
use super::places::{Lang, Spot};
use super::scenario::Moment;

/// The pause before a broken watch is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// Takes all rides of one rider, one after the other.
pub(super) async fn live(city: &City, rider: usize) {
    for ride in city.plan.rides_of(rider) {
        city.turn_of(ride).await;
        city.pause(city.plan.journeys[ride].wait).await;
        city.begin(ride);
        match ask(city, ride).await {
            Ok(allocation) => {
                travel(city, ride, &allocation).await;
                debt::mind(city, ride).await;
            }
            Err(status) => {
                city.trouble(ride, "RequestAllocation", &status);
                city.note(|ledger| ledger.reached(ride, Stage::Refused));
            }
        }
    }
}

/// Asks for a car. Whoever has just settled what they owed asks until that has got round.
async fn ask(city: &City, ride: usize) -> Result<Allocation, Status> {
    let rider = city.plan.journeys[ride].rider;
    let since_settled = Instant::now();
    let answer = loop {
        let asked = city.riders[rider].call(wish(city, ride), |mut to, request| async move {
            to.allocation.request_allocation(request).await
        });
        match asked.await {
            Err(status)
                if reason(&status).as_deref() == Some(debt::REFUSAL)
                    && city.note(|ledger| ledger.has_settled(rider))
                    && since_settled.elapsed() < city.patience(debt::NEWS) =>
            {
                sleep(AGAIN).await;
            }
            answer => break answer,
        }
    };
    let Answer { body: allocation, wrote, call } = answer?;
    city.note(|ledger| {
        ledger.done(ride, Command::Request, call, wrote);
        ledger.rides[ride].allocation.clone_from(&allocation.name);
        ledger.known.insert(allocation.name.clone(), ride);
        ledger.reached(ride, Stage::Asked);
    });
    city.tell(ride, &Happening::Asked);
    Ok(allocation)
}

/// What a rider asks for.
pub(super) fn wish(city: &City, ride: usize) -> RequestAllocationRequest {
    let journey = &city.plan.journeys[ride];
    let language = city.plan.riders[journey.rider].language;
    RequestAllocationRequest {
        allocation: Some(Allocation {
            pickup: Some(place(&journey.pickup, language)),
            destination: Some(place(&journey.destination, language)),
            ..Allocation::default()
        }),
        request_id: city.request_id(),
    }
}

fn place(spot: &Spot, language: Lang) -> Place {
    Place {
        address: spot.name.said_in(language).to_owned(),
        location: Some(LatLng { latitude: spot.latitude, longitude: spot.longitude }),
    }
}

/// Follows a ride to its end, and changes their mind on the way when the plan says so.
async fn travel(city: &City, ride: usize, allocation: &Allocation) {
    let (seen, sees) = watch::channel(allocation.state());
    let cancel = async {
        if let Some(moment) = city.plan.journeys[ride].cancel {
            wait_for(city, ride, moment, sees).await;
            cancel(city, ride, &allocation.name).await;
        }
    };
    let ((), end) = tokio::join!(cancel, follow(city, ride, &allocation.name, &seen));
    let stage = Stage::of(end).unwrap_or_default();
    city.note(|ledger| ledger.reached(ride, stage));
    match stage {
        Stage::Cancelled => city.tell(ride, &Happening::Cancelled),
        Stage::Expired => city.tell(ride, &Happening::Expired),
        // Its driver tells, with the fare.
        _ => {}
    }
}

/// Follows an allocation to its final state, through broken streams.
async fn follow(city: &City, ride: usize, name: &str, seen: &watch::Sender<State>) -> State {
    let mut resume_token = String::new();
    loop {
        let broken = read(city, ride, name, &mut resume_token, seen).await;
        if seen.borrow().is_final() {
            return *seen.borrow();
        }
        if let Err(status) = broken
            && matches!(
                status.code(),
                Code::NotFound | Code::PermissionDenied | Code::InvalidArgument
            )
        {
            city.trouble(ride, "WatchAllocation", &status);
            resume_token.clear();
        }
        sleep(AGAIN).await;
    }
}

async fn read(
    city: &City,
    ride: usize,
    name: &str,
    resume_token: &mut String,
    seen: &watch::Sender<State>,
) -> Result<(), Status> {
    let rider = &city.riders[city.plan.journeys[ride].rider];
    let body = WatchAllocationRequest { name: name.to_owned(), resume_token: resume_token.clone() };
    let opened = rider.watch(body, |mut to, request| async move {
        to.allocation.watch_allocation(request).await
    });
    let mut changes = opened.await?;
    while let Some(change) = changes.message().await? {
        *resume_token = change.resume_token;
        let state = change.allocation.unwrap_or_default().state();
        if let Some(stage) = Stage::of(state).filter(|stage| !stage.is_final()) {
            city.note(|ledger| ledger.reached(ride, stage));
        }
        seen.send_replace(state);
    }
    Ok(())
}

/// Waits for the moment to cancel, which a ride that ends does not keep waiting for.
async fn wait_for(city: &City, ride: usize, moment: Moment, mut sees: watch::Receiver<State>) {
    let journey = &city.plan.journeys[ride];
    match moment {
        Moment::AfterAsking => city.pause(journey.hesitate).await,
        Moment::AfterAcceptance => {
            let accepted = |state: &State| !matches!(state, State::Unspecified | State::Requested);
            sees.wait_for(accepted).await.ok();
            city.pause(journey.hesitate).await;
        }
        Moment::AtStart => {
            let ended = async { drop(sees.wait_for(Final::is_final).await) };
            tokio::select! {
                () = city.starting[ride].notified() => sleep(journey.stagger[1]).await,
                () = ended => {}
            }
        }
    }
}

async fn cancel(city: &City, ride: usize, name: &str) {
    let body = CancelAllocationRequest {
        name: name.to_owned(),
        request_id: city.request_id(),
        etag: String::new(),
        reason: "I changed my mind".to_owned(),
    };
    let rider = &city.riders[city.plan.journeys[ride].rider];
    let asked = rider.call(body, |mut to, request| async move {
        to.allocation.cancel_allocation(request).await
    });
    let told = match asked.await {
        Ok(answer) => {
            let state = answer.body.state();
            city.note(|ledger| ledger.done(ride, Command::Cancel, answer.call, answer.wrote));
            match state {
                State::Cancelled => Cancel::Done,
                State::Cancelling => Cancel::Pending,
                state => Cancel::Refused(format!("OK with {}", state.as_str_name())),
            }
        }
        Err(status) if reason(&status).as_deref() == Some("DRIVING_ALREADY_STARTED") => {
            city.tell(ride, &Happening::TooLate);
            Cancel::TooLate
        }
        Err(status) => Cancel::Refused(said(&status)),
    };
    city.note(|ledger| ledger.rides[ride].cancel = Some(told));
}

/// Which states of an allocation are the last one.
trait Final {
    fn is_final(&self) -> bool;
}

impl Final for State {
    fn is_final(&self) -> bool {
        Stage::of(*self).is_some_and(Stage::is_final)
    }
}
