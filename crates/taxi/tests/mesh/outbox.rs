//! What the broker has lost is sent again: once, in order, and without a second effect.

use std::collections::BTreeMap;

use proto::allocation::v1::allocation::State;
use proto::dashboard::v1::{DrivingInfo, GetDrivingInfoRequest};
use proto::payment::v1::payment::State as Payment;
use rstest::rstest;
use serde_json::Value;
use testkit::{Backing, Mesh, eventually};
use tonic::Response;

use crate::operator::{Events, Operator, Stored};
use crate::people::{Customer, Driver, SOON, dev, serve};

/// How many events a ride is.
pub(crate) const EVENTS: usize = 7;

/// Sends everything again, or says how much that would be.
const REPUBLISH: [&str; 4] = ["outbox", "republish", "--since", "1h"];

/// A whole ride, until everybody has heard of its end.
pub(crate) async fn ride(mesh: &Mesh, customer: &mut Customer) -> DrivingInfo {
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    driver.finish(&open.name).await.expect("started");
    customer.sees(&allocation.name, State::DrivingFinished).await;
    eventually(SOON, || async {
        let told = customer.messages().await.len();
        let request = GetDrivingInfoRequest {
            name: allocation.name.replace("allocations/", "drivingInfos/"),
            ..Default::default()
        };
        let info = customer.dashboard.clone().get_driving_info(request).await;
        let info = info.map(Response::into_inner).unwrap_or_default();
        let entries = info.timeline.len();
        let done = told == 5 && info.payment_status() == Payment::Approved && entries == EVENTS;
        if done { Ok(DrivingInfo { as_of: None, ..info }) } else { Err((told, info)) }
    })
    .await
}

/// The events of each history, in the order of the stream.
pub(crate) fn histories(all: &[Stored]) -> BTreeMap<&str, Vec<(i64, &str)>> {
    let mut histories = BTreeMap::<_, Vec<_>>::new();
    for event in all {
        histories.entry(&*event.aggregate).or_default().push((event.version, &*event.id));
    }
    histories
}

/// How many events a command says it is about, by context.
async fn counts(operator: &Operator, arguments: &[&str]) -> BTreeMap<String, u64> {
    let rows = operator.list(arguments).await;
    let count = |row: &Value| {
        let context = row["context"].as_str().expect("a name").to_owned();
        (context, row["events"].as_u64().expect("a number"))
    };
    rows.iter().map(count).collect()
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_still_has_it_keeps_once(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let (operator, events) = (Operator::of(&mesh), Events::of(&mesh).await);
    ride(&mesh, &mut Customer::new(&mesh, "C1").await).await;
    let all = events.all().await;
    assert_eq!(all.len(), EVENTS, "{all:?}");
    let before = operator.list(&["outbox", "ls"]).await;

    let again = counts(&operator, &REPUBLISH).await;
    assert_eq!(again.values().sum::<u64>(), EVENTS as u64, "{again:?}");
    let unchanged = operator.list(&["outbox", "ls"]).await;
    let sent = |rows: &[Value]| rows.iter().map(|row| row["sent"].clone()).collect::<Vec<_>>();
    assert_eq!(sent(&unchanged), sent(&before));

    let apply = [&REPUBLISH[..], &["--apply"]].concat();
    assert_eq!(counts(&operator, &apply).await, again);
    all_sent(&operator).await;
    assert_ne!(sent(&operator.list(&["outbox", "ls"]).await), sent(&before));
    assert_eq!(events.all().await, all);
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_has_lost_is_sent_again_and_nothing_comes_of_it(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let operator = Operator::of(&mesh);
    let mut customer = Customer::new(&mesh, "C1").await;
    let before = ride(&mesh, &mut customer).await;
    let told = customer.messages().await;
    let events = Events::of(&mesh).await;
    let all = events.all().await;
    events.forgotten().await;
    for lost in &all[2..] {
        events.lose(lost.sequence).await;
    }
    assert_eq!(events.all().await, all[..2]);

    let apply = [&REPUBLISH[..], &["--apply"]].concat();
    assert_eq!(counts(&operator, &apply).await.values().sum::<u64>(), EVENTS as u64);
    let restored = events.complete(EVENTS).await;
    assert_eq!(histories(&restored), histories(&all));
    all_sent(&operator).await;

    // What happens next is behind all that was sent again: so everybody has heard it once more.
    ride(&mesh, &mut Customer::new(&mesh, "C2").await).await;
    assert_eq!(events.all().await.len(), 2 * EVENTS);
    let name = before.name.replace("drivingInfos/", "allocations/");
    let info = customer.info(&name, "").await;
    assert_eq!(DrivingInfo { as_of: None, ..info }, before);
    assert_eq!(customer.messages().await, told);
    assert_eq!(customer.payments().await.len(), 1);
}

/// Waits until nothing is left to be sent.
async fn all_sent(operator: &Operator) {
    eventually(SOON, || async {
        let unsent = operator.list(&["outbox", "ls", "--unsent"]).await;
        if unsent.is_empty() { Ok(()) } else { Err(unsent) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_shows_what_was_sent_and_what_was_not() {
    let mut mesh = serve().await;
    let operator = Operator::of(&mesh);
    let mut customer = Customer::new(&mesh, "C1").await;
    ride(&mesh, &mut customer).await;
    let all = operator.list(&["outbox", "ls"]).await;
    assert_eq!(all.len(), EVENTS, "{all:?}");
    assert!(all.iter().all(|row| row["sent"].is_string()), "{all:?}");
    let times: Vec<_> = all.iter().map(|row| row["time"].as_str()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let [newest] = &operator.list(&["outbox", "ls", "--limit", "1"]).await[..] else {
        panic!("one row")
    };
    assert_eq!(newest["event"], all[0]["event"]);
    let drivings = operator.list(&["outbox", "ls", "driving"]).await;
    let kind = |row: &Value| row["kind"].as_str().expect("a kind").to_owned();
    let kinds: Vec<String> = drivings.iter().rev().map(kind).collect();
    let names = ["Opened", "Approved", "Started", "Finished"];
    let expected = names.map(|name| format!("taxi.driving.v1.Driving{name}"));
    assert_eq!(kinds[..4], expected);

    mesh.kill_nats().await;
    customer.request().await;
    let unsent = operator.list(&["outbox", "ls", "--unsent"]).await;
    let [row] = &unsent[..] else { panic!("one row: {unsent:?}") };
    assert_eq!((&row["context"], &row["version"]), (&"allocation".into(), &1.into()));
    assert!(row["sent"].is_null(), "{row}");
    let table = operator.run(&["outbox", "ls", "--unsent"]).await;
    assert!(table.stdout.starts_with("ID "), "{table:?}");
    assert!(table.stdout.contains("AllocationRequested"), "{table:?}");
    mesh.start_nats().await;
    all_sent(&operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_named() {
    let mesh = dev(Backing::Sqlite).await;
    let mut operator = Operator::of(&mesh);
    Customer::new(&mesh, "C1").await.request().await;
    operator.database("payment", "postgres://nobody@127.0.0.1:1/nothing");
    let said = operator.run(&["outbox", "ls", "-o", "jsonl"]).await;
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.rows().iter().any(|row| row["context"] == "allocation"), "{said:?}");
    assert!(said.stderr.starts_with("taxi: the database of payment does not answer"), "{said:?}");

    let said = operator.run(&["outbox", "republish", "--since", "yesterday"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("2026-01-31T12:00:00Z"), "{said:?}");
    let said = operator.run(&["outbox", "ls", "message"]).await;
    assert_eq!((said.code, &*said.stderr), (2, "taxi: message has no database\n"));
}
