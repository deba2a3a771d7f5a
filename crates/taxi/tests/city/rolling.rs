//! A deployment: everything runs twice, and all of it is restarted in turn while a city lives there.
//! Nobody has a call that fails.

use serde_json::{Value, json};
use testkit::{Balancer, CONTEXTS, Mesh};

use crate::serve;
use crate::terminal::Terminal;

/// How long a process that is to stop still serves, as in Kubernetes, where others need a moment to
/// notice.
const DRAIN_DELAY: &str = "500ms";

/// A mesh of which everything runs twice.
struct Double {
    mesh: Mesh,
    /// All processes, those that do the same next to each other.
    processes: Vec<(String, String)>,
    /// What a Service is in Kubernetes, in front of both gateways.
    door: Balancer,
}

impl Double {
    async fn start() -> Double {
        let mut mesh = serve().await;
        let mut processes = Vec::new();
        for context in CONTEXTS {
            mesh.set(context, "TAXI_SERVER__DRAIN_DELAY", DRAIN_DELAY);
            let (replica, address) = mesh.start_replica(context).await;
            let first = mesh.ready().grpc[context].clone();
            let both = format!("{first},{address}");
            for caller in CONTEXTS.into_iter().chain(["gateway"]) {
                mesh.set(caller, &format!("TAXI_UPSTREAM__{}", context.to_uppercase()), &both);
            }
            processes.extend([(context.to_owned(), first), (replica, address)]);
        }
        // Now that everybody knows of both.
        for (process, _) in &processes {
            mesh.stop(process).await;
            mesh.start_context(process).await;
        }
        mesh.set("gateway", "TAXI_SERVER__DRAIN_DELAY", DRAIN_DELAY);
        // Whoever checks everything at the end reads as fast as they can.
        mesh.set("gateway", "TAXI_GATEWAY__PER_PRINCIPAL__PER_SECOND", "1000");
        mesh.set("gateway", "TAXI_GATEWAY__PER_PRINCIPAL__BURST", "1000");
        let door = Balancer::start().expect("a port");
        for _ in 0..2 {
            let (gateway, address) = mesh.start_replica("gateway").await;
            door.add(address.parse().expect("an address"));
            processes.push((gateway, address));
        }
        Double { mesh, processes, door }
    }

    /// As `taxi` finds it: everything behind one door, tokens where they come from.
    fn terminal(&self) -> Terminal {
        let door = self.door.address().to_string();
        let grpc: Value = CONTEXTS.into_iter().map(|context| (context, door.clone())).collect();
        let issuer = self.mesh.gateway();
        Terminal::of(
            &json!({ "gateway": format!("http://{door}"), "issuer": issuer, "grpc": grpc }),
        )
    }

    /// Stops one process as a deployment does, and starts it again.
    async fn restart(&mut self, at: usize) {
        let (process, address) = &self.processes[at];
        let backend = address.parse().expect("an address");
        let is_gateway = process.starts_with("gateway");
        if is_gateway {
            self.door.remove(backend);
        }
        self.mesh.stop(process).await;
        self.mesh.start_context(process).await;
        if is_gateway {
            self.door.add(backend);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_costs_no_call() {
    let mut double = Double::start().await;
    let terminal = double.terminal();
    let size = ["--rides", "150", "--riders", "40", "--drivers", "30"];
    let arguments = ["demo", "--assert", "--seed", "7", "--time-scale", "60", "-o", "json"];
    let mut demo = terminal.taxi(&[&arguments[..], &size].concat());
    demo.env("TAXI_LOG", "warn,taxi::cmd::demo=debug");
    let demo = tokio::spawn(async move { demo.output().await });
    let all = double.processes.len();
    let mut restarts = 0;
    while !demo.is_finished() {
        double.restart(restarts % all).await;
        restarts += 1;
    }
    let output = demo.await.expect("no panic").expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    println!(
        "{} rides in {} s, {} calls, {} of them failed; {restarts} restarts of {all} processes",
        report["rides"]["finished"], report["seconds"], report["calls"], report["calls_failed"],
    );
    assert_eq!(report["calls_failed"], 0, "{report:#}\n{said}");
    assert!(restarts >= all, "the city was done before everything had been restarted");
}
