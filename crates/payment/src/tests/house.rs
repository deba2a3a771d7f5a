//! The context without its broker, a provider that does as it is told, and time that stands still.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kernel::{
    Actor, AllocationId, Cause, Clock, CustomerId, DrivingId, Failure, Money, Role, Uuid,
};
use platform::broker::Delivery;
use platform::consumer::Known;
use platform::consumer::Policies as _;
use platform::db::{Db, DbConfig};
use platform::outbox::{Pokes, row};
use platform::shutdown::Shutdown;
use platform::store::Store;
use prost::{Message, Name};
use proto::driving::v1::DrivingFinished;
use proto::payment::v1::payment_service_server::PaymentService;
use proto::payment::v1::{PayFeeRequest, Payment};
use proto::words;
use sea_orm::{EntityTrait, QueryOrder};
use tempfile::TempDir;
use testkit::TestClock;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::app::{Outcome, Payments};
use crate::grpc::{Grpc, parse_fee};
use crate::migration::Migrations;
use crate::policies::Policies;
use crate::ports::{Charge, Provider, Verdict};
use crate::{Config, NAME};

/// What the provider does when it is asked the next time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    /// Refuses.
    Declines,
    /// Is not there.
    Away,
    /// Charges, but its answer gets lost.
    LosesItsAnswer,
    /// Charges, says so to `charged`, and answers after `answers`.
    TakesItsTime,
}

/// A provider as real ones promise to be: a key is charged once. It approves, unless told otherwise.
#[derive(Default)]
pub(super) struct Simulator {
    charges: Mutex<HashMap<Uuid, Verdict>>,
    moods: Mutex<VecDeque<Mood>>,
    asked: AtomicUsize,
    pub(super) charged: Notify,
    pub(super) answers: Notify,
}

impl Simulator {
    /// What it does when it is asked the next times.
    pub(super) fn is<const N: usize>(&self, moods: [Mood; N]) {
        self.moods.lock().expect("a lock").extend(moods);
    }

    /// How often it was asked, and how many charges it has made.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::SeqCst), self.charges.lock().expect("a lock").len())
    }

    fn decide(&self, key: Uuid, verdict: Verdict) -> Verdict {
        self.charges.lock().expect("a lock").entry(key).or_insert(verdict).clone()
    }
}

#[async_trait::async_trait]
impl Provider for Arc<Simulator> {
    async fn charge(&self, charge: &Charge, _: Duration) -> Verdict {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = self.moods.lock().expect("a lock").pop_front();
        let approved = Verdict::Approved { reference: format!("ch_{}", charge.key) };
        match mood {
            None => self.decide(charge.key, approved),
            Some(Mood::Declines) => {
                self.decide(charge.key, Verdict::Declined { reason: "no money".to_owned() })
            }
            Some(Mood::Away) => Verdict::NotCharged,
            Some(Mood::LosesItsAnswer) => {
                self.decide(charge.key, approved);
                Verdict::Unknown
            }
            Some(Mood::TakesItsTime) => {
                let verdict = self.decide(charge.key, approved);
                self.charged.notify_one();
                self.answers.notified().await;
                verdict
            }
        }
    }
}

/// The context without its broker.
pub(super) struct House {
    pub(super) provider: Arc<Simulator>,
    pub(super) grpc: Grpc,
    clock: Arc<TestClock>,
    db: Db,
    tasks: Shutdown,
    _files: Option<TempDir>,
}

impl House {
    async fn on_sqlite() -> House {
        let files = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", files.path().join("payment.db").display());
        House::at(url, Some(files)).await
    }

    async fn on_postgres() -> House {
        let url = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
        House::at(url, None).await
    }

    async fn at(url: String, files: Option<TempDir>) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 8 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let broker = testkit::absent_broker(NAME).await;
        let (tasks, clock) = (Shutdown::new(), Arc::new(TestClock::default()));
        let store = {
            let pokes = Pokes::start(NAME, &broker, Uuid::nil(), &tasks);
            Store::start(db.clone(), clock.clone(), pokes, Known::default(), &tasks)
        };
        let provider = Arc::new(Simulator::default());
        let asked = Box::new(provider.clone());
        let payments = Payments::new(store, db.clone(), asked, clock.clone(), Config::default());
        let grpc = Grpc { payments: Arc::new(payments), clock: clock.clone() };
        House { provider, grpc, clock, db, tasks, _files: files }
    }

    /// Driving asks for the fee of a ride.
    pub(super) async fn pay(&self, request: PayFeeRequest) -> Result<Payment, Status> {
        let answer = self.grpc.pay_fee(asked(Role::Service, "driving", request)).await;
        answer.map(Response::into_inner)
    }

    /// The same within this task: to drop it is to kill the process that pays.
    pub(super) async fn pay_here(&self, request: PayFeeRequest) -> Outcome {
        let cause = Cause::own(self.clock.new_id(), "driving");
        self.grpc.payments.pay(&cause, parse_fee(&request)?, None).await
    }

    /// Driving says that the ride is over.
    pub(super) async fn finished(&self, request: PayFeeRequest) -> Result<(), Failure> {
        let driving: DrivingId = request.driving.parse().expect("a name");
        let event = DrivingFinished {
            allocation: request.allocation,
            customer: request.customer,
            driving: request.driving,
            fare: request.amount,
            ..Default::default()
        };
        let delivery = Delivery {
            id: self.clock.new_id(),
            kind: DrivingFinished::full_name(),
            context: "driving".to_owned(),
            aggregate: driving.0,
            version: 3,
            correlation: Uuid::nil(),
            causation: Uuid::nil(),
            time: self.clock.now(),
            trace: None,
            payload: Bytes::from(event.encode_to_vec()),
            sequence: 3,
        };
        Policies::new(self.grpc.payments.clone()).apply(&delivery).await
    }

    /// Lets time pass and the reconciler look; answers how many payments were due.
    pub(super) async fn after(&self, pause: Duration) -> usize {
        self.wait(pause);
        self.grpc.payments.attempt_due(&self.tasks).await.expect("a database")
    }

    /// Lets time pass while no reconciler looks.
    pub(super) fn wait(&self, pause: Duration) {
        self.clock.advance(pause);
    }

    /// The events so far: their names and versions.
    pub(super) async fn events(&self) -> Vec<(String, i64)> {
        let rows = row::Entity::find().order_by_asc(row::Column::Id).all(self.db.reader()).await;
        let name = |kind: &str| kind.trim_start_matches("taxi.payment.v1.").to_owned();
        let rows = rows.expect("a database");
        rows.into_iter().map(|event| (name(&event.kind), event.version)).collect()
    }
}

pub(super) async fn everywhere(test: impl AsyncFn(House)) {
    test(House::on_sqlite().await).await;
    test(House::on_postgres().await).await;
}

pub(super) fn asked<T>(role: Role, subject: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Actor { role, subject: subject.to_owned() });
    request
}

/// The wish to take the fee of ride n, in the request of this number.
pub(super) fn fee(ride: u128, request: u128) -> PayFeeRequest {
    PayFeeRequest {
        driving: DrivingId(Uuid::from_u128(ride << 8 | 1)).to_string(),
        allocation: AllocationId(Uuid::from_u128(ride << 8)).to_string(),
        customer: CustomerId::from_subject(format!("C{ride}")).to_string(),
        amount: Some(words::money(Money::won(3000))),
        request_id: Uuid::from_u128(request).to_string(),
    }
}
