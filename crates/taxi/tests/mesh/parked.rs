//! What cannot be applied waits for an operator, and nobody else waits for it.

use kernel::Uuid;
use proto::allocation::v1::allocation::State;
use proto::driving::v1::Driving;
use proto::driving::v1::driving::PaymentState;
use proto::google::r#type::Money;
use proto::message::v1::message::Template;
use proto::payment::v1::payment::State as Payment;
use proto::payment::v1::{PaymentDeclined, PaymentDeferred, PaymentRefunded};
use rstest::rstest;
use sea_orm::{ConnectionTrait, Database, Statement, Value as Parameter};
use serde_json::{Value, json};
use testkit::{Backing, Mesh, eventually};

use crate::operator::{Events, Forged, Operator};
use crate::people::{Customer, Driver, SOON, dev, serve};

/// The three events of a payment that nobody has made, for a ride that somebody has finished.
struct Forgery<'a> {
    driving: &'a Driving,
    payment: Uuid,
}

impl Forgery<'_> {
    /// The id of an event.
    fn id(&self, version: i64) -> Uuid {
        Uuid::from_u128(self.payment.as_u128() + version as u128)
    }

    fn event(&self, version: i64) -> Forged<'_> {
        let allocation = self.driving.allocation.strip_prefix("allocations/").expect("a name");
        Forged {
            id: self.id(version),
            context: "payment",
            kind: String::new(),
            aggregate: self.payment,
            version,
            correlation: allocation.parse().expect("an id"),
            payload: Vec::new(),
        }
    }

    /// One that nobody can read.
    fn poison(&self, version: i64) -> Forged<'_> {
        self.event(version).poison::<PaymentDeferred>()
    }

    fn declined(&self, version: i64) -> Forged<'_> {
        self.event(version).saying(&PaymentDeclined {
            allocation: self.driving.allocation.clone(),
            customer: self.driving.customer.clone(),
            driving: self.driving.name.clone(),
            payment: format!("payments/{}", self.payment),
            amount: Some(won(1000)),
            ..Default::default()
        })
    }

    fn refunded(&self, version: i64) -> Forged<'_> {
        self.event(version).saying(&PaymentRefunded {
            allocation: self.driving.allocation.clone(),
            customer: self.driving.customer.clone(),
            driving: self.driving.name.clone(),
            payment: format!("payments/{}", self.payment),
            amount: Some(won(1000)),
            refunded_amount: Some(won(1000)),
            ..Default::default()
        })
    }
}

fn won(units: i64) -> Money {
    Money { currency_code: "KRW".to_owned(), units, nanos: 0 }
}

/// A finished and paid ride.
async fn ride(customer: &mut Customer, driver: &Driver) -> Driving {
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let finished = driver.finish(&open.name).await.expect("started").into_inner();
    customer.sees(&allocation.name, State::DrivingFinished).await;
    eventually(SOON, || async {
        let info = customer.info(&allocation.name, "").await;
        if info.payment_status() == Payment::Approved { Ok(()) } else { Err(info) }
    })
    .await;
    finished
}

/// The driving, once the fee is in this state.
async fn settled(driver: &Driver, name: &str, state: PaymentState) -> Driving {
    eventually(SOON, || async {
        let drivings = driver.list().await;
        let driving = drivings.into_iter().find(|driving| driving.name == name).expect("theirs");
        if driving.payment_state() == state { Ok(driving) } else { Err(driving) }
    })
    .await
}

/// What is parked, once it is so many events.
async fn parked(operator: &Operator, count: usize) -> Vec<Value> {
    eventually(SOON, || async {
        let rows = operator.list(&["parked", "ls"]).await;
        if rows.len() == count { Ok(rows) } else { Err(rows) }
    })
    .await
}

/// The contexts of rows that have this value.
fn contexts<'a>(rows: &'a [Value], key: &str, value: impl Into<Value>) -> Vec<&'a str> {
    let value = value.into();
    let found = rows.iter().filter(|row| row[key] == value);
    let mut contexts: Vec<&str> =
        found.map(|row| row["context"].as_str().expect("a name")).collect();
    contexts.sort_unstable();
    contexts
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_read_waits_and_what_is_behind_it_follows_when_it_is_dropped(
    #[case] backing: Backing,
) {
    let mesh = dev(backing).await;
    let (operator, events) = (Operator::of(&mesh), Events::of(&mesh).await);
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;
    let driving = ride(&mut customer, &driver).await;
    let forgery = Forgery { driving: &driving, payment: Uuid::from_u128(7 << 64) };
    for event in [forgery.poison(1), forgery.declined(2), forgery.refunded(3)] {
        events.publish(&event).await;
    }
    let (first, second) = (forgery.id(1).to_string(), forgery.id(2).to_string());

    let rows = parked(&operator, 7).await;
    assert_eq!(contexts(&rows, "event", &*first), ["dashboard", "driving", "message"]);
    assert_eq!(contexts(&rows, "version", 2), ["dashboard", "driving"], "messages wait for none");
    let behind = "an earlier event of the same aggregate is parked";
    assert_eq!(contexts(&rows, "reason", behind).len(), 4);
    assert_eq!(contexts(&rows, "behind", 2), ["dashboard", "driving"]);
    let sequences: Vec<_> = rows.iter().map(|row| row["sequence"].as_i64()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    // Everybody else goes on: another ride, and what this customer is told.
    ride(&mut Customer::new(&mesh, "C2").await, &Driver::new(&mesh, "D2").await).await;
    let told: Vec<_> = customer.messages().await.iter().map(|it| it.template()).collect();
    assert_eq!(told.iter().filter(|it| **it == Template::PaymentDeclined).count(), 1, "{told:?}");
    settled(&driver, &driving.name, PaymentState::Approved).await;

    shown(&operator, &first, &second, &forgery).await;

    // It is not the turn of those behind.
    for command in ["retry", "drop"] {
        let said = operator.run(&["parked", command, &second, "--context", "driving"]).await;
        assert_ne!(said.code, 0, "{said:?}");
    }
    let said = operator.run(&["parked", "retry", &second, "--context", "driving"]).await;
    assert!(said.code == 1 && said.stdout.contains(&first), "{said:?}");
    let said = operator.run(&["parked", "drop", &second, "--yes"]).await;
    assert!(said.code == 1 && said.stderr.contains(&first), "{said:?}");

    // Another try changes nothing.
    let said = operator.run(&["parked", "retry", "--all", "-o", "jsonl"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let tried = said.rows();
    assert_eq!(contexts(&tried, "outcome", "PARKED"), ["dashboard", "driving", "message"]);
    assert!(tried.iter().all(|row| row["why"].is_string()), "{tried:?}");
    let unchanged = parked(&operator, 7).await;
    assert_eq!(contexts(&unchanged, "event", &*first).len(), 3);

    let said = operator.run(&["parked", "drop", &first]).await;
    assert!(said.code == 2 && said.stderr.contains("--yes"), "{said:?}");
    parked(&operator, 7).await;
    let dropped = operator.list(&["parked", "drop", &first, "--yes"]).await;
    assert_eq!(dropped.len(), 3, "{dropped:?}");
    parked(&operator, 0).await;

    let refunded = settled(&driver, &driving.name, PaymentState::Refunded).await;
    assert_eq!(refunded.payment, format!("payments/{}", forgery.payment));
    let outbox = operator.list(&["outbox", "ls", "driving"]).await;
    let of_ride = outbox
        .iter()
        .filter(|row| driving.name.ends_with(row["aggregate"].as_str().expect("an id")));
    let announced = of_ride.filter(|row| row["kind"] == "taxi.driving.v1.DrivingPaymentSettled");
    assert_eq!(announced.count(), 3, "approved, declined, refunded: {outbox:?}");
    let info = customer.info(&driving.allocation, "").await;
    assert_eq!(info.payment_status(), Payment::Refunded);
    let timeline: Vec<&str> = info.timeline.iter().map(|entry| entry.event.as_str()).collect();
    let seen = |event: &str| timeline.iter().filter(|it| **it == event).count();
    let seen = ["PaymentDeferred", "PaymentDeclined", "PaymentRefunded"].map(seen);
    assert_eq!(seen, [0, 1, 1], "{timeline:?}");
}

/// What is known of an event that nobody can read, and of one that waits behind it.
async fn shown(operator: &Operator, first: &str, second: &str, forgery: &Forgery<'_>) {
    let said = operator.run(&["parked", "show", first, "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let parked = shown["parked"].as_array().expect("a list");
    assert_eq!(contexts(parked, "retry", Value::Null), ["dashboard", "driving", "message"]);
    assert_eq!(shown["unreadable"]["base64"], "/w==");
    assert!(shown["unreadable"]["why"].is_string() && shown["payload"].is_null(), "{shown}");
    assert_eq!((&shown["version"], &shown["headers"]["ce-id"]), (&json!(1), &json!(first)));

    let said = operator.run(&["parked", "show", second, "-o", "json"]).await;
    let shown: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(shown["kind"], "taxi.payment.v1.PaymentDeclined");
    assert_eq!(shown["payload"]["payment"], format!("payments/{}", forgery.payment));
    let said = operator.run(&["parked", "show", second]).await;
    assert!(said.stdout.contains("\ncorrelation-id     "), "{said:?}");
}

/// Says something else of a driving than its history does.
async fn set_state(mesh: &Mesh, driving: &str, state: &str) {
    let database = Database::connect(mesh.database_url("driving")).await.expect("it is there");
    let id: Uuid = driving.strip_prefix("drivings/").expect("a name").parse().expect("an id");
    let values: [Parameter; 2] = [state.into(), id.into()];
    let update = "UPDATE driving SET state = $1 WHERE id = $2";
    let update = Statement::from_sql_and_values(database.get_database_backend(), update, values);
    let updated = database.execute_raw(update).await.expect("updated");
    assert_eq!(updated.rows_affected(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_for_a_mended_cause_is_applied_and_what_is_behind_it_follows() {
    let mut mesh = serve().await;
    let (operator, events) = (Operator::of(&mesh), Events::of(&mesh).await);
    let mut customer = Customer::new(&mesh, "C1").await;
    let driver = Driver::new(&mesh, "D1").await;

    // A cancel meets a row that nobody can read.
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    set_state(&mesh, &open.name, "LOST").await;
    customer.cancel(&allocation.name).await.expect("taken down");
    let rows = parked(&operator, 1).await;
    let event = rows[0]["event"].as_str().expect("an id");
    let reason = rows[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("state LOST"), "{rows:?}");
    let retry = ["parked", "retry", event, "-o", "jsonl"];
    let said = operator.run(&retry).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.rows()[0]["why"], reason, "it was tried again, in vain");
    set_state(&mesh, &open.name, "REQUESTED").await;
    let said = operator.run(&retry).await;
    assert_eq!((said.code, &said.rows()[0]["outcome"]), (0, &json!("APPLIED")), "{said:?}");
    customer.sees(&allocation.name, State::Cancelled).await;
    parked(&operator, 0).await;

    // So does a history: its second event waits behind the first.
    let driving = ride(&mut customer, &driver).await;
    let forgery = Forgery { driving: &driving, payment: Uuid::from_u128(7 << 64) };
    set_state(&mesh, &driving.name, "LOST").await;
    for event in [forgery.declined(1), forgery.refunded(2)] {
        events.publish(&event).await;
    }
    let rows = parked(&operator, 2).await;
    assert_eq!(contexts(&rows, "behind", 1), ["driving"], "{rows:?}");
    mesh.kill("driving");
    set_state(&mesh, &driving.name, "FINISHED").await;
    let at_once = ["parked", "retry", "--all", "--wait", "0s", "-o", "jsonl"];
    let said = operator.run(&at_once).await;
    assert_eq!((said.code, &said.rows()[0]["outcome"]), (69, &json!("ASKED")), "{said:?}");
    mesh.start_context("driving").await;
    settled(&driver, &driving.name, PaymentState::Refunded).await;
    parked(&operator, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_nowhere_or_where_nobody_can_look() {
    let mesh = dev(Backing::Sqlite).await;
    let mut operator = Operator::of(&mesh);
    let id = Uuid::from_u128(1).to_string();
    for command in ["show", "retry", "drop"] {
        let said = operator.run(&["parked", command, &id]).await;
        let sentence = format!(
            "taxi: the event {id} is not parked: not in allocation, driving, payment, dashboard, \
             message\n"
        );
        assert_eq!((said.code, said.stderr), (1, sentence));
    }
    operator.database("driving", "postgres://nobody@127.0.0.1:1/nothing");
    operator.database("payment", "postgres://nobody@127.0.0.1:1/nothing");
    for arguments in [&["parked", "ls"][..], &["parked", "show", &id]] {
        let said = operator.run(arguments).await;
        assert_eq!(said.code, 69, "{said:?}");
        assert!(said.stderr.starts_with("taxi: the database of driving does not"), "{said:?}");
        assert!(said.stderr.ends_with("(nor could payment be asked)\n"), "{said:?}");
    }
    let said = operator.run(&["parked", "ls", "allocation", "message"]).await;
    assert_eq!(said.code, 0, "{said:?}");
}
