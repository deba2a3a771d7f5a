//! What `taxi demo` says of a city that has lived.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// More than a city lives, on a machine that has much else to do.
const LIFE: Duration = Duration::from_secs(400);
/// On such a machine, of how many calls one may be late.
const LATE_OF: u64 = 100;

/// A city that has lived, and all of whose rides are as they must be.
pub(crate) struct Lived {
    pub(crate) report: Value,
    said: String,
}

impl Lived {
    /// Waits until its last ride has ended. The command is `taxi demo --assert -o json`.
    pub(crate) async fn through(mut demo: Command) -> Lived {
        demo.env("TAXI_LOG", "warn,taxi::cmd::demo=debug");
        let output = timeout(LIFE, demo.kill_on_drop(true).output()).await.expect("an end");
        let output = output.expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}: {}\n{said}", demo.as_std(), output.status);
        let report = serde_json::from_slice(&output.stdout).expect("JSON");
        Lived { report, said }
    }

    /// Nobody has had a call that failed. Where others want too much of this machine, one for which
    /// the caller had no time left says nothing.
    #[track_caller]
    pub(crate) fn lost_no_call(&self) {
        let Lived { report, said } = self;
        let mut failed: Vec<_> = said.lines().filter(|it| it.contains("a call failed: ")).collect();
        assert_eq!(report["calls_failed"], failed.len(), "{report:#}\n{said}");
        let all = failed.len() as u64;
        if machine_is_busy() {
            failed.retain(|it| !it.contains("Timeout expired") && !it.contains("no answer within"));
        }
        let is_rare = all * LATE_OF <= report["calls"].as_u64().expect("a number");
        assert!(failed.is_empty() && is_rare, "{report:#}\n{said}");
    }
}

fn machine_is_busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    load > 4.0 * cores as f64
}
