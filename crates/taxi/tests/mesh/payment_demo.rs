//! Payment goes wrong on purpose, and a city lives through it: nobody waits, nobody pays twice, and
//! nothing is left behind. (Who is declined is shown step by step in `dues`.)

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Backing, Mesh, eventually};
use tokio::process::{Child, Command};

use crate::people::{SOON, dev, serve};

/// `taxi` for a running mesh.
struct Terminal {
    _dir: TempDir,
    ready_file: PathBuf,
}

impl Terminal {
    fn of(mesh: &Mesh) -> Terminal {
        let dir = tempfile::tempdir().expect("a directory");
        let ready_file = dir.path().join("ready.json");
        let ready = mesh.ready();
        let ready = json!({
            "gateway": ready.gateway,
            "grpc": ready.grpc,
            "nats": ready.nats,
            "provider": ready.provider,
        });
        std::fs::write(&ready_file, ready.to_string()).expect("written");
        Terminal { _dir: dir, ready_file }
    }

    fn taxi(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxi"));
        command.args(arguments).arg("--ready-file").arg(&self.ready_file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    async fn demo(&self, scenario: &str) -> Output {
        // Other tests keep the machine busy.
        let arguments = ["demo", "--assert", "--slack", "10", "--seed", "7", "--time-scale", "600"];
        let size = ["--rides", "30", "--riders", "12", "--drivers", "8", "-o", "json"];
        let arguments = [&arguments[..], &size, &["--scenario", scenario]].concat();
        self.taxi(&arguments).output().await.expect("runs")
    }

    /// The faults that are set.
    async fn faults(&self) -> Vec<String> {
        let output = self.taxi(&["fault", "ls", "-o", "json"]).output().await.expect("runs");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let set = rows.iter().filter(|row| !row["value"].is_null());
        set.map(|row| row["name"].to_string()).collect()
    }
}

#[rstest]
#[case::down("payment-down")]
#[case::slow("payment-slow")]
#[case::flaky("payment-flaky")]
#[case::answer_lost("answer-lost")]
#[tokio::test(flavor = "multi_thread")]
async fn a_city_lives_through(#[case] scenario: &str) {
    let mesh = dev(Backing::Sqlite).await;
    let terminal = Terminal::of(&mesh);
    let output = terminal.demo(scenario).await;
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
    assert_eq!(terminal.faults().await, [""; 0]);
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
    let terminal = Terminal::of(&mesh);
    let mut demo = terminal
        .taxi(&["demo", "--scenario", "payment-down", "--time-scale", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    eventually(SOON, || async {
        let faults = terminal.faults().await;
        if faults == ["\"payment.down\""] { Ok(()) } else { Err(faults) }
    })
    .await;
    send(signal, &demo).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), demo.wait()).await;
    assert_eq!(ended.expect("at once").expect("it ran").code(), code);
    assert_eq!(terminal.faults().await, [""; 0]);
}

async fn send(signal: &str, to: &Child) {
    let pid = to.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status().await;
    assert!(sent.expect("kill is there").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong_on_purpose_in_production() {
    let mesh = serve().await;
    let output = Terminal::of(&mesh).demo("payment-down").await;
    assert_eq!(output.status.code(), Some(77));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("taxi: faults are for development"), "{said}");
}
