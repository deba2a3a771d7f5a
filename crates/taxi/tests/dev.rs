//! `taxi dev` from its start to its end, and the commands that speak to it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{Backing, Mesh};

const BIN: &str = env!("CARGO_BIN_EXE_taxi");

/// Runs a client command against the mesh; exit code, stdout and stderr.
fn taxi(ready_file: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BIN);
    command.args(arguments).arg("--ready-file").arg(ready_file);
    let output = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_person_can_look_around_and_ask_for_a_car() {
    let mesh = Mesh::start(BIN, Backing::Sqlite).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ready_file = dir.path().join("ready.json");
    let ready = json!({"gateway": mesh.gateway(), "grpc": mesh.ready().grpc});
    std::fs::write(&ready_file, ready.to_string()).expect("written");
    let taxi = |arguments: &[&str]| taxi(&ready_file, arguments);

    let (code, listed, _) = taxi(&["list", "-o", "jsonl"]);
    assert_eq!(code, 0);
    let rows: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.iter().any(|row| row["rest"] == "POST /v1/allocations"), "{listed}");

    let (code, described, _) = taxi(&["describe", "Allocation.State"]);
    assert_eq!(code, 0);
    assert!(described.contains("enum taxi.allocation.v1.Allocation.State {"), "{described}");

    let (code, token, _) = taxi(&["token", "--role", "customer", "--sub", "C1"]);
    assert_eq!((code, token.trim().split('.').count()), (0, 3));

    let request = r#"{"allocation": {"destination": {"address": "Misa"}}}"#;
    let ask = ["call", "allocation", "RequestAllocation", request];
    let (code, _, refusal) = taxi(&ask);
    assert_eq!(code, 77, "{refusal}");
    assert!(refusal.starts_with("taxi: UNAUTHENTICATED TOKEN_MISSING: "), "{refusal}");

    let (code, answer, refusal) = taxi(&[&ask[..], &["--token", token.trim()]].concat());
    assert_eq!(code, 0, "{refusal}");
    let allocation: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(allocation["state"], "STATE_REQUESTED");
    assert_eq!(allocation["customer"], "customers/C1");

    let get = json!({"name": allocation["name"]}).to_string();
    let as_c2 = ["--role", "customer", "--sub", "C2"];
    let get = ["call", "AllocationService", "getAllocation", &get];
    let (code, _, refusal) = taxi(&[&get[..], &as_c2].concat());
    assert_eq!(code, 1, "{refusal}");
    assert!(refusal.starts_with("taxi: NOT_FOUND ALLOCATION_NOT_FOUND: "), "{refusal}");
}
