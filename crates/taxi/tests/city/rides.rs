//! A city lives on the mesh and checks itself, as the README promises.

use rstest::rstest;
use testkit::{Backing, Mesh};

use crate::terminal::Terminal;
use crate::{dev, serve};

async fn city(mesh: &Mesh, scenario: &str) {
    let arguments = ["demo", "--assert", "--seed", "7", "--time-scale", "600", "--rides", "12"];
    let arguments = [&arguments[..], &["--scenario", scenario]].concat();
    let output = Terminal::at(mesh).taxi(&arguments).output().await.expect("runs");
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
