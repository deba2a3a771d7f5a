//! Payment goes wrong on purpose, and a city lives through it: nobody waits, nobody pays twice, and
//! nothing is left behind.

use std::process::{Output, Stdio};
use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use testkit::{Backing, eventually};
use tokio::process::{Child, Command};

use crate::terminal::Terminal;
use crate::{dev, serve};

async fn demo(terminal: &Terminal, scenario: &str) -> Output {
    // Another city, or a build, may share the machine.
    let arguments = ["demo", "--assert", "--slack", "10", "--seed", "7", "--time-scale", "600"];
    let size = ["--rides", "30", "--riders", "12", "--drivers", "8", "-o", "json"];
    let arguments = [&arguments[..], &size, &["--scenario", scenario]].concat();
    terminal.taxi(&arguments).output().await.expect("runs")
}

/// The faults that are set.
async fn faults(terminal: &Terminal) -> Vec<String> {
    let output = terminal.taxi(&["fault", "ls", "-o", "json"]).output().await.expect("runs");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let set = rows.iter().filter(|row| !row["value"].is_null());
    set.map(|row| row["name"].to_string()).collect()
}

#[rstest]
#[case::down("payment-down")]
#[case::slow("payment-slow")]
#[case::flaky("payment-flaky")]
#[case::declined("payment-declined")]
#[case::answer_lost("answer-lost")]
#[tokio::test(flavor = "multi_thread")]
async fn a_city_lives_through(#[case] scenario: &str) {
    let mesh = dev(Backing::Sqlite).await;
    let terminal = Terminal::at(&mesh);
    let output = demo(&terminal, scenario).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {:?}\n{said}", output.status);
    assert!(said.contains("all rides are as they must be"), "{said}");

    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["rides"]["finished"], 30, "{report:#}");
    assert_eq!(report["fault"]["charges"], 30, "{report:#}");
    assert_eq!(report["fault"]["charged_won"], report["fees_won"], "{report:#}");
    // On a busy machine it may open in any of them.
    if scenario == "payment-down" || scenario == "payment-slow" {
        let breaker = &report["fault"]["breakers"][0];
        assert_eq!(breaker["name"], "pay_fee", "{report:#}");
        assert!(breaker["closed_after"].is_number(), "{report:#}");
    }
    assert_eq!(faults(&terminal).await, [""; 0]);
}

#[rstest]
#[case::at_the_terminal("INT", Some(130))]
#[case::by_somebody_else("TERM", Some(1))]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_interrupted_leaves_no_fault_behind(
    #[case] signal: &str,
    #[case] code: Option<i32>,
) {
    let mesh = dev(Backing::Sqlite).await;
    let terminal = Terminal::at(&mesh);
    let mut demo = terminal
        .taxi(&["demo", "--scenario", "payment-down", "--time-scale", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    eventually(Duration::from_secs(15), || async {
        let faults = faults(&terminal).await;
        if faults == ["\"payment.down\""] { Ok(()) } else { Err(faults) }
    })
    .await;
    send(signal, &demo).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), demo.wait()).await;
    assert_eq!(ended.expect("at once").expect("it ran").code(), code);
    assert_eq!(faults(&terminal).await, [""; 0]);
}

async fn send(signal: &str, to: &Child) {
    let pid = to.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status().await;
    assert!(sent.expect("kill is there").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong_on_purpose_in_production() {
    let mesh = serve().await;
    let output = demo(&Terminal::at(&mesh), "payment-down").await;
    assert_eq!(output.status.code(), Some(77));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("taxi: faults are for development"), "{said}");
}
