//! The context without its broker, what happens to rides, and callers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{Actor, Failure, Role, Timestamp, Uuid};
use platform::broker::Delivery;
use platform::call::Deadline;
use platform::db::{Db, DbConfig};
use platform::lease::Shards;
use platform::projection::{Projection, View, checkpoint};
use platform::shutdown::Shutdown;
use platform::status::reason;
use prost::{Message, Name};
use proto::allocation::v1::AllocationRequested;
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::{
    DrivingInfo, GetDrivingInfoRequest, ListDrivingInfosRequest, ListDrivingInfosResponse,
    WatchDrivingInfosRequest,
};
use proto::driving::v1::{DrivingApproved, DrivingFinished};
use proto::google::r#type::Money;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use tempfile::TempDir;
use testkit::TestClock;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::entity::{Column, Entity};
use crate::grpc::Dashboard;
use crate::projection::DrivingInfos;
use crate::query::Queries;
use crate::{Config, Migrations, NAME};

/// Time stands still: all events happen at their number in seconds.
const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

/// The context without its broker.
pub(super) struct House {
    pub(super) db: Db,
    pub(super) dashboard: Dashboard,
    pub(super) queries: Queries,
    pub(super) tasks: Shutdown,
    projection: Projection<DrivingInfos>,
    _files: Option<TempDir>,
}

impl House {
    pub(super) async fn on_sqlite() -> House {
        let files = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", files.path().join("dashboard.db").display());
        House::at(url, Some(files)).await
    }

    async fn on_postgres() -> House {
        let url = testkit::Postgres::shared().await.database(NAME).await.expect("a database");
        House::at(url, None).await
    }

    async fn at(url: String, files: Option<TempDir>) -> House {
        let db = Db::connect(&DbConfig { url, max_connections: 4 }).await.expect("a URL");
        db.migrate::<Migrations>().await.expect("migrates");
        let broker = testkit::absent_broker(NAME).await;
        let shards = Shards::new(db.clone(), NAME, Uuid::nil(), broker.shards());
        let view = DrivingInfos { broker: broker.clone() };
        let clock = Arc::new(TestClock::at(NOW));
        let projection = Projection::new(NAME, broker, db.clone(), clock.clone(), shards, view);
        let tasks = Shutdown::new();
        let queries = Queries {
            db: db.clone(),
            clock,
            freshness: projection.freshness(),
            tasks: tasks.clone(),
            stuck_after: Config::default().stuck_after,
        };
        let dashboard = Dashboard::new(queries.clone());
        House { db, dashboard, queries, tasks, projection, _files: files }
    }

    /// One batch and its checkpoint, as the platform does it.
    pub(super) async fn fold(&self, batch: &[Delivery]) -> Result<(), Failure> {
        let tx = self.db.begin().await.expect("a transaction");
        let end = batch.iter().map(|it| it.sequence as i64).max().unwrap_or(0);
        let rows = (0..self.projection.broker.shards()).map(|shard| checkpoint::ActiveModel {
            consumer: Set(NAME.to_owned()),
            shard: Set(shard as i32),
            sequence: Set(end),
            complete_at: Set(NOW.minus(Duration::from_secs(2)).micros()),
            stored_at: Set(0),
        });
        let key = [checkpoint::Column::Consumer, checkpoint::Column::Shard];
        let further = Expr::cust(
            "CASE WHEN excluded.sequence > checkpoint.sequence THEN excluded.sequence \
             ELSE checkpoint.sequence END",
        );
        let moved = OnConflict::columns(key)
            .value(checkpoint::Column::Sequence, further)
            .update_column(checkpoint::Column::CompleteAt)
            .to_owned();
        checkpoint::Entity::insert_many(rows)
            .on_conflict(moved)
            .exec_without_returning(&tx)
            .await
            .expect("a checkpoint");
        self.projection.view.fold(&tx, batch).await?;
        tx.commit().await.expect("commits");
        Ok(())
    }

    /// The stream loses what it has of a ride's shard behind this place, as the platform tells it.
    pub(super) async fn cut(&self, ride: Uuid, end: i64) {
        let shard: i32 = self.projection.broker.shard_of(ride).try_into().expect("a small number");
        let tx = self.db.begin().await.expect("a transaction");
        checkpoint::Entity::update_many()
            .col_expr(checkpoint::Column::Sequence, Expr::value(end))
            .filter(checkpoint::Column::Shard.eq(shard))
            .exec(&tx)
            .await
            .expect("a checkpoint");
        self.projection.view.cut(&tx, shard, end).await.expect("cut");
        tx.commit().await.expect("commits");
    }

    /// The places in the stream of all rides, by their ids.
    pub(super) async fn places(&self) -> Vec<i64> {
        let rides = Entity::find().order_by_asc(Column::Id).all(self.db.reader()).await;
        rides.expect("rows").into_iter().map(|ride| ride.sequence).collect()
    }

    pub(super) async fn get(
        &self,
        role: Role,
        subject: &str,
        ride: Uuid,
    ) -> Result<DrivingInfo, Status> {
        self.get_after(role, subject, ride, "").await
    }

    pub(super) async fn get_after(
        &self,
        role: Role,
        subject: &str,
        ride: Uuid,
        token: &str,
    ) -> Result<DrivingInfo, Status> {
        let name = format!("drivingInfos/{ride}");
        let request = GetDrivingInfoRequest { name, consistency_token: token.to_owned() };
        let mut request = asked(role, subject, request);
        request.extensions_mut().insert(Deadline(Instant::now() + Duration::from_secs(5)));
        let answer = self.dashboard.get_driving_info(request).await;
        answer.map(tonic::Response::into_inner)
    }

    pub(super) async fn list(
        &self,
        role: Role,
        subject: &str,
        request: ListDrivingInfosRequest,
    ) -> Result<ListDrivingInfosResponse, Status> {
        let answer = self.dashboard.list_driving_infos(asked(role, subject, request)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub(super) async fn watch(
        &self,
        request: WatchDrivingInfosRequest,
    ) -> Result<<Dashboard as DashboardService>::WatchDrivingInfosStream, Status> {
        let answer = self.dashboard.watch_driving_infos(asked(Role::Operator, "O1", request)).await;
        answer.map(tonic::Response::into_inner)
    }
}

pub(super) fn asked<T>(role: Role, subject: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Actor { role, subject: subject.to_owned() });
    request
}

pub(super) async fn everywhere(test: impl AsyncFn(House)) {
    test(House::on_sqlite().await).await;
    test(House::on_postgres().await).await;
}

/// The ids of ride number n: of its allocation, its driving, its payment.
pub(super) fn ride(n: u128) -> Uuid {
    Uuid::from_u128(n << 8)
}
pub(super) fn driving(n: u128) -> Uuid {
    Uuid::from_u128(n << 8 | 1)
}
pub(super) fn payment(n: u128) -> Uuid {
    Uuid::from_u128(n << 8 | 2)
}

/// One event of ride n; it happens at as many seconds as its place in the stream.
pub(super) fn event<M: Message + Name>(
    n: u128,
    sequence: u64,
    version: i64,
    message: M,
) -> Delivery {
    let aggregate = match M::PACKAGE {
        "taxi.allocation.v1" => ride(n),
        "taxi.driving.v1" => driving(n),
        _ => payment(n),
    };
    Delivery {
        id: Uuid::from_u128(u128::from(sequence)),
        kind: M::full_name(),
        context: String::new(),
        aggregate,
        version,
        correlation: ride(n),
        causation: Uuid::nil(),
        time: Timestamp::from_micros(sequence as i64 * 1_000_000),
        trace: None,
        payload: Bytes::from(message.encode_to_vec()),
        sequence,
    }
}

pub(super) fn requested(n: u128, sequence: u64, customer: &str) -> Delivery {
    let customer = format!("customers/{customer}");
    event(n, sequence, 1, AllocationRequested { customer, ..Default::default() })
}

pub(super) fn approved(n: u128, sequence: u64, driver: &str) -> Delivery {
    let driver = format!("drivers/{driver}");
    event(n, sequence, 2, DrivingApproved { driver, ..Default::default() })
}

pub(super) fn finished(n: u128, sequence: u64) -> Delivery {
    let finish_time = Some(proto::words::time(Timestamp::from_micros(sequence as i64 * 1_000_000)));
    event(n, sequence, 3, DrivingFinished { finish_time, fare: won(3_000), ..Default::default() })
}

pub(super) fn won(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

pub(super) fn code_and_reason<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("refused");
    (status.code(), reason(&status).unwrap_or_default())
}
