//! The context through its front door, on SQLite and on Postgres, with a till in place of payment.

mod contract;
mod house;

use std::time::Duration;

use futures::join;
use kernel::Clock;
use proto::allocation::v1::AllocationCancelRequested;
use proto::allocation::v1::allocation_cancel_requested::CancelCause;
use proto::driving::v1::driving::{PaymentState, State};
use proto::driving::v1::watch_open_drivings_response::Change;
use proto::driving::v1::{AcceptDrivingRequest, ListDrivingsRequest, WatchOpenDrivingsRequest};
use proto::payment::v1::{PaymentApproved, PaymentDeferred};
use tonic::Code;

use self::house::{
    House, a_customer, a_driver, allocation, asked_for, everywhere, latlng, next, operator,
    payment, refused, soon,
};
pub(crate) use self::house::{driver, fee, ride, tariff};
use crate::domain::Charge;

const SEOUL: (f64, f64) = (37.5663, 126.9779);
/// 1.4 km from [`SEOUL`].
const STATION: (f64, f64) = (37.5547, 126.9707);
/// 18 km from [`SEOUL`].
const MISA: (f64, f64) = (37.5636, 127.1830);

fn cancel(n: u128, cause: CancelCause) -> AllocationCancelRequested {
    AllocationCancelRequested {
        allocation: allocation(n).to_string(),
        reason: "늦어요".to_owned(),
        cause: cause.into(),
        ..Default::default()
    }
}

/// A driving of D1 with the customer on board.
async fn started(house: &House, n: u128) -> String {
    let name = house.open(n, None).await;
    house.accept("D1", &name).await.expect("open");
    house.start("D1", &name).await.expect("accepted");
    name
}

#[tokio::test]
async fn the_first_driver_wins() {
    everywhere(async |house| {
        let name = house.open(1, None).await;
        let (one, other) = join!(house.accept("D1", &name), house.accept("D2", &name));
        let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
        let taken = (Code::FailedPrecondition, "ALREADY_ACCEPTED".to_owned());
        assert_eq!(refused(lost), taken);
        let won = won.expect("one of them");
        assert_eq!(won.state(), State::Approved);
        let driver = house.get(operator(), &name).await.expect("there").driver;
        assert_eq!(won.driver, driver);
        assert_eq!(house.events(&name).await, ["DrivingOpened", "DrivingApproved"]);
    })
    .await;
}

#[tokio::test]
async fn a_driver_drives_one_at_a_time() {
    everywhere(async |house| {
        let (one, other) = (house.open(1, None).await, house.open(2, None).await);
        house.accept("D1", &one).await.expect("open");
        let busy = (Code::FailedPrecondition, "DRIVER_BUSY".to_owned());
        assert_eq!(refused(house.accept("D1", &other).await), busy);
        house.hear(&cancel(1, CancelCause::Customer)).await.expect("cancels");
        let accepted = house.accept("D1", &other).await.expect("free again");
        assert_eq!(accepted.driver, "drivers/D1");
        // Both at once, and the constraint decides.
        let (three, four) = (house.open(3, None).await, house.open(4, None).await);
        let (a, b) = join!(house.accept("D2", &three), house.accept("D2", &four));
        assert_eq!(refused(if a.is_ok() { b } else { a }), busy);
    })
    .await;
}

#[tokio::test]
async fn there_is_one_driving_for_each_allocation() {
    everywhere(async |house| {
        let request = house.event(&asked_for(1, Some(SEOUL)));
        house.hear_again(&request).await.expect("opens");
        house.hear_again(&request).await.expect("known");
        house.hear(&asked_for(1, None)).await.expect("served already");
        let [name] = &house.names(operator()).await[..] else { panic!("one driving") };
        let history = house.history(name).await;
        assert_eq!(history, [("DrivingOpened".to_owned(), allocation(1).0)]);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_command_has_one_effect_and_an_old_etag_none() {
    everywhere(async |house| {
        let name = house.open(1, None).await;
        let request_id = house.clock.new_id().to_string();
        let etag = "\"1\"".to_owned();
        let request = AcceptDrivingRequest { name: name.clone(), request_id, etag };
        let first = house.accept_as("D1", request.clone()).await.expect("open");
        assert_eq!(house.accept_as("D1", request.clone()).await.expect("the same"), first);
        let another = AcceptDrivingRequest { etag: String::new(), ..request.clone() };
        let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(refused(house.accept_as("D1", another).await), reused);
        let outdated = (Code::Aborted, "ETAG_MISMATCH".to_owned());
        assert_eq!(refused(house.accept_as("D2", request).await), outdated);
    })
    .await;
}

#[tokio::test]
async fn what_is_declined_is_hidden_from_who_declined() {
    everywhere(async |house| {
        let name = house.open(1, None).await;
        let before = house.get(a_driver("D1"), &name).await.expect("open to all");
        let id = house.clock.new_id();
        assert_eq!(house.decline("D1", &name, id).await.expect("open"), before);
        assert_eq!(house.decline("D1", &name, id).await.expect("repeated"), before);
        assert_eq!(house.decline("D1", &name, house.clock.new_id()).await.expect("again"), before);

        let hidden = (Code::NotFound, "DRIVING_NOT_FOUND".to_owned());
        assert_eq!(refused(house.get(a_driver("D1"), &name).await), hidden);
        assert_eq!(refused(house.accept("D1", &name).await), hidden);
        assert!(house.names(a_driver("D1")).await.is_empty());
        assert_eq!(house.names(a_driver("D2")).await, [name.as_str()]);
        assert_eq!(house.events(&name).await, ["DrivingOpened"]);

        house.accept("D2", &name).await.expect("open to others");
        assert_eq!(house.decline("D1", &name, id).await.expect("the first answer"), before);
        let taken = (Code::FailedPrecondition, "ALREADY_ACCEPTED".to_owned());
        assert_eq!(refused(house.decline("D3", &name, house.clock.new_id()).await), taken);
        house.hear(&cancel(1, CancelCause::Customer)).await.expect("cancels");
        let closed = (Code::FailedPrecondition, "DRIVING_CLOSED".to_owned());
        assert_eq!(refused(house.decline("D3", &name, house.clock.new_id()).await), closed);
    })
    .await;
}

#[tokio::test]
async fn a_finish_fixes_the_fare_and_takes_it() {
    everywhere(async |house| {
        let name = started(house, 1).await;
        house.clock.advance(Duration::from_secs(119));
        let id = house.clock.new_id();
        let finished = house.finish("D1", &name, id).await.expect("started");
        let outcome = (finished.state(), finished.payment_state(), &finished.payment);
        assert_eq!(outcome, (State::Finished, PaymentState::Approved, &payment().to_string()));
        let explanation = finished.fare_explanation.clone().expect("fixed");
        assert_eq!((explanation.minutes, explanation.policy_version.as_str()), (1, "2021-07"));
        assert_eq!(finished.fare.clone().expect("fixed").units, 1_000);

        assert_eq!(house.finish("D1", &name, id).await.expect("repeated"), finished);
        let [(fee, within)] = &house.till.charges()[..] else { panic!("asked once") };
        assert_eq!(fee.amount.as_won(), 1_000);
        assert_eq!(*within, Duration::from_millis(800));
        let closed = (Code::FailedPrecondition, "DRIVING_CLOSED".to_owned());
        assert_eq!(refused(house.finish("D1", &name, house.clock.new_id()).await), closed);
        let events = house.events(&name).await;
        assert_eq!(events[2..], ["DrivingStarted", "DrivingFinished", "DrivingPaymentSettled"]);
        house.open(2, None).await;
        assert_eq!(house.names(a_driver("D1")).await.len(), 2, "its own and the open one");
    })
    .await;
}

#[tokio::test]
async fn who_repeats_a_finish_after_a_crash_goes_on_behind_it() {
    everywhere(async |house| {
        let name = started(house, 1).await;
        let id = house.clock.new_id();
        house.till.answers(None);
        // The first change is on record; dropping the call is the crash.
        tokio::select! {
            _ = house.finish("D1", &name, id) => panic!("payment never answers"),
            () = soon(house.till.asked()) => {}
        }
        let driving = house.get(a_driver("D1"), &name).await.expect("there");
        let pending = (State::Finished, PaymentState::Pending);
        assert_eq!((driving.state(), driving.payment_state()), pending);

        house.till.answers(Some(Charge::Deferred(None)));
        let finished = house.finish("D1", &name, id).await.expect("goes on");
        assert_eq!(finished.payment_state(), PaymentState::Deferred);
        assert_eq!(finished.fare, driving.fare);
        assert_eq!(house.till.charges().len(), 2);
        assert_eq!(house.finish("D1", &name, id).await.expect("done"), finished);
        assert_eq!(house.till.charges().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_payment_announces_is_the_truth_and_told_once() {
    everywhere(async |house| {
        house.till.answers(Some(Charge::Deferred(None)));
        let name = started(house, 1).await;
        house.finish("D1", &name, house.clock.new_id()).await.expect("started");
        let (driving, payment) = (name.clone(), payment().to_string());
        let deferred = PaymentDeferred {
            driving: driving.clone(),
            payment: payment.clone(),
            ..Default::default()
        };
        house.hear(&deferred).await.expect("applies");
        house.hear(&deferred).await.expect("no news");
        let approved = PaymentApproved { driving, payment, ..Default::default() };
        house.hear(&approved).await.expect("applies");
        let driving = house.get(a_customer("C1"), &name).await.expect("theirs");
        assert_eq!(driving.payment_state(), PaymentState::Approved);
        let told = house.events(&name).await.into_iter().filter(|it| it == "DrivingPaymentSettled");
        assert_eq!(told.count(), 3, "by the call, with a name, approved");
    })
    .await;
}

#[tokio::test]
async fn a_cancel_is_decided_here() {
    everywhere(async |house| {
        let late = started(house, 1).await;
        house.hear(&cancel(1, CancelCause::Customer)).await.expect("decides");
        assert_eq!(house.get(operator(), &late).await.expect("there").state(), State::Started);
        let history = house.history(&late).await;
        assert_eq!(history[3], ("DrivingCancelRejected".to_owned(), allocation(1).0));

        let name = house.open(2, None).await;
        house.hear(&cancel(2, CancelCause::Unanswered)).await.expect("decides");
        let cancelled = house.get(operator(), &name).await.expect("kept for audit");
        assert_eq!(
            (cancelled.state(), cancelled.cancel_reason.as_str()),
            (State::Cancelled, "늦어요")
        );
        let closed = (Code::FailedPrecondition, "DRIVING_CLOSED".to_owned());
        assert_eq!(refused(house.accept("D2", &name).await), closed);
        assert!(house.names(a_driver("D2")).await.is_empty());
        house.hear(&cancel(9, CancelCause::Customer)).await.expect_err("there is no such driving");
    })
    .await;
}

#[tokio::test]
async fn everybody_sees_what_is_theirs() {
    everywhere(async |house| {
        let name = house.open(1, None).await;
        let may = async |by| house.get(by, &name).await.is_ok();
        assert!(may(a_driver("D1")).await && may(a_driver("D2")).await);
        assert!(may(a_customer("C1")).await && !may(a_customer("C2")).await);
        house.accept("D1", &name).await.expect("open");
        assert!(may(a_driver("D1")).await && !may(a_driver("D2")).await);
        house.hear(&cancel(1, CancelCause::Customer)).await.expect("cancels");
        assert!(may(a_driver("D1")).await && may(operator()).await);
        assert!(house.names(a_driver("D1")).await.is_empty(), "it has left the list");
        assert_eq!(house.names(operator()).await, [name.as_str()]);
        let hidden = (Code::NotFound, "DRIVING_NOT_FOUND".to_owned());
        assert_eq!(refused(house.start("D2", &name).await), hidden);
        let nameless = (Code::InvalidArgument, "INVALID_NAME".to_owned());
        assert_eq!(refused(house.start("D2", "drivings/1").await), nameless);
    })
    .await;
}

#[tokio::test]
async fn near_lists_begin_with_the_nearest() {
    everywhere(async |house| {
        let far = house.open(1, Some(MISA)).await;
        let here = house.open(2, Some(SEOUL)).await;
        let unknown = house.open(3, None).await;
        let close = house.open(4, Some(STATION)).await;
        let unknown_too = house.open(5, None).await;

        let mut request =
            ListDrivingsRequest { near: latlng(SEOUL), page_size: 2, ..Default::default() };
        let mut pages = Vec::new();
        loop {
            let page = house.list(a_driver("D1"), request.clone()).await.expect("a page");
            pages.push(page.drivings.into_iter().map(|it| it.name).collect::<Vec<_>>());
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let expected = [vec![here.clone(), close.clone()], vec![far, unknown_too], vec![unknown]];
        assert_eq!(pages, expected);

        let radius = |metres| ListDrivingsRequest { radius_meters: metres, ..near(SEOUL) };
        let page = house.list(a_driver("D1"), radius(2_000.0)).await.expect("a page");
        let names: Vec<_> = page.drivings.into_iter().map(|it| it.name).collect();
        assert_eq!(names, [here, close]);
        for (request, reason) in [
            (radius(-1.0), "INVALID_RADIUS"),
            (radius(f64::NAN), "INVALID_RADIUS"),
            (ListDrivingsRequest { near: None, ..radius(1.0) }, "INVALID_RADIUS"),
            (near((91.0, 0.0)), "INVALID_LOCATION"),
            (
                ListDrivingsRequest { page_token: "x".to_owned(), ..near(SEOUL) },
                "INVALID_PAGE_TOKEN",
            ),
            (ListDrivingsRequest { page_size: -1, ..near(SEOUL) }, "INVALID_PAGE_SIZE"),
            (ListDrivingsRequest { states: vec![0], ..near(SEOUL) }, "INVALID_STATE"),
        ] {
            let answer = house.list(a_driver("D1"), request).await;
            assert_eq!(refused(answer), (Code::InvalidArgument, reason.to_owned()));
        }
    })
    .await;
}

fn near(at: (f64, f64)) -> ListDrivingsRequest {
    ListDrivingsRequest { near: latlng(at), ..Default::default() }
}

#[tokio::test]
async fn a_watch_tells_what_opens_and_what_closes() {
    everywhere(async |house| {
        let declined = house.open(1, Some(SEOUL)).await;
        house.decline("D1", &declined, house.clock.new_id()).await.expect("open");
        let close = house.open(2, Some(STATION)).await;
        let here = house.open(3, Some(SEOUL)).await;
        let request = WatchOpenDrivingsRequest {
            near: latlng(SEOUL),
            radius_meters: 5_000.0,
            ..Default::default()
        };
        let mut watch = house.watch("D1", request.clone()).await.expect("a stream");
        for name in [&here, &close] {
            let (change, driving) = next(&mut watch).await;
            assert_eq!((change, &driving.name), (Change::Opened, name));
        }
        house.accept("D2", &close).await.expect("open");
        let (change, driving) = next(&mut watch).await;
        assert_eq!((change, driving.name.as_str()), (Change::Closed, close.as_str()));
        assert_eq!(driving.state(), State::Approved);
        assert!(driving.driver.is_empty(), "no business of others");

        // Neither what is far away nor what was declined makes a sound, only what opens here.
        house.open(4, Some(MISA)).await;
        house.decline("D3", &declined, house.clock.new_id()).await.expect("open");
        let new = house.open(5, Some(SEOUL)).await;
        let (change, driving) = next(&mut watch).await;
        assert_eq!((change, driving.name), (Change::Opened, new.clone()));
        // What this driver declines leaves their list with the next reading.
        house.decline("D1", &new, house.clock.new_id()).await.expect("open");
        let (change, driving) = next(&mut watch).await;
        assert_eq!((change, driving.name), (Change::Closed, new));
    })
    .await;
}

#[tokio::test]
async fn a_watch_goes_on_with_the_present_list() {
    everywhere(async |house| {
        let name = house.open(1, None).await;
        let mut watch = house.watch("D1", Default::default()).await.expect("a stream");
        let first = soon(futures::StreamExt::next(&mut watch)).await;
        let resume_token = first.expect("goes on").expect("no error").resume_token;
        let resumed = WatchOpenDrivingsRequest { resume_token, ..Default::default() };
        let mut watch = house.watch("D1", resumed.clone()).await.expect("a stream");
        assert_eq!(next(&mut watch).await.1.name, name);
        let other = WatchOpenDrivingsRequest { near: latlng(SEOUL), ..resumed };
        let foreign = (Code::InvalidArgument, "INVALID_RESUME_TOKEN".to_owned());
        assert_eq!(refused(house.watch("D1", other).await.map(drop)), foreign);
    })
    .await;
}
