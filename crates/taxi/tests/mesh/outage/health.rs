//! What the contexts of a mesh say of themselves.

use std::time::Duration;

use platform::client::channel;
use testkit::{Mesh, eventually, read_json};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// How long everything may take to notice and to heal, on a machine that has much else to do.
const HEALS: Duration = Duration::from_secs(30);
/// How long a process may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);

/// One context, and who asks how it is.
pub(crate) struct Health {
    context: String,
    grpc: String,
    admin: String,
    http: reqwest::Client,
}

impl Health {
    /// Of a context of `Mesh::serve` that was ready once.
    pub(crate) fn of(mesh: &Mesh, context: &str) -> Health {
        let file = mesh.ready().data.join(format!("{context}.json"));
        let ready: serde_json::Value = read_json(&file).expect("it was ready once");
        Health::at(mesh, context, ready["admin"].as_str().expect("an admin port"))
    }

    /// Of a context whose `/readyz` is here.
    pub(crate) fn at(mesh: &Mesh, context: &str, admin: &str) -> Health {
        Health {
            context: context.to_owned(),
            grpc: mesh.address(context).to_string(),
            admin: admin.to_owned(),
            http: mesh.http().clone(),
        }
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn is_ready(&self) {
        self.misses(&[]).await;
    }

    /// Waits until it says that it is not ready for want of these of its needs, and of no other.
    pub(crate) async fn misses(&self, what: &[&str]) {
        eventually(HEALS, || async {
            let (serves, text) = (self.serves().await, self.readyz().await?);
            let named = |need: &&str| text.contains(&format!("{need} of {}", self.context));
            let missing: Vec<&str> = ["broker", "database"].into_iter().filter(named).collect();
            let agreed = serves == missing.is_empty();
            if agreed && missing == what { Ok(()) } else { Err(format!("{serves}, {text}")) }
        })
        .await;
    }

    /// What its health service says.
    async fn serves(&self) -> bool {
        let mut client = HealthClient::new(channel(&self.grpc));
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
    }

    async fn readyz(&self) -> Result<String, String> {
        let answer = self.http.get(format!("{}/readyz", self.admin)).timeout(ANSWER).send().await;
        let text = answer.map_err(|error| error.to_string())?.text().await;
        text.map_err(|error| error.to_string())
    }
}
