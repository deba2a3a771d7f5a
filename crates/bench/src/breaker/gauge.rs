//! A circuit breaker, as its process shows it at `/metrics`.

use std::time::Duration;

use serde::Deserialize;
use testkit::{Mesh, read_json};
use tokio::time::{Instant, sleep};

use crate::Result;

const POLL: Duration = Duration::from_millis(20);

/// What a process says about one of its breakers.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    http: reqwest::Client,
    url: String,
    name: &'static str,
}

impl Gauge {
    /// Of the breaker by this name in a context.
    pub(crate) fn of(mesh: &Mesh, context: &str, name: &'static str) -> Result<Gauge> {
        #[derive(Deserialize)]
        struct Ready {
            admin: String,
        }
        let file = mesh.ready().data.join(format!("{context}.json"));
        let Ready { admin } = read_json(&file).ok_or("a context without an admin port")?;
        // Nobody's proxy knows our loopback.
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Gauge { http, url: format!("{admin}/metrics"), name })
    }

    /// Whether everybody may call.
    pub(crate) async fn is_closed(&self) -> Result<bool> {
        let name = self.name;
        Ok(self.read(&format!("taxi_breaker_state{{name=\"{name}\"}}")).await? == 0)
    }

    /// How often it has opened.
    pub(crate) async fn openings(&self) -> Result<u64> {
        let name = self.name;
        self.read(&format!("taxi_breaker_changes_total{{name=\"{name}\",to=\"open\"}}")).await
    }

    /// When it opened once more than so often.
    pub(crate) async fn opens_again(&self, openings: u64) -> Result<Instant> {
        while self.openings().await? <= openings {
            sleep(POLL).await;
        }
        Ok(Instant::now())
    }

    async fn read(&self, series: &str) -> Result<u64> {
        let text = self.http.get(&self.url).send().await?.error_for_status()?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series));
        Ok(value.ok_or_else(|| format!("no {series} at {}", self.url))?.trim().parse()?)
    }
}
