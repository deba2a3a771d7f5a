//! The context without its broker, what payment says, and callers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{Actor, Clock, Failure, PaymentId, Role, Timestamp, Uuid};
use platform::broker::Delivery;
use platform::consumer::Policies as _;
use platform::context::Context;
use platform::db::{Db, DbConfig};
use platform::shutdown::Shutdown;
use prost::{Message, Name};
use proto::allocation::v1 as wire;
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};
use proto::r#type::v1::Place;
use tempfile::TempDir;
use testkit::TestClock;
use tonic::{Request, Response, Status};
use wire::allocation_service_server::AllocationService;

use crate::app::Allocations;
use crate::dues::Dues;
use crate::grpc::Grpc;
use crate::migration::Migrations;
use crate::policies::Policies;
use crate::{Config, NAME};

/// Payment number n.
pub(super) fn payment(n: u128) -> PaymentId {
    PaymentId(Uuid::from_u128(n))
}

/// What payment can say of a fee.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Approved,
    Deferred,
    Declined,
    Refunded,
}

/// The context without its broker.
pub(super) struct House {
    grpc: Grpc,
    policies: Policies,
    clock: Arc<TestClock>,
    tasks: Shutdown,
    _files: Option<TempDir>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.trigger();
    }
}

/// Runs the test on SQLite and on Postgres.
pub(super) async fn everywhere(refuse_outstanding: bool, test: impl AsyncFn(&House)) {
    let files = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite://{}", files.path().join("allocation.db").display());
    test(&House::at(url, refuse_outstanding, Some(files)).await).await;
    let url = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
    test(&House::at(url, refuse_outstanding, None).await).await;
}

impl House {
    async fn at(url: String, refuse_outstanding: bool, files: Option<TempDir>) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 8 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let broker = testkit::absent_broker(NAME).await;
        let clock = Arc::new(TestClock::at(Timestamp::from_micros(1_000_000_000)));
        let tasks = Shutdown::new();
        let cx = Context::new(NAME, db.clone(), broker, clock.clone(), tasks.clone());
        let config = Config {
            max_open_per_customer: 1,
            expire_after: Duration::from_secs(600),
            refuse_outstanding,
        };
        let allocations = Allocations::new(cx.store(), Dues::new(db), clock.clone(), config);
        let allocations = Arc::new(allocations);
        let policies = Policies::new(allocations.clone());
        let grpc = Grpc { allocations, clock: clock.clone() };
        House { grpc, policies, clock, tasks, _files: files }
    }

    /// An id that nobody has used yet.
    pub(super) fn new_id(&self) -> Uuid {
        self.clock.new_id()
    }

    /// Payment says this of the fee of a customer, as the event with this number.
    pub(super) async fn hear(&self, of: PaymentId, version: i64, word: Word, customer: &str) {
        let (payment, customer) = (of.to_string(), format!("customers/{customer}"));
        let event = match word {
            Word::Approved => event(&PaymentApproved { payment, customer, ..Default::default() }),
            Word::Deferred => event(&PaymentDeferred { payment, customer, ..Default::default() }),
            Word::Declined => event(&PaymentDeclined { payment, customer, ..Default::default() }),
            Word::Refunded => event(&PaymentRefunded { payment, customer, ..Default::default() }),
        };
        let event = Delivery { id: self.new_id(), aggregate: of.0, version, ..event };
        self.apply(&event).await.expect("applied");
    }

    async fn apply(&self, event: &Delivery) -> Result<(), Failure> {
        self.policies.apply(event).await
    }

    /// A customer asks for a car.
    pub(super) async fn ask(&self, customer: &str) -> Result<wire::Allocation, Status> {
        self.ask_as(a_customer(customer), customer, self.new_id()).await
    }

    /// Somebody asks for a car for a customer, with this request id.
    pub(super) async fn ask_as(
        &self,
        by: Actor,
        customer: &str,
        request_id: Uuid,
    ) -> Result<wire::Allocation, Status> {
        let allocation = wire::Allocation {
            customer: format!("customers/{customer}"),
            destination: Some(Place { address: "미사역".to_owned(), location: None }),
            ..Default::default()
        };
        let mut request = Request::new(wire::RequestAllocationRequest {
            allocation: Some(allocation),
            request_id: request_id.to_string(),
        });
        request.extensions_mut().insert(by);
        self.grpc.request_allocation(request).await.map(Response::into_inner)
    }
}

fn event<M: Message + Name>(message: &M) -> Delivery {
    Delivery {
        id: Uuid::nil(),
        kind: M::full_name(),
        context: "payment".to_owned(),
        aggregate: Uuid::nil(),
        version: 1,
        correlation: Uuid::nil(),
        causation: Uuid::nil(),
        time: Timestamp::default(),
        trace: None,
        payload: Bytes::from(message.encode_to_vec()),
        sequence: 0,
    }
}

pub(super) fn a_customer(subject: &str) -> Actor {
    Actor { role: Role::Customer, subject: subject.to_owned() }
}

pub(super) fn operator() -> Actor {
    Actor { role: Role::Operator, subject: "O1".to_owned() }
}
