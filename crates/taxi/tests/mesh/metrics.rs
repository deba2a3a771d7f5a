//! What Prometheus collects from real processes.

use std::collections::{BTreeMap, BTreeSet};

use kernel::Uuid;
use prost::Name;
use proto::allocation::v1::AllocationRequested;
use proto::allocation::v1::allocation::State;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use testkit::{Backing, Mesh, RELATIONAL, Role, eventually};

use crate::people::{Customer, Driver, SOON, dev, serve};

/// The shards of the stream, unless somebody configures another number.
const SHARDS: usize = 8;

/// The page that explains what is collected.
const PAGE: &str = include_str!("../../../../docs/metrics.md");

/// One answer of `/metrics`: each series with its value.
#[derive(Debug)]
struct Metrics(BTreeMap<String, f64>);

/// A metric as Prometheus sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    name: String,
    kind: String,
    labels: BTreeSet<String>,
}

/// Every metric of the page, with its unit.
fn documented() -> BTreeMap<Metric, String> {
    let rows =
        PAGE.lines().filter(|line| line.starts_with("| `taxi_") || line.starts_with("| `rpc_"));
    let metric = |row: &str| {
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        (Metric { name: cells[1].clone(), kind: cells[2].clone(), labels }, cells[4].clone())
    };
    rows.map(metric).collect()
}

/// Every metric of an answer.
fn collected(text: &str) -> BTreeSet<Metric> {
    let metric = |line: &str| {
        let (name, kind) = line.split_once(' ').expect("a name and a type");
        // A histogram has several samples: its count has the labels that we gave it.
        let sampled = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let samples = text.lines().filter_map(|line| line.strip_prefix(&sampled));
        let sample = { samples }.find(|it| it.starts_with(['{', ' '])).expect("a sample");
        let labels = sample.strip_prefix('{').and_then(|labels| labels.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels).split(',');
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect();
        Metric { name: name.to_owned(), kind: kind.to_owned(), labels }
    };
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(metric).collect()
}

/// What `/metrics` answers at this address.
async fn scraped(mesh: &Mesh, base: &str) -> String {
    let answer = mesh.http().get(format!("{base}/metrics")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.expect("text")
}

impl Metrics {
    /// What one process says at this address.
    async fn at(mesh: &Mesh, base: &str) -> Metrics {
        let text = scraped(mesh, base).await;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        Metrics(samples.map(sample).collect())
    }

    /// What a context of [`Mesh::serve`] says at its admin port.
    async fn of(mesh: &Mesh, context: &str) -> Metrics {
        let file = mesh.ready().data.join(format!("{context}.json"));
        let ready = std::fs::read(file).expect("it is ready");
        let ready: serde_json::Value = serde_json::from_slice(&ready).expect("JSON");
        Metrics::at(mesh, ready["admin"].as_str().expect("an admin port")).await
    }

    /// The values of all series of this name that have this label.
    fn all(&self, name: &str, label: &str, value: &str) -> Vec<f64> {
        let (start, label) = (format!("{name}{{"), format!("{label}=\"{value}\""));
        let named = self.0.iter().filter(|(series, _)| {
            series
                .strip_prefix(&start)
                .and_then(|rest| rest.strip_suffix('}'))
                .is_some_and(|labels| labels.split(',').any(|it| it == label))
        });
        named.map(|(_, value)| *value).collect()
    }

    /// The value of the only one.
    fn one(&self, name: &str, label: &str, value: &str) -> Option<f64> {
        match self.all(name, label, value)[..] {
            [] => None,
            [value] => Some(value),
            ref more => panic!("{name} has {} series of {label} {value}", more.len()),
        }
    }

    fn handled(&self, consumer: &str, outcome: &str) -> f64 {
        let series =
            format!("taxi_consumer_handled_total{{consumer=\"{consumer}\",outcome=\"{outcome}\"}}");
        self.0.get(&series).copied().unwrap_or_else(|| panic!("no {series}"))
    }

    /// That nothing is left to do in this context.
    fn drained(&self, context: &str) -> Result<(), String> {
        let parked = self.one("taxi_parked_events", "context", context);
        let unsent = self.one("taxi_outbox_unsent", "context", context);
        let age = self.one("taxi_outbox_age_seconds", "context", context);
        let expected = RELATIONAL.contains(&context).then_some(0.0);
        let mut left = self.all("taxi_consumer_pending", "consumer", context);
        left.extend(self.all("taxi_consumer_unacknowledged", "consumer", context));
        left.extend(self.all("taxi_consumer_held", "consumer", context));
        let drained = (parked, unsent, age) == (Some(0.0), expected, expected)
            && left.iter().all(|left| *left == 0.0);
        if drained { Ok(()) } else { Err(format!("{context}: {self:?}")) }
    }
}

async fn database(mesh: &Mesh, context: &str) -> DatabaseConnection {
    Database::connect(mesh.database_url(context)).await.expect("it is there")
}

async fn events_of(mesh: &Mesh, context: &str) -> f64 {
    let database = database(mesh, context).await;
    let backend = database.get_database_backend();
    let count = Statement::from_string(backend, "SELECT count(*) FROM outbox");
    let row = database.query_one_raw(count).await.expect("counted").expect("a row");
    row.try_get_by_index::<i64>(0).expect("a number") as f64
}

/// A whole ride, until the customer sees its end.
async fn ride(mesh: &Mesh) {
    let mut customer = Customer::new(mesh, "C1").await;
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await;
    let open = driver.finds(&allocation.name).await;
    driver.accept(&open.name).await.expect("nobody else is there");
    driver.start(&open.name).await.expect("accepted");
    driver.finish(&open.name).await.expect("started");
    customer.sees(&allocation.name, State::DrivingFinished).await;
}

/// Commits an event that nobody can read.
async fn poison(mesh: &Mesh) {
    let id = |id: u128| Uuid::from_u128(id).into();
    let values = [
        id(1),
        id(2),
        AllocationRequested::full_name().into(),
        id(3),
        id(4),
        b"\xff".to_vec().into(),
    ];
    let database = database(mesh, "allocation").await;
    let sql = "INSERT INTO outbox (event, aggregate, version, kind, correlation, causation, time, \
               payload) VALUES ($1, $2, 1, $3, $4, $5, 0, $6)";
    let backend = database.get_database_backend();
    let insert = Statement::from_sql_and_values(backend, sql, values);
    database.execute_raw(insert).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_ride_the_numbers_are_those_of_the_tables() {
    let mut mesh = serve().await;
    ride(&mesh).await;
    let mut events = 0.0;
    for context in ["allocation", "driving", "payment"] {
        let committed = events_of(&mesh, context).await;
        assert!(committed > 0.0);
        events += committed;
        let metrics = eventually(SOON, || async {
            let metrics = Metrics::of(&mesh, context).await;
            metrics.drained(context).map(|()| metrics)
        })
        .await;
        let published = metrics.one("taxi_relay_published_total", "context", context);
        assert_eq!(published, Some(committed), "{context}");
        let relay = format!("{context}.relay");
        assert_eq!(metrics.one("taxi_leases_held", "name", &relay), Some(1.0), "{metrics:?}");
        assert_eq!(metrics.all("taxi_lease_changes_total", "name", &relay), [1.0, 0.0]);
        assert!(metrics.handled(context, "applied") > 0.0, "{metrics:?}");
        assert_eq!(metrics.handled(context, "parked"), 0.0);
        let shards = metrics.all("taxi_consumer_pending", "consumer", context);
        assert_eq!(shards.len(), SHARDS, "{metrics:?}");
    }
    eventually(SOON, || async {
        let metrics = Metrics::of(&mesh, "message").await;
        metrics.drained("message").map(|()| assert_eq!(metrics.handled("message", "parked"), 0.0))
    })
    .await;
    eventually(SOON, || async {
        let metrics = Metrics::of(&mesh, "dashboard").await;
        let folded = metrics.one("taxi_view_folded_total", "view", "dashboard");
        let ages = metrics.all("taxi_view_age_seconds", "view", "dashboard");
        let fresh = ages.len() == SHARDS && ages.iter().all(|age| *age < 5.0);
        let stuck = metrics.0.get("taxi_rides_stuck");
        if folded == Some(events) && fresh && stuck == Some(&0.0) { Ok(()) } else { Err(metrics) }
    })
    .await;

    poison(&mesh).await;
    for context in ["driving", "dashboard", "message"] {
        eventually(SOON, || async {
            let metrics = Metrics::of(&mesh, context).await;
            match metrics.one("taxi_parked_events", "context", context) {
                Some(1.0) => Ok(()),
                _ => Err(metrics),
            }
        })
        .await;
    }
    for consumer in ["driving", "message"] {
        assert_eq!(Metrics::of(&mesh, consumer).await.handled(consumer, "parked"), 1.0);
    }
    mesh.expect_parked(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_has_no_value() {
    let mut mesh = serve().await;
    let mut customer = Customer::new(&mesh, "C1").await;
    mesh.kill_nats().await;
    customer.request().await;
    eventually(SOON, || async {
        let metrics = Metrics::of(&mesh, "allocation").await;
        let unsent = metrics.one("taxi_outbox_unsent", "context", "allocation");
        let age = metrics.one("taxi_outbox_age_seconds", "context", "allocation");
        let pending = metrics.all("taxi_consumer_pending", "consumer", "allocation");
        let open = metrics.one("taxi_allocations_open", "state", "REQUESTED");
        let told =
            (unsent, open) == (Some(1.0), Some(1.0)) && age > Some(0.0) && pending.is_empty();
        if told { Ok(()) } else { Err(metrics) }
    })
    .await;
    mesh.start_nats().await;

    mesh.postgres().kill().expect("it was running");
    eventually(SOON, || async {
        let metrics = Metrics::of(&mesh, "allocation").await;
        let unsent = metrics.one("taxi_outbox_unsent", "context", "allocation");
        let pending = metrics.all("taxi_consumer_pending", "consumer", "allocation");
        if unsent.is_none() && pending.len() == SHARDS { Ok(()) } else { Err(metrics) }
    })
    .await;
    mesh.postgres().restart().await.expect("it comes back");
    eventually(SOON, || async { Metrics::of(&mesh, "allocation").await.drained("allocation") })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taxi_dev_has_the_metrics_of_all_contexts_at_its_door() {
    let mesh = dev(Backing::Sqlite).await;
    ride(&mesh).await;
    eventually(SOON, || async {
        let metrics = Metrics::at(&mesh, mesh.gateway()).await;
        let drained: Result<Vec<()>, _> =
            testkit::CONTEXTS.iter().map(|context| metrics.drained(context)).collect();
        drained.map(|_| assert!(metrics.handled("message", "applied") > 0.0))
    })
    .await;
    what_happened_is_counted(&mesh).await;
    the_page_is_what_is_collected(&mesh).await;
}

/// After one ride, and one request from outside.
async fn what_happened_is_counted(mesh: &Mesh) {
    let token = mesh.token(Role::Customer, "C1").await;
    let url = format!("{}/v1/allocations", mesh.gateway());
    let asked = mesh.http().get(url).bearer_auth(token).send().await.expect("an answer");
    assert_eq!(asked.status(), 200);
    let list = "taxi.allocation.v1.AllocationService/ListAllocations";
    let passed = |labels: &str| format!("{{{labels},rpc_response_status_code=\"OK\"}}");
    let expected = [
        ("taxi_events_committed_total{event=\"DrivingFinished\"}".to_owned(), 1.0),
        ("taxi_messages_sent_total{template=\"DRIVING_FINISHED\"}".to_owned(), 1.0),
        ("taxi_allocations_open{state=\"REQUESTED\"}".to_owned(), 0.0),
        ("taxi_drivings_open{state=\"STARTED\"}".to_owned(), 0.0),
        ("taxi_payments_open{state=\"DEFERRED\"}".to_owned(), 0.0),
        ("taxi_payments_due".to_owned(), 0.0),
        ("taxi_rides_stuck".to_owned(), 0.0),
        ("taxi_gateway_refused_total{limit=\"principal\"}".to_owned(), 0.0),
        (
            format!(
                "taxi_gateway_request_duration_seconds_count{}",
                passed(&format!("protocol=\"rest\",rpc_method=\"{list}\""))
            ),
            1.0,
        ),
    ];
    eventually(SOON, || async {
        let metrics = Metrics::at(mesh, mesh.gateway()).await;
        let missing = expected.iter().find(|(series, value)| metrics.0.get(series) != Some(value));
        let calls = metrics.all("rpc_server_call_duration_seconds_count", "rpc_method", list);
        // By the gateway, and perhaps by who has waited for the end of the ride.
        match missing {
            None if calls.iter().sum::<f64>() >= 1.0 => Ok(()),
            missing => Err(format!("{missing:?} is not in {metrics:?}")),
        }
    })
    .await;
}

async fn the_page_is_what_is_collected(mesh: &Mesh) {
    let page = documented();
    let collected = eventually(SOON, || async {
        let collected = collected(&scraped(mesh, mesh.gateway()).await);
        // Some appear only after a while, such as the age of a view.
        match page.keys().find(|metric| !collected.contains(metric)) {
            None => Ok(collected),
            Some(missing) => Err(format!("{missing:?} is not in {collected:?}")),
        }
    })
    .await;
    let unexplained: Vec<_> = collected.iter().filter(|it| !page.contains_key(it)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
    for (Metric { name, kind, .. }, unit) in page {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert_eq!(name.contains("_seconds"), unit == "seconds", "{name} in {unit}");
        assert!(kind != "histogram" || name.ends_with("_duration_seconds"), "{name}");
    }
}
