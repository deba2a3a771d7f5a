//! Work that goes on while something is away, and rides that wait for it half way.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use kernel::Uuid;
use proto::allocation::v1::allocation::State;
use proto::allocation::v1::{Allocation, RequestAllocationRequest};
use proto::driving::v1::{
    AcceptDrivingRequest, Driving, FinishDrivingRequest, StartDrivingRequest,
};
use proto::message::v1::message::Template;
use testkit::{Mesh, eventually};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::{Code, Request, Response, Status};

use super::evidence::is_told;
use crate::people::{Customer, Driver, SOON, reason, wish};

/// How often somebody wants something.
const PACE: Duration = Duration::from_millis(200);
/// How long people wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many people come back at the same time.
const AT_ONCE: usize = 16;

/// Begins one piece of work after the other for this long. What is not done by then goes on.
pub(crate) async fn busy<F, T>(length: Duration, mut work: impl FnMut(usize) -> F) -> JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (mut begun, end) = (JoinSet::new(), Instant::now() + length);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0.. {
        pace.tick().await;
        if Instant::now() >= end {
            break;
        }
        begun.spawn(work(n));
    }
    begun
}

/// A request for which its sender waits a while.
pub(crate) fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A request id: what one person does has a number.
fn request_id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

/// That a refusal says: not now, come again.
pub(crate) fn says_come_again(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(reason(status), "STORE_UNAVAILABLE", "{status:?}");
    assert!(platform::status::retry_after(status).is_some(), "{status:?}");
}

/// Many customers, who ask for a car each.
pub(crate) struct Crowd(Vec<Arc<Customer>>);

/// Who has asked, and what the answer was.
pub(crate) type Asked = (Arc<Customer>, Result<Allocation, Status>);

impl Crowd {
    /// As many customers as can ask in this time.
    pub(crate) async fn of(mesh: &Mesh, length: Duration) -> Crowd {
        Crowd::called(mesh, "C", length).await
    }

    /// As many customers as can ask in this time, for a mesh that has others.
    pub(crate) async fn called(mesh: &Mesh, who: &str, length: Duration) -> Crowd {
        let subjects = (0..=length.as_millis() / PACE.as_millis()).map(|n| format!("{who}-{n}"));
        let customer = async |subject: String| Arc::new(Customer::new(mesh, &subject).await);
        Crowd(join_all(subjects.map(customer)).await)
    }

    /// They ask, one after the other.
    pub(crate) fn ask(self, length: Duration) -> JoinHandle<JoinSet<Asked>> {
        tokio::spawn(busy(length, move |n| {
            let customer = self.0[n].clone();
            async move {
                let answer = ask(&customer).await;
                (customer, answer)
            }
        }))
    }

    /// They all ask at the same time.
    pub(crate) async fn ask_at_once(self) -> Vec<Asked> {
        join_all(self.0.into_iter().map(async |customer| {
            let answer = ask(&customer).await;
            (customer, answer)
        }))
        .await
    }
}

/// Asks for a car, always under the same request id.
async fn ask(customer: &Customer) -> Result<Allocation, Status> {
    let request = RequestAllocationRequest { request_id: request_id(1), ..wish("Misa") };
    let mut client = customer.allocations.clone();
    client.request_allocation(patient(request)).await.map(Response::into_inner)
}

/// Waits until all of them have asked with success, and are told so once.
pub(crate) async fn are_served(asked: Vec<Asked>) {
    let served = asked.into_iter().map(async |(customer, first)| {
        // Nothing is away any more.
        let again = eventually(SOON, || ask(&customer)).await;
        if let Ok(first) = first {
            assert_eq!(first, again, "the first answer stays the answer");
        }
        is_told(&customer, &again.name, &NEWS[..1]).await;
    });
    stream::iter(served).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// What a customer is told in the course of a ride.
const NEWS: [Template; 5] = [
    Template::AllocationRequested,
    Template::AllocationApproved,
    Template::DrivingStarted,
    Template::DrivingFinished,
    Template::PaymentApproved,
];

/// A ride that has come some way.
struct Ride {
    customer: Customer,
    driver: Driver,
    allocation: String,
    driving: String,
}

impl Ride {
    /// A driver sees the request.
    async fn opened(mesh: &Mesh, who: &str) -> Ride {
        let mut customer = Customer::new(mesh, &format!("C-{who}")).await;
        let driver = Driver::new(mesh, &format!("D-{who}")).await;
        let allocation = customer.request().await.name;
        let driving = driver.finds(&allocation).await.name;
        Ride { customer, driver, allocation, driving }
    }

    async fn accept(&self) -> Result<Driving, Status> {
        let (name, request_id) = (self.driving.clone(), request_id(1));
        let request = AcceptDrivingRequest { name, request_id, ..Default::default() };
        let answer = self.driver.drivings.clone().accept_driving(patient(request)).await;
        answer.map(Response::into_inner)
    }

    async fn start(&self) -> Result<Driving, Status> {
        let (name, request_id) = (self.driving.clone(), request_id(2));
        let request = StartDrivingRequest { name, request_id, ..Default::default() };
        let answer = self.driver.drivings.clone().start_driving(patient(request)).await;
        answer.map(Response::into_inner)
    }

    async fn finish(&self) -> Result<Driving, Status> {
        let (name, request_id) = (self.driving.clone(), request_id(3));
        let request = FinishDrivingRequest { name, request_id, ..Default::default() };
        let answer = self.driver.drivings.clone().finish_driving(patient(request)).await;
        answer.map(Response::into_inner)
    }

    /// Waits until the customer sees this, and was told all that leads to it.
    async fn is(&self, state: State) {
        let news = match state {
            State::Approved => &NEWS[..2],
            State::DrivingStarted => &NEWS[..3],
            _ => &NEWS[..],
        };
        self.customer.sees(&self.allocation, state).await;
        is_told(&self.customer, &self.allocation, news).await;
    }
}

/// Rides that wait for a command of their drivers.
pub(crate) struct Rides {
    opened: Ride,
    accepted: Ride,
    started: Ride,
}

impl Rides {
    /// One that nobody has accepted, one that has not started, one that has not finished.
    pub(crate) async fn half_way(mesh: &Mesh) -> Rides {
        let opened = Ride::opened(mesh, "opened").await;
        let accepted = Ride::opened(mesh, "accepted").await;
        let started = Ride::opened(mesh, "started").await;
        accepted.accept().await.expect("nobody else is there");
        started.accept().await.expect("nobody else is there");
        started.start().await.expect("accepted");
        Rides { opened, accepted, started }
    }

    /// The command that one of them waits for, always under the same request id.
    pub(crate) async fn command(&self, n: usize) -> Result<Driving, Status> {
        match n % 3 {
            0 => self.opened.accept().await,
            1 => self.accepted.start().await,
            _ => self.started.finish().await,
        }
    }

    /// Gives all of them their command, with success.
    pub(crate) async fn go_on(&self) {
        for outcome in join_all((0..3).map(|n| self.command(n))).await {
            outcome.expect("it is its driver's turn");
        }
    }

    /// Waits until all of them have gone on, once, and everybody knows.
    pub(crate) async fn have_gone_on(&self) {
        self.opened.is(State::Approved).await;
        self.accepted.is(State::DrivingStarted).await;
        self.started.is(State::DrivingFinished).await;
        assert_eq!(self.started.customer.payments().await.len(), 1, "the fee is taken once");
    }
}
