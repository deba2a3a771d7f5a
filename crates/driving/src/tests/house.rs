//! The context without its broker, what happens in it, and callers.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kernel::{
    Actor, AllocationId, Clock, CustomerId, DriverId, DrivingId, Failure, Location, Money,
    PaymentId, Place, Role, Timestamp, Uuid,
};
use platform::broker::Delivery;
use platform::consumer::Policies as _;
use platform::context::Context;
use platform::db::{Db, DbConfig};
use platform::outbox;
use platform::shutdown::Shutdown;
use platform::status::reason;
use prost::{Message, Name};
use proto::allocation::v1::AllocationRequested;
use proto::driving::v1 as wire;
use proto::google::r#type::LatLng;
use proto::words;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use tempfile::TempDir;
use testkit::TestClock;
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};
use wire::driving_service_server::DrivingService;

use crate::app::Drivings;
use crate::domain::{Charge, Fee, Ride};
use crate::fare::Tariff;
use crate::grpc::Grpc;
use crate::migration::Migrations;
use crate::policies::Policies;
use crate::ports::Payments;
use crate::{Config, FareConfig, NAME};

pub(crate) fn driver(subject: &str) -> DriverId {
    DriverId::from_subject(subject)
}

pub(crate) fn tariff() -> Tariff {
    Tariff::flat(Money::won(1_000), "2021-07")
}

/// The ride of allocation number n.
pub(crate) fn ride(n: u128) -> Ride {
    Ride {
        allocation: allocation(n),
        customer: CustomerId::from_subject("C1"),
        pickup: None,
        destination: Place::parse("destination", "미사역", None).expect("a place"),
    }
}

pub(crate) fn fee() -> Fee {
    Fee {
        driving: DrivingId(Uuid::from_u128(1)),
        allocation: allocation(1),
        customer: CustomerId::from_subject("C1"),
        amount: Money::won(2_000),
    }
}

pub(super) fn allocation(n: u128) -> AllocationId {
    AllocationId(Uuid::from_u128(n))
}

pub(super) fn payment() -> PaymentId {
    PaymentId(Uuid::from_u128(7))
}

/// Answers as it was told to; without an answer it never does.
#[derive(Clone)]
pub(super) struct Till {
    answer: Arc<Mutex<Option<Charge>>>,
    charges: Arc<Mutex<Vec<(Fee, Duration)>>>,
    asked: Arc<Notify>,
}

impl Till {
    pub(super) fn answers(&self, answer: Option<Charge>) {
        *self.answer.lock().expect("no panic") = answer;
    }

    pub(super) fn charges(&self) -> Vec<(Fee, Duration)> {
        self.charges.lock().expect("no panic").clone()
    }

    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl Payments for Till {
    async fn charge(&self, fee: &Fee, within: Duration) -> Charge {
        self.charges.lock().expect("no panic").push((fee.clone(), within));
        self.asked.notify_one();
        let answer = *self.answer.lock().expect("no panic");
        match answer {
            Some(charge) => charge,
            None => std::future::pending().await,
        }
    }
}

/// The context without its broker.
pub(super) struct House {
    pub(super) clock: Arc<TestClock>,
    pub(super) till: Till,
    db: Db,
    grpc: Grpc<Till>,
    policies: Policies<Till>,
    tasks: Shutdown,
    _files: Option<TempDir>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.trigger();
    }
}

/// Runs the test on SQLite and on Postgres.
pub(super) async fn everywhere(test: impl AsyncFn(&House)) {
    let files = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite://{}", files.path().join("driving.db").display());
    test(&House::at(url, Some(files)).await).await;
    let url = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
    test(&House::at(url, None).await).await;
}

impl House {
    async fn at(url: String, files: Option<TempDir>) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 8 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let broker = testkit::absent_broker(NAME).await;
        let clock = Arc::new(TestClock::at(Timestamp::from_micros(1_000_000_000)));
        let tasks = Shutdown::new();
        let cx = Context::new(NAME, db.clone(), broker, clock.clone(), tasks.clone());
        let till = Till {
            answer: Arc::new(Mutex::new(Some(Charge::Approved(payment())))),
            charges: Arc::default(),
            asked: Arc::default(),
        };
        let fare = FareConfig {
            won_per_minute: 1_000.try_into().expect("not 0"),
            policy_version: "2021-07".to_owned(),
        };
        let config = Config { fare, payment_deadline: Duration::from_millis(800) };
        let drivings = Arc::new(Drivings::new(&cx, config, till.clone()));
        let policies = Policies::new(drivings.clone());
        let grpc = Grpc { drivings, clock: clock.clone() };
        House { clock, till, db, grpc, policies, tasks, _files: files }
    }

    /// The context hears of an event.
    pub(super) async fn hear<M: Message + Name>(&self, message: &M) -> Result<(), Failure> {
        self.policies.apply(&self.event(message)).await
    }

    pub(super) async fn hear_again(&self, event: &Delivery) -> Result<(), Failure> {
        self.policies.apply(event).await
    }

    pub(super) fn event<M: Message + Name>(&self, message: &M) -> Delivery {
        Delivery {
            id: self.clock.new_id(),
            kind: M::full_name(),
            context: String::new(),
            aggregate: self.clock.new_id(),
            version: 1,
            correlation: Uuid::nil(),
            causation: Uuid::nil(),
            time: self.clock.now(),
            trace: None,
            payload: Bytes::from(message.encode_to_vec()),
            sequence: 0,
        }
    }

    /// Opens a driving for allocation n; answers its name.
    pub(super) async fn open(&self, n: u128, pickup: Option<(f64, f64)>) -> String {
        self.hear(&asked_for(n, pickup)).await.expect("opens");
        let all = self.list(operator(), Default::default()).await.expect("a page").drivings;
        let serving = allocation(n).to_string();
        all.into_iter().find(|it| it.allocation == serving).expect("opened").name
    }

    pub(super) async fn get(&self, by: Actor, name: &str) -> Result<wire::Driving, Status> {
        let request = wire::GetDrivingRequest { name: name.to_owned() };
        self.grpc.get_driving(asked(by, request)).await.map(Response::into_inner)
    }

    pub(super) async fn list(
        &self,
        by: Actor,
        request: wire::ListDrivingsRequest,
    ) -> Result<wire::ListDrivingsResponse, Status> {
        self.grpc.list_drivings(asked(by, request)).await.map(Response::into_inner)
    }

    /// The names of what a caller's list contains.
    pub(super) async fn names(&self, by: Actor) -> Vec<String> {
        let page = self.list(by, Default::default()).await.expect("a page");
        page.drivings.into_iter().map(|it| it.name).collect()
    }

    pub(super) async fn accept(&self, by: &str, name: &str) -> Result<wire::Driving, Status> {
        let request = wire::AcceptDrivingRequest { name: name.to_owned(), ..Default::default() };
        self.accept_as(by, request).await
    }

    pub(super) async fn accept_as(
        &self,
        by: &str,
        request: wire::AcceptDrivingRequest,
    ) -> Result<wire::Driving, Status> {
        self.grpc.accept_driving(asked(a_driver(by), request)).await.map(Response::into_inner)
    }

    pub(super) async fn decline(
        &self,
        by: &str,
        name: &str,
        request_id: Uuid,
    ) -> Result<wire::Driving, Status> {
        let request = wire::DeclineDrivingRequest {
            name: name.to_owned(),
            request_id: request_id.to_string(),
            ..Default::default()
        };
        self.grpc.decline_driving(asked(a_driver(by), request)).await.map(Response::into_inner)
    }

    pub(super) async fn start(&self, by: &str, name: &str) -> Result<wire::Driving, Status> {
        let request = wire::StartDrivingRequest { name: name.to_owned(), ..Default::default() };
        self.grpc.start_driving(asked(a_driver(by), request)).await.map(Response::into_inner)
    }

    pub(super) async fn finish(
        &self,
        by: &str,
        name: &str,
        request_id: Uuid,
    ) -> Result<wire::Driving, Status> {
        let request = wire::FinishDrivingRequest {
            name: name.to_owned(),
            request_id: request_id.to_string(),
            ..Default::default()
        };
        self.grpc.finish_driving(asked(a_driver(by), request)).await.map(Response::into_inner)
    }

    pub(super) async fn watch(
        &self,
        by: &str,
        request: wire::WatchOpenDrivingsRequest,
    ) -> Result<<Grpc<Till> as DrivingService>::WatchOpenDrivingsStream, Status> {
        let answer = self.grpc.watch_open_drivings(asked(a_driver(by), request)).await;
        answer.map(Response::into_inner)
    }

    /// What has happened to a driving, and to which allocation each event belongs.
    pub(super) async fn history(&self, name: &str) -> Vec<(String, Uuid)> {
        let id: DrivingId = name.parse().expect("a name");
        let rows = outbox::row::Entity::find()
            .filter(outbox::row::Column::Aggregate.eq(id.0))
            .order_by_asc(outbox::row::Column::Version)
            .all(self.db.reader())
            .await
            .expect("rows");
        let word = |kind: &str| kind.rsplit('.').next().unwrap_or_default().to_owned();
        rows.iter().map(|row| (word(&row.kind), row.correlation)).collect()
    }

    /// The words of [`history`](House::history).
    pub(super) async fn events(&self, name: &str) -> Vec<String> {
        self.history(name).await.into_iter().map(|(event, _)| event).collect()
    }
}

/// A customer has asked for allocation n.
pub(super) fn asked_for(n: u128, pickup: Option<(f64, f64)>) -> AllocationRequested {
    let place = |at: (f64, f64)| {
        let at = Location::parse("pickup", at.0, at.1).expect("on the globe");
        words::place(&Place::parse("pickup", "여기", Some(at)).expect("a place"))
    };
    let ride = ride(n);
    AllocationRequested {
        allocation: ride.allocation.to_string(),
        customer: ride.customer.to_string(),
        pickup: pickup.map(place),
        destination: Some(words::place(&ride.destination)),
        ..Default::default()
    }
}

pub(super) fn latlng(at: (f64, f64)) -> Option<LatLng> {
    Some(LatLng { latitude: at.0, longitude: at.1 })
}

/// The next element of a watch, as (change, name).
pub(super) async fn next(
    watch: &mut <Grpc<Till> as DrivingService>::WatchOpenDrivingsStream,
) -> (wire::watch_open_drivings_response::Change, wire::Driving) {
    let element = soon(watch.next()).await.expect("goes on").expect("no error");
    (element.change(), element.driving.expect("always there"))
}

/// Fails a test that would wait for ever.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("happens in time")
}

fn asked<T>(by: Actor, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(by);
    request
}

pub(super) fn a_driver(subject: &str) -> Actor {
    Actor { role: Role::Driver, subject: subject.to_owned() }
}

pub(super) fn a_customer(subject: &str) -> Actor {
    Actor { role: Role::Customer, subject: subject.to_owned() }
}

pub(super) fn operator() -> Actor {
    Actor { role: Role::Operator, subject: "O1".to_owned() }
}

pub(super) fn refused<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("refused");
    (status.code(), reason(&status).unwrap_or_default())
}
