//! An upgrade: the release before this one is replaced by this one, which is taken back, and rolled
//! out again, each time the schema first and then one process after the other. Meanwhile people live
//! there by the clients of both releases. Nobody has a call that fails.
//!
//! So each release works beside the other one: on one schema, on each other's events, and with each
//! other's clients.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::TAXI;
use crate::double::Double;
use crate::lived::Lived;
use crate::terminal::Terminal;

/// A city that is soon done.
const SIZE: [&str; 8] = ["--rides", "20", "--riders", "10", "--drivers", "8", "--time-scale", "90"];

/// The release before this one. It is built when it is not there yet.
fn previous() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/previous-binary.sh");
    let output = Command::new(script).stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "there is no previous release to start from:\n{said}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What became of a city.
struct Life {
    release: PathBuf,
    rides: u64,
    calls: u64,
    /// Of these: on a busy machine a few may have come too late.
    failed: u64,
}

/// A city lives by the clients of one release until it is closed: as soon as its people have had all
/// their rides, others come.
async fn live(terminal: Terminal, release: PathBuf, closed: watch::Receiver<bool>) -> Life {
    let mut life = Life { release, rides: 0, calls: 0, failed: 0 };
    for seed in 1.. {
        life.go_on(&terminal, seed).await;
        if *closed.borrow() {
            break;
        }
    }
    life
}

impl Life {
    async fn go_on(&mut self, terminal: &Terminal, seed: u32) {
        let seed = seed.to_string();
        let demo = ["demo", "--assert", "--slack", "3", "-o", "json", "--seed", &*seed];
        let demo = terminal.release(&self.release, &[demo, SIZE].concat());
        let lived = Lived::through(demo).await;
        lived.lost_no_call();
        let report = &lived.report;
        let count = |it: &Value| it.as_u64().expect("a number");
        self.rides += count(&report["rides"]["finished"]);
        self.calls += count(&report["calls"]);
        self.failed += count(&report["calls_failed"]);
    }
}

/// Whether the view is what all events make of it, those of either release.
async fn view_is_whole(double: &Double) {
    let (mesh, terminal) = (&double.mesh, double.terminal());
    let mut rebuild = terminal.taxi(&["rebuild", "dashboard"]);
    rebuild.env("TAXI_DATABASE__DASHBOARD__URL", mesh.database_url("dashboard"));
    rebuild.env("TAXI_BROKER__URL", &mesh.ready().nats);
    let output = rebuild.output().await.expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_its_rollback_and_another_upgrade_cost_no_call() {
    let (previous, this) = (previous(), PathBuf::from(TAXI));
    let mut double = Double::start(&previous).await;
    let closing = watch::Sender::new(false);
    let mut cities = JoinSet::new();
    for clients in [&previous, &this] {
        cities.spawn(live(double.terminal(), clients.clone(), closing.subscribe()));
    }
    let upgrades = async {
        for release in [&this, &previous, &this] {
            double.roll_out(release).await;
        }
    };
    tokio::select! {
        () = upgrades => {}
        Some(Err(failed)) = cities.join_next() => std::panic::resume_unwind(failed.into_panic()),
    }
    closing.send_replace(true);
    for Life { release, rides, calls, failed } in cities.join_all().await {
        let release = release.display();
        println!(
            "by the clients of {release}: {rides} rides, {calls} calls, {failed} of them failed"
        );
    }
    view_is_whole(&double).await;
}
