//! The view through its front door, on SQLite and on Postgres: what was folded, and what callers
//! then read. Deliveries are handed to the view as the platform hands them over; there is no broker.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kernel::{Actor, AllocationId, Clock, DrivingId, Failure, PaymentId, Role, Timestamp, Uuid};
use platform::broker::{Broker, BrokerConfig, Delivery};
use platform::call::consistency_token;
use platform::db::{Db, DbConfig};
use platform::lease::Lease;
use platform::projection::{Projection, View, checkpoint};
use platform::shutdown::Shutdown;
use platform::status::reason;
use prost::{Message, Name};
use proto::allocation::v1::allocation::State as Allocation;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::allocation::v1::{AllocationCancelRequested, AllocationRequested};
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::{
    DrivingInfo, GetDrivingInfoRequest, GetSummaryRequest, ListDrivingInfosRequest,
    ListDrivingInfosResponse, StateCount, WatchDrivingInfosRequest, WatchDrivingInfosResponse,
};
use proto::driving::v1::{DrivingApproved, DrivingFinished, DrivingOpened};
use proto::google::r#type::Money;
use proto::payment::v1::{PaymentApproved, PaymentRefunded};
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, Set};
use tempfile::TempDir;
use tonic::{Code, Request, Status};

use crate::grpc::Dashboard;
use crate::projection::DrivingInfos;
use crate::query::Queries;
use crate::{Config, Migrations, NAME};

/// Time stands still: all events happen at their number in seconds.
struct Frozen;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn new_id(&self) -> Uuid {
        Uuid::from_u128(NOW.micros() as u128)
    }
}

/// The context without its broker.
struct House {
    db: Db,
    dashboard: Dashboard,
    queries: Queries,
    tasks: Shutdown,
    _projection: Projection<DrivingInfos>,
    _files: Option<TempDir>,
}

impl House {
    async fn on_sqlite() -> House {
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
        let nowhere = BrokerConfig {
            url: "nats://127.0.0.1:9".to_owned(),
            stream: "TAXI_EVENTS".to_owned(),
            prefix: "taxi.events".to_owned(),
            shards: 8,
            replicas: 1,
        };
        let broker = Broker::connect(nowhere, NAME).await.expect("a URL");
        let lease = Lease::new(db.clone(), NAME, Uuid::nil());
        let clock = Arc::new(Frozen);
        let projection =
            Projection::new(NAME, broker, db.clone(), clock.clone(), lease, DrivingInfos);
        let tasks = Shutdown::new();
        let queries = Queries {
            db: db.clone(),
            clock,
            freshness: projection.freshness(),
            tasks: tasks.clone(),
            stuck_after: Duration::from_secs(Config::default().stuck_after_seconds),
        };
        let dashboard = Dashboard::new(queries.clone());
        House { db, dashboard, queries, tasks, _projection: projection, _files: files }
    }

    /// One batch and its checkpoint, as the platform does it.
    async fn fold(&self, batch: &[Delivery]) -> Result<(), Failure> {
        let tx = self.db.begin().await.expect("a transaction");
        let row = checkpoint::ActiveModel {
            consumer: Set(NAME.to_owned()),
            shard: Set(0),
            sequence: Set(batch.iter().map(|it| it.sequence as i64).max().unwrap_or(0)),
            complete_at: Set(NOW.minus(Duration::from_secs(2)).micros()),
        };
        let key = [checkpoint::Column::Consumer, checkpoint::Column::Shard];
        let moved = [checkpoint::Column::Sequence, checkpoint::Column::CompleteAt];
        checkpoint::Entity::insert(row)
            .on_conflict(OnConflict::columns(key).update_columns(moved).to_owned())
            .exec_without_returning(&tx)
            .await
            .expect("a checkpoint");
        DrivingInfos.fold(&tx, batch).await?;
        tx.commit().await.expect("commits");
        Ok(())
    }

    async fn get(&self, role: Role, subject: &str, ride: Uuid) -> Result<DrivingInfo, Status> {
        self.get_after(role, subject, ride, "").await
    }

    async fn get_after(
        &self,
        role: Role,
        subject: &str,
        ride: Uuid,
        token: &str,
    ) -> Result<DrivingInfo, Status> {
        let name = format!("drivingInfos/{ride}");
        let request = GetDrivingInfoRequest { name, consistency_token: token.to_owned() };
        let answer = self.dashboard.get_driving_info(asked(role, subject, request)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn list(
        &self,
        role: Role,
        subject: &str,
        request: ListDrivingInfosRequest,
    ) -> Result<ListDrivingInfosResponse, Status> {
        let answer = self.dashboard.list_driving_infos(asked(role, subject, request)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn watch(
        &self,
        request: WatchDrivingInfosRequest,
    ) -> Result<<Dashboard as DashboardService>::WatchDrivingInfosStream, Status> {
        let answer = self.dashboard.watch_driving_infos(asked(Role::Operator, "O1", request)).await;
        answer.map(tonic::Response::into_inner)
    }
}

fn asked<T>(role: Role, subject: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Actor { role, subject: subject.to_owned() });
    request
}

async fn everywhere(test: impl AsyncFn(House)) {
    test(House::on_sqlite().await).await;
    test(House::on_postgres().await).await;
}

/// The ids of ride number n: of its allocation, its driving, its payment.
fn ride(n: u128) -> Uuid {
    Uuid::from_u128(n << 8)
}
fn driving(n: u128) -> Uuid {
    Uuid::from_u128(n << 8 | 1)
}
fn payment(n: u128) -> Uuid {
    Uuid::from_u128(n << 8 | 2)
}

/// One event of ride n; it happens at as many seconds as its place in the stream.
fn event<M: Message + Name>(n: u128, sequence: u64, version: i64, message: M) -> Delivery {
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

fn requested(n: u128, sequence: u64, customer: &str) -> Delivery {
    let customer = format!("customers/{customer}");
    event(n, sequence, 1, AllocationRequested { customer, ..Default::default() })
}

fn approved(n: u128, sequence: u64, driver: &str) -> Delivery {
    let driver = format!("drivers/{driver}");
    event(n, sequence, 2, DrivingApproved { driver, ..Default::default() })
}

fn finished(n: u128, sequence: u64) -> Delivery {
    let finish_time = Some(proto::words::time(Timestamp::from_micros(sequence as i64 * 1_000_000)));
    event(n, sequence, 3, DrivingFinished { finish_time, fare: won(3_000), ..Default::default() })
}

fn won(units: i64) -> Option<Money> {
    Some(Money { currency_code: "KRW".to_owned(), units, nanos: 0 })
}

fn code_and_reason<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("refused");
    (status.code(), reason(&status).unwrap_or_default())
}

#[tokio::test]
async fn a_ride_is_read_as_it_was_folded() {
    everywhere(async |house| {
        let history = [requested(1, 1, "C1"), approved(1, 2, "D1"), finished(1, 3)];
        house.fold(&history[..2]).await.expect("folds");
        house.fold(&history[2..]).await.expect("folds");
        house.fold(&history).await.expect("folds again");
        house.fold(&[event(1, 4, 1, PaymentApproved::default())]).await.expect("folds");
        let info = house.get(Role::Customer, "C1", ride(1)).await.expect("found");
        assert_eq!(info.name, format!("drivingInfos/{}", ride(1)));
        assert_eq!(info.allocation, AllocationId(ride(1)).to_string());
        assert_eq!(info.driving, DrivingId(driving(1)).to_string());
        assert_eq!(info.payment, PaymentId(payment(1)).to_string());
        assert_eq!(info.alloc_status(), Allocation::DrivingFinished);
        assert_eq!(info.fee, won(3_000));
        assert_eq!(info.timeline.len(), 4);
        let as_of = info.as_of.expect("on every answer");
        assert_eq!((as_of.sequence, as_of.age.expect("complete").seconds), (4, 2));
    })
    .await;
}

#[tokio::test]
async fn everybody_sees_their_own_rides() {
    everywhere(async |house| {
        let rides = [requested(1, 1, "C1"), requested(2, 2, "auth0%7CC2"), approved(1, 3, "D1")];
        house.fold(&rides).await.expect("folds");
        for (role, subject, sees) in [
            (Role::Customer, "C1", [true, false]),
            (Role::Customer, "auth0|C2", [false, true]),
            (Role::Driver, "D1", [true, false]),
            (Role::Driver, "C1", [false, false]),
            (Role::Operator, "O1", [true, true]),
            (Role::Service, "payment", [false, false]),
        ] {
            let mut listed = Vec::new();
            for n in [1, 2] {
                let answer = house.get(role, subject, ride(n)).await;
                if sees[n as usize - 1] {
                    listed.insert(0, answer.expect("visible").name);
                } else {
                    let refused = (Code::NotFound, "DRIVING_INFO_NOT_FOUND".to_owned());
                    assert_eq!(code_and_reason(answer), refused, "{subject}");
                }
            }
            let page = house.list(role, subject, Default::default()).await.expect("a page");
            let names: Vec<_> = page.driving_infos.into_iter().map(|it| it.name).collect();
            assert_eq!(names, listed, "{subject}");
        }
    })
    .await;
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    everywhere(async |house| {
        let mut events: Vec<_> =
            (1..=5).map(|n| requested(n, n as u64, if n == 3 { "C3" } else { "C1" })).collect();
        events.push(approved(5, 6, "D1"));
        house.fold(&events).await.expect("folds");
        let list = async |request| {
            let page = house.list(Role::Operator, "O1", request).await.expect("a page");
            let id = |name: &str| name.rsplit('/').next().and_then(|id| id.parse::<Uuid>().ok());
            let numbers = page.driving_infos.iter().map(|it| id(&it.name).expect("a name"));
            let numbers: Vec<u128> = numbers.map(|id| id.as_u128() >> 8).collect();
            (numbers, page.next_page_token)
        };
        let time = |second| Some(prost_types::Timestamp { seconds: second, nanos: 0 });
        let states = vec![Allocation::Approved.into(), Allocation::Cancelled.into()];
        for (request, expected) in [
            (ListDrivingInfosRequest { states, ..Default::default() }, vec![5]),
            (ListDrivingInfosRequest { customer: "customers/C3".into(), ..Default::default() }, vec![3]),
            (ListDrivingInfosRequest { driver: "drivers/D1".into(), ..Default::default() }, vec![5]),
            (ListDrivingInfosRequest { start_time: time(2), end_time: time(4), ..Default::default() }, vec![3, 2]),
        ] {
            assert_eq!(list(request).await.0, expected);
        }
        let mut request = ListDrivingInfosRequest { page_size: 2, ..Default::default() };
        let mut pages = Vec::new();
        loop {
            let (page, next) = list(request.clone()).await;
            pages.push(page);
            request.page_token = next;
            if request.page_token.is_empty() {
                break;
            }
            request.page_size += 1;
        }
        assert_eq!(pages, [vec![5, 4], vec![3, 2, 1]]);
    })
    .await;
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let house = House::on_sqlite().await;
    let list = async |request| {
        let status = house.list(Role::Operator, "O1", request).await.expect_err("refused");
        (status.code(), reason(&status).expect("always there"))
    };
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    for states in [vec![0], vec![99]] {
        let request = ListDrivingInfosRequest { states, ..Default::default() };
        assert_eq!(list(request).await, invalid("INVALID_FIELD"));
    }
    let request = ListDrivingInfosRequest { driver: "customers/C1".into(), ..Default::default() };
    assert_eq!(list(request).await, invalid("INVALID_NAME"));
    let message = consistency_token("message", ride(1), 1);
    let token = house.get_after(Role::Operator, "O1", ride(1), &message).await;
    assert_eq!(code_and_reason(token), invalid("CONSISTENCY_TOKEN_INVALID"));
    for name in ["", "drivingInfos/", "drivingInfos/1", "allocations/1"] {
        let request = GetDrivingInfoRequest { name: name.to_owned(), ..Default::default() };
        let answer = house.dashboard.get_driving_info(asked(Role::Operator, "O1", request)).await;
        assert_eq!(code_and_reason(answer), invalid("INVALID_NAME"));
    }
    for resume_token in ["?".to_owned(), platform::page::encode_token("watch of ", "x")] {
        let request = WatchDrivingInfosRequest { resume_token, ..Default::default() };
        assert_eq!(code_and_reason(house.watch(request).await), invalid("RESUME_TOKEN_INVALID"));
    }
}

#[tokio::test]
async fn a_caller_reads_their_own_write() {
    everywhere(async |house| {
        house.fold(&[requested(1, 1, "C1")]).await.expect("folds");
        for (kind, id) in [("allocation", ride(1)), ("driving", driving(1)), ("payment", payment(1))] {
            let left = Some(Duration::from_millis(50));
            let behind = house.queries.reach(&consistency_token(kind, id, 9), left).await;
            let Err(Failure::Rejected(behind)) = behind else { panic!("{behind:?}") };
            assert_eq!(behind.reason, "VIEW_BEHIND");
        }
        let approval = consistency_token("driving", driving(1), 2);
        let later = [approved(1, 2, "D1"), event(1, 3, 1, PaymentApproved::default())];
        let (read, folded) = tokio::join!(
            house.get_after(Role::Customer, "C1", ride(1), &approval),
            house.fold(&later)
        );
        folded.expect("folds");
        assert_eq!(read.expect("found").alloc_status(), Allocation::Approved);
        for (kind, id) in [("allocation", ride(1)), ("driving", driving(1)), ("payment", payment(1))] {
            house.queries.reach(&consistency_token(kind, id, 1), None).await.expect("there");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_the_view_of_a_process_that_stops() {
    let house = House::on_sqlite().await;
    house.tasks.trigger();
    let token = consistency_token("allocation", ride(1), 1);
    let answer = house.get_after(Role::Operator, "O1", ride(1), &token).await;
    assert_eq!(code_and_reason(answer), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
}

#[tokio::test]
async fn a_watch_shows_what_is_and_then_what_changes() {
    everywhere(async |house| {
        let answer = |answer: Option<Result<WatchDrivingInfosResponse, Status>>| {
            let answer = answer.expect("goes on").expect("an element");
            let info = answer.driving_info.expect("a ride");
            let id: Uuid = info.name["drivingInfos/".len()..].parse().expect("a name");
            (id.as_u128() >> 8, info.timeline.len(), answer.resume_token)
        };
        let rides = [requested(1, 1, "C1"), requested(2, 2, "C2"), requested(3, 3, "C1")];
        house.fold(&rides).await.expect("folds");
        house.fold(&[approved(1, 4, "D1")]).await.expect("folds");

        let request = WatchDrivingInfosRequest { customer: "customers/C1".into(), ..Default::default() };
        let mut watch = house.watch(request.clone()).await.expect("a watch");
        let (ride, _, after_3) = answer(watch.next().await);
        assert_eq!(ride, 3);
        let (ride, entries, after_1) = answer(watch.next().await);
        assert_eq!((ride, entries), (1, 2));
        let change = [approved(2, 5, "D2"), approved(3, 6, "D3")];
        let (element, folded) = tokio::join!(watch.next(), house.fold(&change));
        folded.expect("folds");
        let (ride, entries, _) = answer(element);
        assert_eq!((ride, entries), (3, 2));

        let resume = |token: &str| WatchDrivingInfosRequest { resume_token: token.to_owned(), ..request.clone() };
        let mut resumed = house.watch(resume(&after_3)).await.expect("a watch");
        assert_eq!(answer(resumed.next().await).0, 1);
        let mut resumed = house.watch(resume(&after_1)).await.expect("a watch");
        assert_eq!(answer(resumed.next().await).0, 3);
        let other = WatchDrivingInfosRequest { customer: String::new(), ..resume(&after_1) };
        let refused = (Code::InvalidArgument, "RESUME_TOKEN_INVALID".to_owned());
        assert_eq!(code_and_reason(house.watch(other).await), refused);

        house.tasks.trigger();
        let end = watch.next().await.expect("says why it ends");
        assert_eq!(code_and_reason(end), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        assert!(watch.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_watch_begins_with_the_latest_hundred() {
    let house = House::on_sqlite().await;
    let rides: Vec<_> = (1..=130).map(|n| requested(n, n as u64, "C1")).collect();
    house.fold(&rides).await.expect("folds");
    let watch = house.watch(WatchDrivingInfosRequest::default()).await.expect("a watch");
    let first: Vec<_> = watch.take(100).collect().await;
    let name = |at: usize| {
        let answer: &WatchDrivingInfosResponse = first[at].as_ref().expect("an element");
        answer.driving_info.as_ref().expect("a ride").name.clone()
    };
    assert_eq!(name(0), format!("drivingInfos/{}", ride(31)));
    assert_eq!(name(99), format!("drivingInfos/{}", ride(130)));
}

#[tokio::test]
async fn the_key_figures() {
    everywhere(async |house| {
        let cancel = |n, sequence| {
            let cause = CancelCause::Customer.into();
            event(n, sequence, 2, AllocationCancelRequested { cause, ..Default::default() })
        };
        let refund = PaymentRefunded { refunded_amount: won(1_000), ..Default::default() };
        house
            .fold(&[
                // Paid; paid and partly given back; unpaid for long; unpaid since a moment ago.
                finished(1, 10),
                event(1, 11, 1, PaymentApproved::default()),
                finished(2, 12),
                event(2, 13, 2, refund),
                finished(3, 14),
                finished(4, 999),
                // Undecided for long, and since a moment ago.
                cancel(5, 15),
                cancel(6, 998),
                // Not opened for long; open for long, which is the drivers' business.
                requested(7, 16, "C7"),
                requested(8, 17, "C8"),
                event(8, 18, 1, DrivingOpened::default()),
            ])
            .await
            .expect("folds");
        let request = asked(Role::Operator, "O1", GetSummaryRequest::default());
        let summary = house.dashboard.get_summary(request).await.expect("figures").into_inner();
        let counts = |counts: Vec<StateCount>| -> Vec<(String, i64)> {
            counts.into_iter().map(|it| (it.state, it.count)).collect()
        };
        let named = |counts: &[(&str, i64)]| -> Vec<(String, i64)> {
            counts.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
        };
        assert_eq!(
            counts(summary.alloc_states),
            named(&[("STATE_REQUESTED", 2), ("STATE_DRIVING_FINISHED", 4), ("STATE_CANCELLING", 2)])
        );
        assert_eq!(
            counts(summary.driving_states),
            named(&[("STATE_REQUESTED", 1), ("STATE_FINISHED", 4)])
        );
        assert_eq!(
            counts(summary.payment_states),
            named(&[("STATE_REQUESTED", 2), ("STATE_APPROVED", 1), ("STATE_REFUNDED", 1)])
        );
        assert_eq!((summary.fees_taken, summary.fees_outstanding), (won(5_000), won(6_000)));
        assert_eq!(summary.stuck, 3);
        assert_eq!(summary.as_of.expect("on every answer").sequence, 999);
    })
    .await;
}

#[tokio::test]
async fn an_empty_view_answers_and_claims_no_age() {
    everywhere(async |house| {
        let request = asked(Role::Operator, "O1", GetSummaryRequest::default());
        let summary = house.dashboard.get_summary(request).await.expect("figures").into_inner();
        let as_of = summary.as_of.expect("on every answer");
        assert_eq!((as_of.sequence, as_of.age, summary.stuck), (0, None, 0));
        assert_eq!((summary.fees_taken, summary.fees_outstanding), (won(0), won(0)));
    })
    .await;
}

#[tokio::test]
async fn poison_is_named_and_other_kinds_are_passed_over() {
    let house = House::on_sqlite().await;
    let poison = Delivery { payload: Bytes::from_static(b"?"), ..requested(1, 1, "C1") };
    assert!(matches!(house.fold(&[poison]).await, Err(Failure::Internal(_))));
    let unknown = Delivery { kind: "taxi.rating.v1.RideRated".to_owned(), ..requested(1, 1, "C1") };
    house.fold(&[unknown]).await.expect("passed over");
    let nothing = house.get(Role::Operator, "O1", ride(1)).await;
    assert_eq!(code_and_reason(nothing).0, Code::NotFound);
}
