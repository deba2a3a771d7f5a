//! A city lives on the mesh and checks itself, as the README promises.

use std::process::Stdio;

use rstest::rstest;
use serde_json::json;
use testkit::{Backing, Mesh};
use tokio::process::Command;

use crate::people::{dev, serve};

async fn city(mesh: &Mesh, scenario: &str) {
    let files = tempfile::tempdir().expect("a directory");
    let ready_file = files.path().join("ready.json");
    let ready = mesh.ready();
    let ready = json!({ "gateway": ready.gateway, "grpc": ready.grpc, "nats": ready.nats });
    std::fs::write(&ready_file, ready.to_string()).expect("written");
    let arguments = ["demo", "--assert", "--seed", "7", "--time-scale", "600", "--rides", "12"];
    let output = Command::new(env!("CARGO_BIN_EXE_taxi"))
        .args(arguments)
        .args(["--scenario", scenario, "--ready-file"])
        .arg(&ready_file)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {:?}\n{said}", output.status);
    assert!(said.contains("all rides are as they must be"), "{said}");
}

#[rstest]
#[case::sqlite(Backing::Sqlite)]
#[case::postgres(Backing::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn in_one_process(#[case] backing: Backing) {
    let mesh = dev(backing).await;
    for scenario in ["happy", "cancel", "driver-race"] {
        city(&mesh, scenario).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_process_for_each_context() {
    let mesh = serve().await;
    for scenario in ["happy", "cancel", "driver-race"] {
        city(&mesh, scenario).await;
    }
}
