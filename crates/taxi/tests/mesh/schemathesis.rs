//! `schemathesis` (PyPI) reads `/openapi.json` and asks the gateway of a mesh for everything in it, as
//! each role: is what is answered as the document says, and is what is not as it says refused?
//!
//! | run | asks |
//! |---|---|
//! | `made up` | as operator, all kinds of right and wrong requests; most ids are nobody's |
//! | `customer`, `driver`, `operator` | right requests, and those of the document's examples, about a ride that there is |
//!
//! What it checks is in `schemathesis/schemathesis.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use testkit::{Backing, Mesh, Role, eventually, tool};
use tokio::process::Command;

use crate::people::{Customer, Driver, SOON, dev_with};

/// What the runs have in common.
const SETTINGS: &str = include_str!("schemathesis/schemathesis.toml");
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mesh/schemathesis/hooks.py");
const RIGHT_AND_WRONG: &[&str] = &["--phases", "coverage,fuzzing", "--max-examples", "3"];
const RIGHT: &[&str] =
    &["--phases", "examples,fuzzing", "--max-examples", "3", "--mode", "positive"];
/// How long a run may take, on a machine that has much else to do.
const RUN: Duration = Duration::from_secs(300);
/// Nobody asks as much in so little time; that it is too much is not what is looked for.
const MUCH: &str = "[gateway]\nper_principal = { per_second = 100000, burst = 100000 }";

/// The ids of what there is, by the names of the path's parameters.
type Ids = BTreeMap<&'static str, String>;

/// What one run found.
struct Report {
    /// The words of its report, if there is anything wrong.
    wrong: Option<String>,
    /// How many requests it sent.
    asked: u64,
    /// The operations it got a good answer from.
    answered: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_is_what_is_answered() {
    let mesh = dev_with(Backing::Sqlite, MUCH).await;
    let finished = finished(&mesh).await;
    let open = Ids::from([("driving", open(&mesh).await)]);
    let [customer, driver, operator] =
        [(Role::Customer, "C1"), (Role::Driver, "D2"), (Role::Operator, "O1")]
            .map(|(role, subject)| mesh.token(role, subject));
    let (customer, driver, operator) = tokio::join!(customer, driver, operator);

    let nothing = Ids::new();
    let reports = tokio::join!(
        run(&mesh, &operator, RIGHT_AND_WRONG, &nothing),
        run(&mesh, &customer, RIGHT, &finished),
        run(&mesh, &driver, RIGHT, &open),
        run(&mesh, &operator, RIGHT, &finished),
    );
    let reports = [
        ("made up", reports.0),
        ("customer", reports.1),
        ("driver", reports.2),
        ("operator", reports.3),
    ];
    let mut answered = BTreeSet::new();
    for (name, report) in &reports {
        let count = report.answered.len();
        println!("{name}: {} requests, {count} operations answered with 2xx", report.asked);
        answered.extend(report.answered.iter().cloned());
    }
    println!("{} operations answered with 2xx in all", answered.len());
    let wrong: Vec<_> =
        reports.iter().filter_map(|(name, it)| Some((name, it.wrong.as_ref()?))).collect();
    for (name, words) in &wrong {
        println!("==== {name}\n{words}");
    }
    assert!(wrong.is_empty(), "what is wrong is said above");
    assert!(reports[0].1.asked > 500 && answered.len() > 14, "too little to mean something");
}

/// The ids of a ride that has come to its end, of the customer C1.
async fn finished(mesh: &Mesh) -> Ids {
    let mut customer = Customer::new(mesh, "C1").await;
    let driver = Driver::new(mesh, "D1").await;
    let allocation = customer.request().await.name;
    let driving = driver.finds(&allocation).await.name;
    driver.accept(&driving).await.expect("nobody else is there");
    driver.start(&driving).await.expect("accepted");
    driver.finish(&driving).await.expect("started");
    let payment = || async { customer.payments().await.pop().ok_or("no payment") };
    let payment = eventually(SOON, payment).await.name;
    let message = || async { customer.messages().await.pop().ok_or("no message") };
    let message = eventually(SOON, message).await.name;
    let id = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    Ids::from([
        ("allocation", id(&allocation)),
        ("customer", "C1".to_owned()),
        ("driving", id(&driving)),
        ("driving_info", id(&allocation)),
        ("message", id(&message)),
        ("payment", id(&payment)),
    ])
}

/// The id of a driving that any driver may accept.
async fn open(mesh: &Mesh) -> String {
    let allocation = Customer::new(mesh, "C2").await.request().await.name;
    let driving = Driver::new(mesh, "D1").await.finds(&allocation).await.name;
    driving.trim_start_matches("drivings/").to_owned()
}

/// Runs schemathesis with somebody's token, in a directory of its own.
async fn run(mesh: &Mesh, token: &str, how: &[&str], ids: &Ids) -> Report {
    let files = tempfile::tempdir().expect("a directory");
    let (settings, report) = (files.path().join("settings.toml"), files.path().join("report.json"));
    let parameters: String =
        ids.iter().map(|(name, id)| format!("\"path.{name}\" = \"{id}\"\n")).collect();
    std::fs::write(&settings, format!("{SETTINGS}\n[parameters]\n{parameters}")).expect("written");
    let mut command = Command::new(tool("python", "python"));
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(&settings);
    command.args(["run", "--no-color", "--report", "json", "--report-json-path"]).arg(&report);
    command.args(how).arg(format!("{}/openapi.json", mesh.gateway()));
    command.env("SCHEMATHESIS_HOOKS", HOOKS).env("TOKEN", token).env("NO_PROXY", "127.0.0.1");
    command.current_dir(files.path()).kill_on_drop(true);
    let output = tokio::time::timeout(RUN, command.output()).await;
    let output = output.expect("a run that ends").expect("a Python that starts");
    read(&report, &output)
}

fn read(report: &Path, output: &Output) -> Report {
    let words = [output.stdout.as_slice(), &output.stderr].concat();
    let words = String::from_utf8_lossy(&words).into_owned();
    let report: Value = testkit::read_json(report).unwrap_or_default();
    let accepted = |phases: &Value| {
        let phases = phases.as_object().into_iter().flatten();
        phases.filter_map(|(_, phase)| phase["accepted"].as_u64()).sum::<u64>()
    };
    let rates = report["valid_rates"].as_object().into_iter().flatten();
    let answered = rates.filter(|(_, phases)| accepted(phases) > 0).map(|(name, _)| name.clone());
    Report {
        wrong: (!output.status.success()).then_some(words),
        asked: report["test_cases"]["generated"].as_u64().unwrap_or_default(),
        answered: answered.collect(),
    }
}
