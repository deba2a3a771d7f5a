//! `taxi rebuild`: a spoiled view is found out and put right, and nobody has to stop for it.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::Uuid;
use platform::broker::{Broker, BrokerConfig};
use prost::Name;
use proto::allocation::v1::allocation::State;
use proto::allocation::v1::{Allocation, AllocationRequested};
use proto::dashboard::v1::DrivingInfo;
use proto::payment::v1::payment::State as Payment;
use rstest::rstest;
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait, Value,
};
use serde_json::json;
use testkit::{Backing, Mesh, eventually};

use crate::people::{Customer, Driver, SOON, consistency_token, dev, serve, wish};

const BIN: &str = env!("CARGO_BIN_EXE_taxi");

/// An operator at a terminal.
struct Operator {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

/// How a command has ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    report: serde_json::Value,
    stderr: String,
}

impl Operator {
    /// Of this mesh: `taxi dev` on SQLite is found by its ready file, all else is configured.
    fn of(mesh: &Mesh, backing: Backing) -> Operator {
        let dir = tempfile::tempdir().expect("a directory");
        let ready = mesh.ready();
        let ready = json!({"nats": ready.nats, "data": ready.data, "grpc": ready.grpc});
        std::fs::write(dir.path().join("ready.json"), ready.to_string()).expect("written");
        let mut environment = Vec::new();
        if backing == Backing::Postgres {
            let url = mesh.database_url("dashboard").to_owned();
            environment.push(("TAXI_DATABASE__DASHBOARD__URL", url));
            environment.push(("TAXI_BROKER__URL", mesh.ready().nats.clone()));
        }
        Operator { dir, environment }
    }

    /// Somebody who knows of no mesh.
    fn lost() -> Operator {
        let dir = tempfile::tempdir().expect("a directory");
        Operator { dir, environment: Vec::new() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = testkit::program(BIN.as_ref());
        command.args(arguments).envs(self.environment.iter().map(|(name, url)| (name, url)));
        command.args(["--ready-file", "ready.json", "-o", "json"]).current_dir(self.dir.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().expect("it runs");
        Ended {
            code: output.status.code().expect("no signal"),
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    fn rebuild(&self) -> Ended {
        self.run(&["rebuild", "dashboard"])
    }

    fn apply(&self) -> Ended {
        self.run(&["rebuild", "dashboard", "--apply"])
    }

    /// Starts a command, to be killed.
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }
}

impl Ended {
    /// Rows that differ, are missing, are superfluous.
    fn counts(&self) -> [Option<u64>; 3] {
        ["differing", "missing", "superfluous"].map(|count| self.report[count].as_u64())
    }

    #[track_caller]
    fn is_equal(&self) {
        assert_eq!((self.code, self.counts()), (0, [Some(0); 3]), "{self:?}");
    }
}

/// The view, as somebody who should not be there sees it.
struct View(DatabaseConnection);

impl View {
    async fn of(mesh: &Mesh) -> View {
        let url = mesh.database_url("dashboard").replace("?mode=ro", "");
        View(Database::connect(url).await.expect("it is there"))
    }

    async fn execute(&self, sql: &str, values: impl IntoIterator<Item = Value>) {
        let backend = self.0.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let done = self.0.execute_raw(statement).await.expect("done");
        assert_eq!(done.rows_affected(), 1, "{sql}");
    }

    async fn spoil(&self, ride: Uuid, column: &str, value: impl Into<Value>) {
        let sql = format!("UPDATE driving_info SET {column} = $1 WHERE id = $2");
        self.execute(&sql, [value.into(), ride.into()]).await;
    }

    async fn delete(&self, ride: Uuid) {
        self.execute("DELETE FROM driving_info WHERE id = $1", [ride.into()]).await;
    }

    /// Adds a ride that nobody has asked for.
    async fn invent(&self, ride: Uuid, like: Uuid) {
        let columns = "customer, alloc_status, driver, driving_status, payment_status, refunded, \
                       cancel_reason, timeline, create_time, update_time, allocation_version, \
                       driving_version, payment_version, sequence, shard";
        let sql = format!(
            "INSERT INTO driving_info (id, {columns}) \
             SELECT $1, {columns} FROM driving_info WHERE id = $2"
        );
        self.execute(&sql, [ride.into(), like.into()]).await;
    }

    /// Everything that it says, as text.
    async fn content(&self) -> Vec<String> {
        let sql = "SELECT customer || alloc_status || driver || driving_status || payment_status \
                   || timeline || sequence FROM driving_info ORDER BY id";
        self.texts(sql).await
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let statement = Statement::from_string(self.0.get_database_backend(), sql);
        let rows = self.0.query_all_raw(statement).await.expect("it answers");
        rows.iter().map(|row| row.try_get_by_index(0).expect("text")).collect()
    }

    /// Returns when so many others wait for a lock.
    async fn is_waited_for(&self, others: usize) {
        eventually(SOON, || async {
            let waiting = "SELECT DISTINCT pid::text FROM pg_locks WHERE NOT granted";
            let waiting = self.texts(waiting).await;
            if waiting.len() >= others { Ok(()) } else { Err(waiting) }
        })
        .await;
    }

    /// What a run has left behind.
    async fn scratches(&self, mesh: &Mesh) -> Vec<String> {
        if self.0.get_database_backend() == DbBackend::Postgres {
            let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '%rebuild%'";
            return self.texts(schemas).await;
        }
        let files = mesh.ready().data.read_dir().expect("the data directory");
        let names = files.map(|file| file.expect("a file").file_name().display().to_string());
        names.filter(|name| name.contains("rebuild")).collect()
    }
}

fn id(allocation: &Allocation) -> Uuid {
    allocation.name.strip_prefix("allocations/").expect("a name").parse().expect("an id")
}

/// A ride that somebody has asked for, as soon as the view knows that it is open.
async fn asked_for(mesh: &Mesh, customer: &str) -> Uuid {
    let mut customer = Customer::new(mesh, customer).await;
    let allocation = customer.request().await;
    shown(&customer, &allocation, |info| info.timeline.len() == 2).await;
    id(&allocation)
}

/// A ride that has been paid.
async fn paid_for(mesh: &Mesh, customer: &str) -> Uuid {
    let mut customer = Customer::new(mesh, customer).await;
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    driver.finish(&open.name).await.expect("started");
    let settled =
        |info: &DrivingInfo| info.payment_status() == Payment::Approved && info.timeline.len() == 7;
    shown(&customer, &allocation, settled).await;
    id(&allocation)
}

async fn shown(customer: &Customer, allocation: &Allocation, so: impl Fn(&DrivingInfo) -> bool) {
    eventually(SOON, || async {
        let mut client = customer.dashboard.clone();
        let name = allocation.name.replace("allocations/", "drivingInfos/");
        let request = proto::dashboard::v1::GetDrivingInfoRequest { name, ..Default::default() };
        let info = client.get_driving_info(request).await.map_err(|status| format!("{status}"))?;
        let info = info.into_inner();
        if so(&info) { Ok(()) } else { Err(format!("{info:?}")) }
    })
    .await;
}

/// Somebody who reads the view all the time, and somebody who asks for cars all the time.
struct Traffic {
    over: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(mesh: &Mesh, allocation: String) -> Traffic {
        let (over, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let reader = Customer::new(mesh, "C1").await;
        let (stop, count) = (over.clone(), read.clone());
        let reads = async move {
            while !stop.load(Ordering::Relaxed) {
                let info = reader.info(&allocation, "").await;
                assert_eq!(info.payment_status(), Payment::Approved);
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        let mut writer = Customer::new(mesh, "W").await;
        let stop = over.clone();
        let asks = async move {
            while !stop.load(Ordering::Relaxed) {
                let asked = writer.request().await;
                writer.cancel(&asked.name).await.expect("nobody has accepted");
                writer.sees(&asked.name, State::Cancelled).await;
            }
        };
        Traffic { over, read, tasks: vec![tokio::spawn(reads), tokio::spawn(asks)] }
    }

    /// Answers how often the view was read.
    async fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no error");
        }
        self.read.load(Ordering::Relaxed)
    }
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_view_is_put_right_while_it_is_read_and_written(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    let operator = Operator::of(&mesh, backing);
    let [paid, other, third] =
        [paid_for(&mesh, "C1").await, asked_for(&mesh, "C2").await, asked_for(&mesh, "C3").await];
    operator.rebuild().is_equal();

    let view = View::of(&mesh).await;
    let before = view.content().await;
    let invented = Uuid::from_u128(7);
    let traffic = Traffic::start(&mesh, format!("allocations/{paid}")).await;
    view.spoil(paid, "fee", 1_i64).await;
    view.spoil(paid, "alloc_status", 99).await;
    view.spoil(other, "timeline", "nonsense").await;
    view.delete(third).await;
    view.invent(invented, paid).await;

    let found = operator.rebuild();
    assert_eq!((found.code, found.counts()), (1, [Some(2), Some(1), Some(1)]), "{found:?}");
    assert!(found.stderr.contains("`taxi rebuild dashboard --apply`"), "{found:?}");
    let differences = found.report["differences"].as_array().expect("a list");
    let difference = |row: Uuid, column: Option<&str>| {
        let found =
            differences.iter().find(|it| it["row"] == json!(row) && it["column"] == json!(column));
        let found = found.unwrap_or_else(|| panic!("{row} {column:?} in {differences:?}"));
        (found["now"].as_str().expect("text"), found["rebuilt"].as_str().expect("text"))
    };
    let finished = i32::from(State::DrivingFinished).to_string();
    assert_eq!(difference(paid, Some("alloc_status")), ("99", finished.as_str()));
    assert_eq!(difference(paid, Some("fee")).0, "1");
    assert_eq!(difference(other, Some("timeline")).0, "nonsense");
    assert_eq!(difference(third, None), ("missing", "there"));
    assert_eq!(difference(invented, None), ("there", "missing"));
    assert_eq!(differences.len(), 5, "{differences:?}");
    assert_eq!(operator.rebuild().counts(), found.counts(), "nothing was changed");

    let applied = operator.apply();
    assert_eq!((applied.code, &applied.report["replaced"]), (0, &json!(4)), "{applied:?}");
    operator.rebuild().is_equal();
    assert!(traffic.end().await > 0);
    operator.rebuild().is_equal();
    let after = view.content().await;
    assert!(before.iter().all(|row| after.contains(row)), "{before:?} {after:?}");
    assert_eq!(view.scratches(&mesh).await, Vec::<String>::new());

    let mut customer = Customer::new(&mesh, "C4").await;
    let asked = customer.ask(wish("Misa")).await.expect("a car is asked for");
    let token = consistency_token(&asked);
    customer.info(&asked.into_inner().name, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_changes_nothing_and_the_next_one_begins_anew() {
    let mesh = serve().await;
    let operator = Operator::of(&mesh, Backing::Postgres);
    let [ride, other] = [asked_for(&mesh, "C1").await, asked_for(&mesh, "C2").await];
    let view = View::of(&mesh).await;
    view.spoil(ride, "customer", "customers/nobody").await;
    view.spoil(other, "driver", "drivers/nobody").await;
    let before = view.content().await;

    // It has to wait for this transaction before it may replace anything.
    let obstacle = view.0.begin().await.expect("begun");
    obstacle
        .execute_unprepared("LOCK TABLE driving_info IN ROW EXCLUSIVE MODE")
        .await
        .expect("locked");
    let mut run = operator.start(&["rebuild", "dashboard", "--apply"]);
    view.is_waited_for(1).await;
    run.kill().expect("it runs");
    run.wait().expect("it was killed");
    obstacle.rollback().await.expect("rolled back");
    assert_eq!(view.content().await, before);
    assert_eq!(view.scratches(&mesh).await, ["dashboard_rebuild"]);

    let applied = operator.apply();
    assert_eq!((applied.code, &applied.report["replaced"]), (0, &json!(2)), "{applied:?}");
    operator.rebuild().is_equal();
    assert_eq!(view.scratches(&mesh).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ride_that_goes_on_at_that_very_moment_loses_nothing() {
    let mesh = serve().await;
    let operator = Operator::of(&mesh, Backing::Postgres);
    let mut customer = Customer::new(&mesh, "C1").await;
    let allocation = customer.request().await;
    shown(&customer, &allocation, |info| info.timeline.len() == 2).await;
    let view = View::of(&mesh).await;
    view.spoil(id(&allocation), "fee", 1_i64).await;

    // Whoever wants to change the row has to wait: first the run, then the projection.
    let obstacle = view.0.begin().await.expect("begun");
    obstacle.execute_unprepared("UPDATE driving_info SET driver = driver").await.expect("locked");
    let mut run = operator.start(&["rebuild", "dashboard", "--apply"]);
    view.is_waited_for(1).await;
    let driver = Driver::new(&mesh, "D1").await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    view.is_waited_for(2).await;
    obstacle.rollback().await.expect("rolled back");
    assert!(run.wait().expect("it ends").success());

    shown(&customer, &allocation, |info| info.timeline.len() == 3).await;
    operator.rebuild().is_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_do_not_disturb_each_other() {
    let mesh = dev(Backing::Sqlite).await;
    let operator = Operator::of(&mesh, Backing::Sqlite);
    let ride = asked_for(&mesh, "C1").await;
    View::of(&mesh).await.spoil(ride, "driver", "drivers/nobody").await;
    std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| operator.apply()));
        let ended = runs.map(|run| run.join().expect("it ends"));
        assert!(ended.iter().all(|ended| ended.code == 0), "{ended:?}");
        let replaced = ended.iter().filter(|ended| ended.report["replaced"] == json!(1));
        assert_eq!(replaced.count(), 1, "{ended:?}");
    });
    operator.rebuild().is_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_stays_parked_and_is_counted() {
    let mut mesh = serve().await;
    let operator = Operator::of(&mesh, Backing::Postgres);
    let ride = asked_for(&mesh, "C1").await;
    poison(&mesh, ride).await;
    let view = View::of(&mesh).await;
    eventually(SOON, || async {
        let parked = view.texts("SELECT kind FROM parked_event").await;
        if parked.len() == 1 { Ok(()) } else { Err(parked) }
    })
    .await;
    let found = operator.rebuild();
    found.is_equal();
    assert_eq!((&found.report["parked"], &found.report["unfoldable"]), (&json!(1), &json!(0)));

    // As if an operator had dropped it.
    view.execute("DELETE FROM parked_event", []).await;
    let found = operator.rebuild();
    found.is_equal();
    assert_eq!((&found.report["parked"], &found.report["unfoldable"]), (&json!(0), &json!(1)));

    // Nobody knows whether it was a part of the row that is replaced.
    view.spoil(ride, "driver", "drivers/nobody").await;
    assert_eq!(operator.apply().report["replaced"], json!(1));
    assert_eq!(view.texts("SELECT kind FROM parked_event").await.len(), 1);
    operator.rebuild().is_equal();
    mesh.expect_parked(2);
}

/// Commits an event of this ride that nobody can read.
async fn poison(mesh: &Mesh, ride: Uuid) {
    let database = Database::connect(mesh.database_url("allocation")).await.expect("it is there");
    let sql = "INSERT INTO outbox (event, aggregate, version, kind, correlation, causation, time, \
               payload) VALUES ($1, $2, 1, $3, $4, $5, 0, $6)";
    let id = |id: u128| Uuid::from_u128(id).into();
    let (kind, payload) = (AllocationRequested::full_name(), b"\xff".to_vec());
    let values = [id(1), id(2), kind.into(), ride.into(), id(3), payload.into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    database.execute_raw(statement).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_lost_events_is_no_reason_to_forget_them() {
    let mesh = dev(Backing::Sqlite).await;
    let operator = Operator::of(&mesh, Backing::Sqlite);
    paid_for(&mesh, "C1").await;
    let view = View::of(&mesh).await;
    let before = view.content().await;
    let config = BrokerConfig {
        url: mesh.ready().nats.clone(),
        stream: "TAXI_EVENTS".to_owned(),
        prefix: "taxi.events".to_owned(),
        shards: 8,
        replicas: 1,
    };
    let broker = Broker::connect(config, "rebuild").await.expect("an address");
    let stream = broker.stream().await.expect("it is there");

    stream.delete_message(3).await.expect("deleted");
    let found = operator.rebuild();
    assert_eq!((found.counts()[0], &found.report["gaps"]), (Some(1), &json!(1)), "{found:?}");
    let refused = operator.apply();
    assert_eq!(refused.code, 1, "{refused:?}");
    let start = "taxi: the stream has lost events of histories, 1 times";
    assert!(refused.stderr.starts_with(start), "{refused:?}");

    stream.purge().await.expect("purged");
    assert_eq!(operator.rebuild().counts(), [Some(0), Some(0), Some(1)]);
    let refused = operator.apply();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.starts_with("taxi: the stream has lost its beginning"), "{refused:?}");
    assert_eq!(view.content().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_named() {
    let mesh = dev(Backing::Sqlite).await;
    let port = testkit::free_port().expect("a port at which nobody is");
    let database =
        ("TAXI_DATABASE__DASHBOARD__URL", format!("postgres://u:hunter2@127.0.0.1:{port}/d"));
    let broker = ("TAXI_BROKER__URL", format!("nats://u:hunter2@127.0.0.1:{port}"));
    for (away, start) in [
        (vec![database], "the database of dashboard does not answer"),
        (vec![broker], "the broker does not answer"),
    ] {
        let operator = Operator { environment: away, ..Operator::of(&mesh, Backing::Sqlite) };
        let ended = operator.rebuild();
        assert_eq!(ended.code, 69, "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("taxi: {start}")), "{ended:?}");
        assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[test]
fn without_a_mesh_there_is_nothing_to_rebuild() {
    let operator = Operator::lost();
    let ended = operator.rebuild();
    assert_eq!(ended.code, 69, "{ended:?}");
    for words in ["TAXI_DATABASE__DASHBOARD__URL", "`taxi dev`"] {
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    for context in ["gardening", "allocation"] {
        assert_eq!(operator.run(&["rebuild", context]).code, 2, "{context}");
    }
}
