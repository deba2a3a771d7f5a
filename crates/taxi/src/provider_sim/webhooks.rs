//! The provider's webhooks: signed, sent again when they do not arrive, and forgotten when they never
//! do or the provider is killed. Who gets them asks anyway; they only make it sooner.

use std::sync::Arc;
use std::time::Duration;

use kernel::Clock;
use platform::clock::SystemClock;
use platform::webhooks::Secret;
use reqwest::Client;
use serde::Serialize;
use serde_json::json;

use crate::time::rfc3339;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pauses before it is sent again.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];

/// Where webhooks go, and who signs them.
#[derive(Clone)]
pub(crate) struct Webhooks {
    http: Client,
    url: String,
    secret: Secret,
    clock: Arc<dyn Clock>,
}

impl Webhooks {
    /// To this address, signed with this secret.
    pub(crate) fn new(url: String, secret: Secret) -> Webhooks {
        // For development: whoever listens is near.
        let http = Client::builder().no_proxy().build().unwrap_or_default();
        Webhooks { http, url, secret, clock: Arc::new(SystemClock) }
    }

    /// Sends one, so many times; nobody waits for it.
    pub(super) fn send(&self, kind: &'static str, data: &impl Serialize, copies: u32) {
        let id = format!("msg_{}", self.clock.new_id());
        let time = rfc3339(self.clock.now());
        let body = json!({ "type": kind, "timestamp": time, "data": data }).to_string();
        for _ in 0..copies {
            tokio::spawn(self.clone().deliver(id.clone(), body.clone()));
        }
    }

    async fn deliver(self, id: String, body: String) {
        for pause in PAUSES {
            if self.arrives(&id, &body).await {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        if !self.arrives(&id, &body).await {
            tracing::warn!(id, url = self.url, "a webhook was never heard");
        }
    }

    async fn arrives(&self, id: &str, body: &str) -> bool {
        let signed = self.secret.sign(id, self.clock.now(), body.as_bytes());
        let request = self.http.post(&self.url).timeout(PATIENCE).body(body.to_owned());
        let request = request.header("content-type", "application/json");
        let request = signed.into_iter().fold(request, |it, (name, value)| it.header(name, value));
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }
}
