//! The payment provider of the world: its process, the door in front of it, and what it does wrong.
//!
//! The simulator forgets its faults when it ends. The world does not: whoever comes up again is told
//! what is still to go wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use testkit::Balancer;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::Part;
use crate::Result;
use crate::plan::Whim;

const NAME: &str = "provider-sim";
/// What it signs its webhooks with.
pub(super) const WEBHOOK_SECRET: &str = "whsec_dG9ydHVyZSBvbmx5OiB0aGVyZSBpcyBubyBzZWNyZXQ=";

/// The provider.
#[derive(Debug)]
pub(super) struct PaymentProvider {
    part: Mutex<Part>,
    door: Balancer,
    arguments: Vec<String>,
    /// By knob, in the order in which they began: the last one counts.
    whims: std::sync::Mutex<BTreeMap<&'static str, Vec<String>>>,
}

impl PaymentProvider {
    /// Starts it. What happens by chance follows from the seed; payment is where webhooks go.
    pub(super) async fn start(
        binary: &Path,
        dir: &Path,
        seed: u64,
        payment: SocketAddr,
    ) -> Result<PaymentProvider> {
        let seed = seed.to_string();
        let webhooks = format!("http://{payment}/webhooks/provider");
        let arguments =
            ["--seed", &seed, "--webhook-url", &webhooks, "--webhook-secret", WEBHOOK_SECRET];
        let arguments = arguments.map(str::to_owned).to_vec();
        let part = Part::start(NAME, binary, dir, &arguments).await?;
        let door = Balancer::start()?;
        door.add(part.address()?);
        let whims = std::sync::Mutex::default();
        Ok(PaymentProvider { part: Mutex::new(part), door, arguments, whims })
    }

    /// Where payment finds it.
    pub(super) const fn door(&self) -> SocketAddr {
        self.door.address()
    }

    /// Its base address, as long as it is not restarted.
    pub(super) async fn url(&self) -> String {
        self.part.lock().await.url().to_owned()
    }

    /// Kills it and starts it again after a while.
    pub(super) async fn restart(&self, binary: &Path, dir: &Path, away: Duration) -> Result<()> {
        let mut part = self.part.lock().await;
        part.kill();
        self.door.remove(part.address()?);
        sleep(away).await;
        *part = Part::start(NAME, binary, dir, &self.arguments).await?;
        let set: Vec<&str> = self.whims().keys().copied().collect();
        for knob in set {
            self.turn(&part, knob).await?;
        }
        self.door.add(part.address()?);
        Ok(())
    }

    /// Does something wrong for a while.
    pub(super) async fn misbehave(&self, whim: Whim, time: Duration) -> Result<()> {
        let (knob, value) = whim.setting();
        self.whims().entry(knob).or_default().push(value.clone());
        self.turn(&*self.part.lock().await, knob).await?;
        sleep(time).await;
        if let Some(values) = self.whims().get_mut(knob)
            && let Some(place) = values.iter().position(|it| *it == value)
        {
            values.remove(place);
        }
        self.turn(&*self.part.lock().await, knob).await
    }

    /// Turns a knob to where it belongs now.
    async fn turn(&self, part: &Part, knob: &str) -> Result<()> {
        let value = self.whims().get(knob).and_then(|values| values.last().cloned());
        let value = value.unwrap_or_else(|| Whim::calm(knob).to_owned());
        Ok(testkit::Provider::at(part.url()).set_fault(knob, &value).await?)
    }

    /// How it ended, once, when nobody asked for it.
    pub(super) fn ended_by_itself(&self) -> Option<String> {
        self.part.try_lock().ok()?.ended_by_itself()
    }

    fn whims(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<String>>> {
        self.whims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
