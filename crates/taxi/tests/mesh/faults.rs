//! Faults on purpose in `taxi dev`: rides go on, and each fee is taken exactly once.

use std::path::PathBuf;
use std::process::Command;

use proto::driving::v1::Driving;
use proto::driving::v1::driving::{PaymentState, State};
use proto::payment::v1::ListPaymentsRequest;
use proto::payment::v1::payment::State as Payment;
use sea_orm::{ConnectionTrait, Database, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Backing, Mesh, eventually};
use tonic::Code;

use crate::people::{Customer, Driver, SOON, dev, serve};

/// `taxi fault` for a running mesh.
struct Faults {
    dir: TempDir,
    ready_file: PathBuf,
}

impl Faults {
    fn of(mesh: &Mesh) -> Faults {
        let dir = tempfile::tempdir().expect("a directory");
        let ready_file = dir.path().join("ready.json");
        let ready = json!({"gateway": mesh.gateway(), "grpc": mesh.ready().grpc});
        std::fs::write(&ready_file, ready.to_string()).expect("written");
        Faults { dir, ready_file }
    }

    /// Exit code, stdout and stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxi"));
        command.arg("fault").args(arguments).current_dir(self.dir.path());
        let output = command.arg("--ready-file").arg(&self.ready_file).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn set(&self, settings: &[&str]) {
        let (code, _, refusal) = self.run(&[&["set"], settings].concat());
        assert_eq!(code, 0, "{refusal}");
    }

    #[track_caller]
    fn clear(&self, names: &[&str]) {
        let (code, _, refusal) = self.run(&[&["clear"], names].concat());
        assert_eq!(code, 0, "{refusal}");
    }

    /// What is set, by name.
    fn in_force(&self) -> Vec<(String, String)> {
        let (code, rows, refusal) = self.run(&["ls", "-o", "json"]);
        assert_eq!(code, 0, "{refusal}");
        let rows: Vec<Value> = serde_json::from_str(&rows).expect("JSON");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        rows.iter().filter_map(|row| Some((text(&row["name"])?, text(&row["value"])?))).collect()
    }
}

/// A whole ride; how it ended.
async fn ride(mesh: &Mesh, customer: &mut Customer) -> Driving {
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    let finished = driver.finish(&open.name).await.expect("started").into_inner();
    assert_eq!(finished.state(), State::Finished);
    finished
}

/// Waits until the customer has paid for so many rides.
async fn paid(customer: &Customer, rides: usize) {
    eventually(SOON, || async {
        let payments = customer.payments().await;
        let approved = payments.iter().filter(|it| it.state() == Payment::Approved).count();
        if (payments.len(), approved) == (rides, rides) { Ok(()) } else { Err(payments) }
    })
    .await;
}

/// The drivings that the provider has taken a fee for, each charge once.
async fn charged(mesh: &Mesh) -> Vec<String> {
    let charges = mesh.provider().charges().await.expect("a log");
    charges.into_iter().map(|charge| charge.driving).collect()
}

/// How many payments the reconciler has passed over a few times.
async fn overdue(mesh: &Mesh) -> i64 {
    let database = Database::connect(mesh.database_url("payment")).await.expect("it is there");
    let select = "SELECT count(*) FROM payment \
                  WHERE due_time < CAST(unixepoch('subsec') * 1000000 AS INTEGER) - 2000000";
    let select = Statement::from_string(database.get_database_backend(), select);
    let row = database.query_one_raw(select).await.expect("answers").expect("a count");
    row.try_get_by_index(0).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn while_payment_is_down_rides_finish_and_are_paid_later() {
    let mesh = dev(Backing::Sqlite).await;
    let faults = Faults::of(&mesh);
    let mut customer = Customer::new(&mesh, "C1").await;
    faults.set(&["payment.down"]);
    let finished = ride(&mesh, &mut customer).await;
    assert_eq!(finished.payment_state(), PaymentState::Deferred);
    let asked = customer.payments.list_payments(ListPaymentsRequest::default()).await;
    assert_eq!(asked.expect_err("down").code(), Code::Unavailable);

    eventually(SOON, || async {
        let overdue = overdue(&mesh).await;
        if overdue == 1 { Ok(()) } else { Err(overdue) }
    })
    .await;
    assert_eq!(charged(&mesh).await, [""; 0], "it takes no fee behind anybody's back");

    faults.clear(&[]);
    paid(&customer, 1).await;
    assert_eq!(charged(&mesh).await, [finished.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_found_again_and_the_fee_taken_once() {
    let mesh = dev(Backing::Sqlite).await;
    let faults = Faults::of(&mesh);
    let mut customer = Customer::new(&mesh, "C1").await;
    faults.set(&["provider.lose_answers=1", "provider.duplicate_webhooks=3"]);
    let finished = ride(&mesh, &mut customer).await;
    assert_eq!(finished.payment_state(), PaymentState::Deferred, "nobody claims more");
    paid(&customer, 1).await;
    faults.clear(&["provider.lose_answers"]);
    assert_eq!(charged(&mesh).await, [finished.name]);
    assert_eq!(faults.in_force(), [("provider.duplicate_webhooks".to_owned(), "3".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_killed_comes_back_and_what_it_took_is_known() {
    let mut mesh = serve().await;
    let mut customer = Customer::new(&mesh, "C1").await;
    let first = ride(&mesh, &mut customer).await;
    assert_eq!(first.payment_state(), PaymentState::Approved);
    mesh.kill_provider();
    let second = ride(&mesh, &mut customer).await;
    assert_eq!(second.payment_state(), PaymentState::Deferred);
    mesh.start_provider().await;
    paid(&customer, 2).await;
    assert_eq!(charged(&mesh).await, [first.name, second.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_worked_from_the_command_line() {
    let mesh = dev(Backing::Sqlite).await;
    let faults = Faults::of(&mesh);
    assert_eq!(faults.in_force(), []);
    let (code, rows, refusal) = faults.run(&["set", "payment.latency=2s", "provider.hang"]);
    assert_eq!(code, 0, "{refusal}");
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows[1].starts_with("payment.latency  2s"), "{rows:?}");
    assert!(rows[2].starts_with("provider.hang    true"), "{rows:?}");

    for (setting, why) in [
        ("payment.latency=fast", "payment.latency takes a duration such as 250ms, 5s or 1m"),
        ("provider.declines=2", "provider.declines takes a fraction from 0 to 1, not \"2\""),
        ("message.down", "there is no fault \"message.down\": there are payment.down, payment.lat"),
    ] {
        let (code, _, refusal) = faults.run(&["set", setting]);
        assert_eq!(code, 2, "{refusal}");
        assert!(refusal.starts_with(&format!("taxi: {why}")), "{refusal}");
    }
    assert_eq!(faults.run(&["clear", "nothing"]).0, 2);
    faults.clear(&[]);
    assert_eq!(faults.in_force(), []);
}
