//! The view through its front door, on SQLite and on Postgres: what was folded, and what callers
//! then read. Deliveries are handed to the view as the platform hands them over; there is no broker.

mod house;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use kernel::{AllocationId, DrivingId, Failure, PaymentId, Role, Timestamp, Uuid};
use platform::broker::Delivery;
use platform::call::consistency_token;
use platform::status::reason;
use proto::allocation::v1::AllocationCancelRequested;
use proto::allocation::v1::allocation::State as Allocation;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::dashboard::v1::dashboard_service_server::DashboardService;
use proto::dashboard::v1::{
    GetDrivingInfoRequest, GetSummaryRequest, ListDrivingInfosRequest, StateCount,
    WatchDrivingInfosRequest, WatchDrivingInfosResponse,
};
use proto::driving::v1::driving::PaymentState;
use proto::driving::v1::{DrivingOpened, DrivingPaymentSettled};
use proto::payment::v1::payment::State as Payment;
use proto::payment::v1::{PaymentApproved, PaymentDeclined, PaymentDeferred, PaymentRefunded};
use sea_orm::{ConnectionTrait, EntityTrait, QueryFilter, QueryTrait};
use tonic::{Code, Status};

use crate::entity::{Entity, Location, Place};
use crate::query::stuck;

use self::house::{
    House, approved, asked, code_and_reason, driving, event, everywhere, finished, payment,
    requested, ride, won,
};

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
async fn what_the_stream_has_lost_gets_its_place_when_it_comes_again() {
    everywhere(async |house| {
        let kept = [requested(1, 10, "C1"), requested(2, 11, "C2")];
        let lost = [approved(1, 40, "D1"), requested(3, 41, "C3")];
        house.fold(&[kept, lost].concat()).await.expect("folds");
        let elsewhere = Uuid::from_u128(1);
        house.cut(elsewhere, 20).await;
        assert_eq!(house.places().await, [40, 11, 41]);
        house.cut(ride(1), 20).await;
        assert_eq!(house.places().await, [20, 11, 20]);

        // In another order, and with something new between them.
        house.fold(&[requested(3, 21, "C3"), approved(3, 22, "D3")]).await.expect("folds");
        house.fold(&[approved(1, 23, "D1")]).await.expect("folds");
        assert_eq!(house.places().await, [23, 11, 22]);
        let info = house.get(Role::Operator, "O1", ride(3)).await.expect("found");
        assert_eq!((info.alloc_status(), info.timeline.len()), (Allocation::Approved, 2));
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
            (
                ListDrivingInfosRequest { customer: "customers/C3".into(), ..Default::default() },
                vec![3],
            ),
            (
                ListDrivingInfosRequest { driver: "drivers/D1".into(), ..Default::default() },
                vec![5],
            ),
            (
                ListDrivingInfosRequest {
                    start_time: time(2),
                    end_time: time(4),
                    ..Default::default()
                },
                vec![3, 2],
            ),
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
        assert_eq!(list(request).await, invalid("INVALID_STATE"));
    }
    let request = ListDrivingInfosRequest { driver: "customers/C1".into(), ..Default::default() };
    assert_eq!(list(request).await, invalid("INVALID_NAME"));
    let message = consistency_token("message", ride(1), 1);
    let token = house.get_after(Role::Operator, "O1", ride(1), &message).await;
    assert_eq!(code_and_reason(token), invalid("INVALID_CONSISTENCY_TOKEN"));
    for name in ["", "drivingInfos/", "drivingInfos/1", "allocations/1"] {
        let request = GetDrivingInfoRequest { name: name.to_owned(), ..Default::default() };
        let answer = house.dashboard.get_driving_info(asked(Role::Operator, "O1", request)).await;
        assert_eq!(code_and_reason(answer), invalid("INVALID_NAME"));
    }
    for resume_token in ["?".to_owned(), platform::page::encode_token("watch of ", "x")] {
        let request = WatchDrivingInfosRequest { resume_token, ..Default::default() };
        assert_eq!(code_and_reason(house.watch(request).await), invalid("INVALID_RESUME_TOKEN"));
    }
}

#[tokio::test]
async fn a_caller_reads_their_own_write() {
    everywhere(async |house| {
        house.fold(&[requested(1, 1, "C1")]).await.expect("folds");
        for (kind, id) in
            [("allocation", ride(1)), ("driving", driving(1)), ("payment", payment(1))]
        {
            let left = Duration::from_millis(50);
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
        for (kind, id) in
            [("allocation", ride(1)), ("driving", driving(1)), ("payment", payment(1))]
        {
            house
                .queries
                .reach(&consistency_token(kind, id, 1), Duration::from_secs(5))
                .await
                .expect("there");
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

        let request =
            WatchDrivingInfosRequest { customer: "customers/C1".into(), ..Default::default() };
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

        let resume = |token: &str| WatchDrivingInfosRequest {
            resume_token: token.to_owned(),
            ..request.clone()
        };
        let mut resumed = house.watch(resume(&after_3)).await.expect("a watch");
        assert_eq!(answer(resumed.next().await).0, 1);
        let mut resumed = house.watch(resume(&after_1)).await.expect("a watch");
        assert_eq!(answer(resumed.next().await).0, 3);
        let other = WatchDrivingInfosRequest { customer: String::new(), ..resume(&after_1) };
        let refused = (Code::InvalidArgument, "INVALID_RESUME_TOKEN".to_owned());
        assert_eq!(code_and_reason(house.watch(other).await), refused);

        house.tasks.trigger();
        let end = watch.next().await.expect("says why it ends");
        assert_eq!(code_and_reason(end), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        assert!(watch.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn an_open_watch_goes_on_where_the_stream_has_lost_its_end() {
    everywhere(async |house| {
        house.fold(&[requested(1, 40, "C1"), requested(3, 41, "C3")]).await.expect("folds");
        let request = WatchDrivingInfosRequest::default();
        let mut watch = house.watch(request.clone()).await.expect("a watch");
        let next = async |watch: &mut BoxStream<'_, _>| {
            let answer = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
            let answer: Result<WatchDrivingInfosResponse, Status> =
                answer.expect("in time").expect("goes on");
            let answer = answer.expect("an element");
            let info = answer.driving_info.expect("a ride");
            (info.name, info.timeline.len(), answer.resume_token)
        };
        next(&mut watch).await;
        let (name, _, resume_token) = next(&mut watch).await;
        assert_eq!(name, format!("drivingInfos/{}", ride(3)));

        // What comes next is folded before anybody looks.
        house.cut(ride(1), 20).await;
        house.fold(&[approved(1, 21, "D1")]).await.expect("folds");
        let resumed = WatchDrivingInfosRequest { resume_token, ..request };
        let mut resumed = house.watch(resumed).await.expect("a watch");
        for watch in [&mut watch, &mut resumed] {
            // Of rides that were cut the latest are shown again.
            let (name, ..) = next(watch).await;
            assert_eq!(name, format!("drivingInfos/{}", ride(3)));
            let (name, entries, _) = next(watch).await;
            assert_eq!((name, entries), (format!("drivingInfos/{}", ride(1)), 2));
        }
        house.fold(&[approved(3, 22, "D3")]).await.expect("folds");
        for watch in [&mut watch, &mut resumed] {
            let (name, entries, _) = next(watch).await;
            assert_eq!((name, entries), (format!("drivingInfos/{}", ride(3)), 2));
        }
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
            named(&[
                ("STATE_REQUESTED", 2),
                ("STATE_DRIVING_FINISHED", 4),
                ("STATE_CANCELLING", 2)
            ])
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
async fn nobody_reads_all_rides_to_count_those_that_are_stuck() {
    let house = House::on_sqlite().await;
    let backend = house.db.backend();
    let mut question = Entity::find().filter(stuck(Timestamp::from_micros(1))).build(backend);
    question.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
    let plan = house.db.reader().query_all_raw(question).await.expect("a plan");
    let steps: Vec<String> =
        plan.iter().map(|step| step.try_get("", "detail").expect("a text")).collect();
    assert!(steps.iter().any(|step| step.contains("driving_info_unpaid")), "{steps:?}");
    assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{steps:?}");
}

/// What has happened to the fee of a ride of 3 000 won, how the ride then shows its payment, and
/// what of the fee is taken and outstanding.
#[tokio::test]
async fn a_fee_is_either_taken_or_outstanding_whatever_happens_to_it() {
    use Payment::{Approved, Declined, Deferred, Refunded, Requested};
    let settled = |version, state: PaymentState| {
        let payment_state = state.into();
        move |n, at| {
            let event_of_driving = DrivingPaymentSettled { payment_state, ..Default::default() };
            event(n, at, version, event_of_driving)
        }
    };
    let given_back = |version, units| {
        move |n, at| {
            let refunded_amount = won(units);
            event(n, at, version, PaymentRefunded { refunded_amount, ..Default::default() })
        }
    };
    type Happens<'a> = &'a dyn Fn(u128, u64) -> Delivery;
    let late: Happens<'_> = &settled(4, PaymentState::Deferred);
    let known: Happens<'_> = &settled(5, PaymentState::Approved);
    let deferred: Happens<'_> = &|n, at| event(n, at, 1, PaymentDeferred::default());
    let declined: Happens<'_> = &|n, at| event(n, at, 1, PaymentDeclined::default());
    let declined_again: Happens<'_> = &|n, at| event(n, at, 2, PaymentDeclined::default());
    let at_once: Happens<'_> = &|n, at| event(n, at, 1, PaymentApproved::default());
    let in_the_end: Happens<'_> = &|n, at| event(n, at, 2, PaymentApproved::default());
    let deferred_again: Happens<'_> = &|n, at| event(n, at, 2, PaymentDeferred::default());
    let part: Happens<'_> = &given_back(3, 1_000);
    let whole: Happens<'_> = &given_back(4, 3_000);
    let table: &[(&[Happens<'_>], Payment, i64, i64)] = &[
        (&[], Requested, 0, 3_000),
        // Payment cannot be reached; the provider gives no answer.
        (&[late], Deferred, 0, 3_000),
        (&[deferred], Deferred, 0, 3_000),
        (&[at_once], Approved, 3_000, 0),
        (&[at_once, late], Approved, 3_000, 0),
        (&[late, at_once, known], Approved, 3_000, 0),
        (&[late, deferred, in_the_end], Approved, 3_000, 0),
        (&[deferred, declined_again], Declined, 0, 3_000),
        (&[declined], Declined, 0, 3_000),
        (&[declined, declined_again], Declined, 0, 3_000),
        (&[declined, deferred_again], Deferred, 0, 3_000),
        (&[declined, in_the_end], Approved, 3_000, 0),
        (&[declined, in_the_end, part], Refunded, 2_000, 0),
        (&[deferred, in_the_end, part, whole], Refunded, 0, 0),
    ];
    for (happens, state, taken, outstanding) in table {
        let house = House::on_sqlite().await;
        let mut history = vec![finished(1, 10)];
        history.extend((11..).zip(*happens).map(|(at, happens)| happens(1, at)));
        house.fold(&history).await.expect("folds");
        let events: Vec<String> = history.iter().map(|it| it.event().to_owned()).collect();
        let info = house.get(Role::Operator, "O1", ride(1)).await.expect("found");
        assert_eq!(info.payment_status(), *state, "{events:?}");
        let timeline: Vec<String> = info.timeline.into_iter().map(|entry| entry.event).collect();
        assert_eq!(timeline, events);
        let request = asked(Role::Operator, "O1", GetSummaryRequest::default());
        let summary = house.dashboard.get_summary(request).await.expect("figures").into_inner();
        let figures = (summary.fees_taken, summary.fees_outstanding);
        assert_eq!(figures, (won(*taken), won(*outstanding)), "{events:?}");
    }
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

#[test]
fn a_place_is_read_back_as_it_was_written() {
    let location = Location { latitude: 37.618_606_283_111_404, longitude: 126.910_254_883_912 };
    let place = Place { address: "Misa".to_owned(), location: Some(location) };
    assert_eq!(place.to_string().parse::<Place>().expect("JSON"), place);
}
