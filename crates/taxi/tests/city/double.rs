//! A mesh of which everything runs twice, as in production: one process after the other can be
//! replaced while the other one of its kind serves.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Balancer, CONTEXTS, Mesh};

use crate::terminal::Terminal;

/// How long a process that is to stop still serves, as in Kubernetes, where others need a moment to
/// notice.
const DRAIN_DELAY: &str = "500ms";

/// A mesh of which everything runs twice.
pub(crate) struct Double {
    pub(crate) mesh: Mesh,
    /// All processes, those that do the same next to each other.
    processes: Vec<Twin>,
    /// What a Service is in Kubernetes, in front of both gateways.
    door: Balancer,
}

/// One of the two.
struct Twin {
    process: String,
    address: String,
}

impl Double {
    /// Starts this release.
    pub(crate) async fn start(release: impl AsRef<Path>) -> Double {
        let mut mesh = Mesh::prepare(release).await;
        let mut processes = Vec::new();
        for context in CONTEXTS {
            let first = mesh.ready().grpc[context].clone();
            let (replica, second) = mesh.plan_replica(context);
            let both = format!("{first},{second}");
            for caller in CONTEXTS.into_iter().chain(["gateway"]) {
                mesh.set(caller, &format!("TAXI_UPSTREAM__{}", context.to_uppercase()), &both);
            }
            mesh.set(context, "TAXI_SERVER__DRAIN_DELAY", DRAIN_DELAY);
            processes.push(Twin { process: context.to_owned(), address: first });
            processes.push(Twin { process: replica, address: second });
        }
        mesh.set("gateway", "TAXI_SERVER__DRAIN_DELAY", DRAIN_DELAY);
        // Whoever checks everything at the end reads as fast as they can.
        mesh.set("gateway", "TAXI_GATEWAY__PER_PRINCIPAL__PER_SECOND", "1000");
        mesh.set("gateway", "TAXI_GATEWAY__PER_PRINCIPAL__BURST", "1000");
        for _ in 0..2 {
            let (process, address) = mesh.plan_replica("gateway");
            processes.push(Twin { process, address });
        }
        let door = Balancer::start().expect("a port");
        // Only now, when everybody can be told of both.
        for twin in &processes {
            mesh.start_context(&twin.process).await;
            if twin.is_gateway() {
                door.add(twin.address.parse().expect("an address"));
            }
        }
        Double { mesh, processes, door }
    }

    /// As `taxi` finds it: everything behind one door, tokens where they come from.
    pub(crate) fn terminal(&self) -> Terminal {
        let door = self.door.address().to_string();
        let grpc: Value = CONTEXTS.into_iter().map(|context| (context, door.clone())).collect();
        let issuer = self.mesh.gateway();
        Terminal::of(
            &json!({ "gateway": format!("http://{door}"), "issuer": issuer, "grpc": grpc }),
        )
    }

    /// How many processes there are.
    pub(crate) fn size(&self) -> usize {
        self.processes.len()
    }

    /// Puts another release in the place of what runs, as a deployment does: first the schema, then
    /// one process after the other.
    pub(crate) async fn roll_out(&mut self, release: &Path) {
        self.mesh.install(release);
        self.mesh.migrate().await;
        for at in 0..self.size() {
            self.restart(at).await;
            self.is_of(at, release);
        }
    }

    /// Whether a process is of this release, as the system sees it.
    fn is_of(&self, at: usize, release: &Path) {
        let pid = self.mesh.pid(&self.processes[at].process);
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
        assert_eq!(program, release.canonicalize().expect("a program"));
    }

    /// Stops one process as a deployment does, and starts it again.
    pub(crate) async fn restart(&mut self, at: usize) {
        let twin = &self.processes[at];
        let backend = twin.address.parse().expect("an address");
        if twin.is_gateway() {
            self.door.remove(backend);
        }
        self.mesh.stop(&twin.process).await;
        self.mesh.start_context(&twin.process).await;
        if twin.is_gateway() {
            self.door.add(backend);
        }
    }
}

impl Twin {
    fn is_gateway(&self) -> bool {
        self.process.starts_with("gateway")
    }
}
