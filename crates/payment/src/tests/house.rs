//! The context without its broker, a provider that does as it is told, and time that stands still.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
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
use platform::server::Routes;
use platform::shutdown::Shutdown;
use platform::store::Store;
use prost::{Message, Name};
use proto::driving::v1::DrivingFinished;
use proto::payment::v1::payment_service_server::PaymentService;
use proto::payment::v1::{
    GetPaymentRequest, PayFeeRequest, Payment, RefundPaymentRequest, SettlePaymentRequest,
};
use proto::words;
use sea_orm::{EntityTrait, QueryOrder};
use tempfile::TempDir;
use testkit::TestClock;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use crate::app::{Outcome, Payments, RefundRequest};
use crate::grpc::{Grpc, parse_fee, routes};
use crate::migration::Migrations;
use crate::policies::Policies;
use crate::ports::{Charge, Provider, Refund, RefundVerdict, Verdict};
use crate::{Config, NAME, entity, ledger};

/// What the provider does when it is asked the next time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mood {
    /// Refuses.
    Declines,
    /// Is not there.
    Away,
    /// Decides, but its answer gets lost.
    LosesItsAnswer,
    /// Is silent, and hears nothing.
    Hangs,
    /// Decides, says so to `charged`, and answers after `answers`.
    TakesItsTime,
}

/// What the provider has said about charges and refunds, by their keys, and for how much.
#[derive(Default)]
struct Books {
    charges: HashMap<Uuid, (Verdict, Money)>,
    refunds: HashMap<Uuid, (RefundVerdict, Money)>,
}

/// A provider as real ones promise to be: what it has said about a key it says for ever. It approves,
/// unless told otherwise.
#[derive(Default)]
pub(super) struct Simulator {
    books: Mutex<Books>,
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

    /// How often it was asked, and how many charges it has decided on.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::SeqCst), self.books().charges.len())
    }

    /// What it has taken, and given back.
    pub(super) fn moved(&self) -> (i64, i64) {
        let books = self.books();
        let taken = |(verdict, amount): &(Verdict, Money)| match verdict {
            Verdict::Approved { .. } => amount.as_won(),
            _ => 0,
        };
        let given = |(verdict, amount): &(RefundVerdict, Money)| match verdict {
            RefundVerdict::Refunded => amount.as_won(),
            _ => 0,
        };
        (books.charges.values().map(taken).sum(), books.refunds.values().map(given).sum())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("a lock")
    }

    fn next_mood(&self) -> Option<Mood> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.moods.lock().expect("a lock").pop_front()
    }

    /// How the answer comes to whoever has asked.
    async fn answer<T>(&self, mood: Option<Mood>, verdict: T, unknown: T) -> T {
        match mood {
            Some(Mood::LosesItsAnswer) => unknown,
            Some(Mood::TakesItsTime) => {
                self.charged.notify_one();
                self.answers.notified().await;
                verdict
            }
            _ => verdict,
        }
    }
}

#[async_trait::async_trait]
impl Provider for Arc<Simulator> {
    async fn charge(&self, charge: &Charge, _: Duration) -> Verdict {
        let mood = self.next_mood();
        let verdict = match mood {
            Some(Mood::Away) => return Verdict::NotCharged,
            Some(Mood::Hangs) => return Verdict::Unknown,
            Some(Mood::Declines) => Verdict::Declined { reason: "no money".to_owned() },
            _ => Verdict::Approved { reference: format!("ch_{}", charge.key) },
        };
        let decided = {
            let mut books = self.books();
            books.charges.entry(charge.key).or_insert((verdict, charge.amount)).0.clone()
        };
        self.answer(mood, decided, Verdict::Unknown).await
    }

    async fn look_up(&self, charge: &Charge, _: Duration) -> Verdict {
        let mood = self.next_mood();
        if matches!(mood, Some(Mood::Away | Mood::Hangs)) {
            return Verdict::Unknown;
        }
        let known = self.books().charges.get(&charge.key).map(|(verdict, _)| verdict.clone());
        self.answer(mood, known.unwrap_or(Verdict::NotCharged), Verdict::Unknown).await
    }

    async fn refund(&self, refund: &Refund, _: Duration) -> RefundVerdict {
        let mood = self.next_mood();
        if matches!(mood, Some(Mood::Away | Mood::Hangs)) {
            return RefundVerdict::Unknown;
        }
        let approved =
            matches!(self.books().charges.get(&refund.charge), Some((Verdict::Approved { .. }, _)));
        let verdict = match mood {
            Some(Mood::Declines) => RefundVerdict::Refused { reason: "too late".to_owned() },
            _ if !approved => RefundVerdict::Refused { reason: "no such charge".to_owned() },
            _ => RefundVerdict::Refunded,
        };
        let decided = {
            let mut books = self.books();
            books.refunds.entry(refund.key).or_insert((verdict, refund.amount)).0.clone()
        };
        self.answer(mood, decided, RefundVerdict::Unknown).await
    }
}

/// The context without its broker.
pub(super) struct House {
    pub(super) provider: Arc<Simulator>,
    pub(super) grpc: Grpc,
    clock: Arc<TestClock>,
    pub(super) db: Db,
    pub(super) tasks: Shutdown,
    config: Config,
    _files: Option<TempDir>,
}

async fn payments(
    db: &Db,
    clock: &Arc<TestClock>,
    provider: &Arc<Simulator>,
    tasks: &Shutdown,
    config: Config,
) -> Payments {
    let broker = testkit::absent_broker(NAME).await;
    let pokes = Pokes::start(NAME, &broker, Uuid::nil(), tasks);
    let store = Store::start(db.clone(), clock.clone(), pokes, Known::default(), tasks);
    Payments::new(store, db.clone(), Box::new(provider.clone()), clock.clone(), config)
}

impl House {
    async fn on_sqlite(config: Config) -> House {
        let files = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", files.path().join("payment.db").display());
        House::at(url, Some(files), config).await
    }

    async fn on_postgres(config: Config) -> House {
        let url = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
        House::at(url, None, config).await
    }

    async fn at(url: String, files: Option<TempDir>, config: Config) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 8 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let (tasks, clock) = (Shutdown::new(), Arc::new(TestClock::default()));
        let provider = Arc::new(Simulator::default());
        let payments = payments(&db, &clock, &provider, &tasks, config.clone()).await;
        let grpc = Grpc { payments: Arc::new(payments), clock: clock.clone() };
        House { provider, grpc, clock, db, tasks, config, _files: files }
    }

    /// Another replica, which knows nothing of this one but the database.
    pub(super) async fn replica(&self) -> Payments {
        let House { db, clock, provider, tasks, config, .. } = self;
        payments(db, clock, provider, tasks, config.clone()).await
    }

    /// What the context serves.
    pub(super) fn routes(&self) -> Routes {
        routes(self.grpc.payments.clone(), self.clock.clone())
    }

    /// Driving asks for the fee of a ride.
    pub(super) async fn pay(&self, request: PayFeeRequest) -> Result<Payment, Status> {
        let answer = self.grpc.pay_fee(asked(Role::Service, "driving", request)).await;
        answer.map(Response::into_inner)
    }

    /// An operator wants it taken now.
    pub(super) async fn settle(&self, payment: &Payment, request: u128) -> Result<Payment, Status> {
        let name = payment.name.clone();
        let request_id = Uuid::from_u128(request).to_string();
        let request = SettlePaymentRequest { name, request_id, etag: String::new() };
        let answer = self.grpc.settle_payment(asked(Role::Operator, "O1", request)).await;
        answer.map(Response::into_inner)
    }

    /// An operator gives back this much, or all that is left.
    pub(super) async fn refund(
        &self,
        payment: &Payment,
        request: u128,
        won: impl Into<Option<i64>>,
    ) -> Result<Payment, Status> {
        let request = RefundPaymentRequest {
            name: payment.name.clone(),
            request_id: Uuid::from_u128(request).to_string(),
            amount: won.into().map(Money::won).map(words::money),
            reason: "a detour".to_owned(),
            ..Default::default()
        };
        let answer = self.grpc.refund_payment(asked(Role::Operator, "O1", request)).await;
        answer.map(Response::into_inner)
    }

    /// The payment as it is.
    pub(super) async fn now(&self, payment: &Payment) -> Payment {
        let request = GetPaymentRequest { name: payment.name.clone() };
        let answer = self.grpc.get_payment(asked(Role::Operator, "O1", request)).await;
        answer.expect("a payment").into_inner()
    }

    /// The same within this task: to drop it is to kill the process that pays.
    pub(super) async fn pay_here(&self, request: PayFeeRequest) -> Outcome {
        let cause = Cause::own(self.clock.new_id(), "driving");
        self.grpc.payments.pay(&cause, parse_fee(&request)?, None).await
    }

    /// A refund within this task: to drop it is to kill the process that gives back.
    pub(super) async fn refund_here(&self, payment: &Payment, won: i64) -> Outcome {
        let operator = Actor { role: Role::Operator, subject: "O1".to_owned() };
        let cause = Cause { actor: operator, ..Cause::own(self.clock.new_id(), "") };
        let request = RefundRequest {
            payment: payment.name.parse()?,
            etag: None,
            amount: Some(Money::won(won)),
            reason: String::new(),
        };
        self.grpc.payments.refund(&cause, request, None).await
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

    /// Lets time pass until this payment is due, and the reconciler look.
    pub(super) async fn until_due(&self, payment: &Payment) -> Payment {
        let next = payment.next_attempt_time.as_ref().map(words::parse_time).expect("a time");
        assert_eq!(self.after(Duration::ZERO).await, 0, "nothing is due before");
        self.wait(next.since(self.clock.now()));
        assert_eq!(self.after(Duration::ZERO).await, 1);
        self.now(payment).await
    }

    /// Starts what acts on news.
    pub(super) fn act_on_news(&self) -> JoinHandle<()> {
        tokio::spawn(self.grpc.payments.clone().act_on_news(self.tasks.clone()))
    }

    /// Whatever has happened: the ledger is balanced, and it comes to what the payments say.
    async fn check(&self) {
        let balance =
            async |account| ledger::balance(&self.db, account).await.expect("a database").as_won();
        assert_eq!(balance(None).await, 0);
        let rows = entity::Entity::find().all(self.db.reader()).await.expect("a database");
        let taken = rows.iter().filter(|row| ["APPROVED", "REFUNDED"].contains(&&*row.state));
        let kept: i64 = taken.map(|row| row.amount - row.refunded_amount).sum();
        assert_eq!(balance(Some(ledger::PROVIDER_RECEIVABLE)).await, kept);
        assert_eq!(balance(Some(ledger::FARES_EARNED)).await, -kept);
        // Unless an answer is outstanding, the provider's own books say the same.
        if rows.iter().all(|row| row.due_time.is_none()) {
            let (taken, given) = self.provider.moved();
            assert_eq!(taken - given, kept);
        }
    }

    /// The events so far: their names and versions.
    pub(super) async fn events(&self) -> Vec<(String, i64)> {
        let rows = row::Entity::find().order_by_asc(row::Column::Id).all(self.db.reader()).await;
        let name = |kind: &str| kind.trim_start_matches("taxi.payment.v1.").to_owned();
        let rows = rows.expect("a database");
        rows.into_iter().map(|event| (name(&event.kind), event.version)).collect()
    }
}

pub(super) async fn everywhere(test: impl AsyncFn(&House)) {
    everywhere_with(Config::default(), test).await;
}

pub(super) async fn everywhere_with(config: Config, test: impl AsyncFn(&House)) {
    for house in [House::on_sqlite(config.clone()).await, House::on_postgres(config.clone()).await]
    {
        test(&house).await;
        house.check().await;
    }
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
