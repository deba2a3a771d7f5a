//! The context without its broker: on SQLite and on Postgres.

use std::sync::Arc;

use bytes::Bytes;
use kernel::{Actor, AllocationId, Clock, Role, Timestamp, Uuid};
use platform::broker::Delivery;
use platform::consumer::Policies as _;
use platform::context::Context;
use platform::db::{Db, DbConfig};
use platform::shutdown::Shutdown;
use platform::{outbox, status};
use prost::{Message, Name};
use proto::__name__::v1::__name___service_server::__Name__Service;
use proto::__name__::v1::{
    Create__Name__Request, Get__Name__Request, List__Names__Request, __Name__, __Name__Created,
};
use proto::driving::v1::DrivingFinished;
use testkit::TestClock;
use tonic::{Code, Request, Response, Status};

use crate::NAME;
use crate::app::__Names__;
use crate::grpc::Grpc;
use crate::migration::Migrations;
use crate::policies::Policies;

/// The context without its broker.
struct House {
    grpc: Grpc,
    policies: Policies,
    clock: Arc<TestClock>,
    db: Db,
    tasks: Shutdown,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.trigger();
    }
}

/// Runs the test on SQLite and on Postgres.
async fn everywhere(test: impl AsyncFn(&House)) {
    let files = tempfile::tempdir().expect("a directory");
    let sqlite = format!("sqlite://{}", files.path().join("__name__.db").display());
    test(&House::at(sqlite).await).await;
    let postgres = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
    test(&House::at(postgres).await).await;
}

impl House {
    async fn at(url: String) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 8 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let broker = testkit::absent_broker(NAME).await;
        let (clock, tasks) = (Arc::new(TestClock::default()), Shutdown::new());
        let cx = Context::new(NAME, db.clone(), broker, clock.clone(), tasks.clone());
        let __names__ = Arc::new(__Names__::new(cx.store(), clock.clone()));
        let policies = Policies::new(__names__.clone());
        House { grpc: Grpc { __names__, clock: clock.clone() }, policies, clock, db, tasks }
    }

    async fn create(&self, by: &str, request: Create__Name__Request) -> Result<__Name__, Status> {
        self.grpc.create___name__(asked(by, request)).await.map(Response::into_inner)
    }

    async fn get(&self, by: &str, name: &str) -> Result<__Name__, Status> {
        let request = Get__Name__Request { name: name.to_owned() };
        self.grpc.get___name__(asked(by, request)).await.map(Response::into_inner)
    }

    async fn list(&self, by: &str) -> Vec<__Name__> {
        let request = List__Names__Request::default();
        let page = self.grpc.list___names__(asked(by, request)).await.expect("a page");
        page.into_inner().__names__
    }

    /// Driving says that the ride of this customer is over.
    fn finished(&self, ride: AllocationId, customer: &str) -> Delivery {
        let event = DrivingFinished {
            allocation: ride.to_string(),
            customer: format!("customers/{customer}"),
            ..Default::default()
        };
        Delivery {
            id: self.clock.new_id(),
            kind: DrivingFinished::full_name(),
            context: "driving".to_owned(),
            aggregate: self.clock.new_id(),
            version: 4,
            correlation: ride.0,
            causation: Uuid::nil(),
            time: Timestamp::default(),
            trace: None,
            payload: Bytes::from(event.encode_to_vec()),
            sequence: 4,
        }
    }
}

fn asked<T>(by: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Actor { role: Role::Customer, subject: by.to_owned() });
    request
}

fn wish(request_id: u128, note: &str) -> Create__Name__Request {
    Create__Name__Request {
        __name__: Some(__Name__ { note: note.to_owned(), ..Default::default() }),
        request_id: Uuid::from_u128(request_id).to_string(),
    }
}

fn refused<T>(answer: Result<T, Status>) -> (Code, Option<String>) {
    let status = answer.err().expect("refused");
    (status.code(), status::reason(&status))
}

#[tokio::test]
async fn a_repeated_create_has_one_effect_and_one_event() {
    everywhere(async |house| {
        let created = house.create("C1", wish(1, "well driven")).await.expect("created");
        assert_eq!((&*created.customer, &*created.note), ("customers/C1", "well driven"));
        let again = house.create("C1", wish(1, "well driven")).await.expect("the first answer");
        assert_eq!(again, created);
        let reused = refused(house.create("C1", wish(1, "badly driven")).await);
        assert_eq!(reused, (Code::AlreadyExists, Some("REQUEST_ID_REUSED".to_owned())));

        assert_eq!(house.list("C1").await, std::slice::from_ref(&created));
        let events = outbox::list(&house.db, false, 10).await.expect("a database");
        let [event] = &events[..] else { panic!("one event, not {}", events.len()) };
        assert_eq!(event.kind, __Name__Created::full_name());
        let event = __Name__Created::decode(event.payload.as_slice()).expect("the event");
        assert_eq!((event.__name__, event.note), (created.name, created.note));
    })
    .await;
}

#[tokio::test]
async fn everybody_sees_what_is_theirs() {
    everywhere(async |house| {
        let created = house.create("C1", wish(1, "")).await.expect("created");
        assert_eq!(house.get("C1", &created.name).await.expect("theirs"), created);
        let hidden = (Code::NotFound, Some("__NAME___NOT_FOUND".to_owned()));
        assert_eq!(refused(house.get("C2", &created.name).await), hidden);
        assert_eq!(house.list("C2").await, []);
    })
    .await;
}

#[tokio::test]
async fn a_bad_request_is_refused_with_its_field() {
    everywhere(async |house| {
        let invalid = (Code::InvalidArgument, Some("INVALID___NAME__".to_owned()));
        assert_eq!(refused(house.create("C1", wish(1, "a\nb")).await), invalid);
        let about = __Name__ { allocation: "drivings/1".to_owned(), ..Default::default() };
        let request = Create__Name__Request { __name__: Some(about), ..wish(2, "") };
        let status = house.create("C1", request).await.expect_err("no allocation");
        assert_eq!(status::reason(&status).as_deref(), Some("INVALID_NAME"));
    })
    .await;
}

#[tokio::test]
async fn a_finished_ride_brings_one_however_often_it_is_told() {
    everywhere(async |house| {
        let ride = AllocationId(house.clock.new_id());
        let finished = house.finished(ride, "C1");
        house.policies.apply(&finished).await.expect("applied");
        house.policies.apply(&finished).await.expect("known");
        let [created] = &house.list("C1").await[..] else { panic!("one") };
        assert_eq!(created.allocation, ride.to_string());
        let events = outbox::list(&house.db, false, 10).await.expect("a database");
        assert_eq!(events[0].correlation, ride.0, "the event belongs to the ride");
    })
    .await;
}
