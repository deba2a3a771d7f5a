//! Whether every fee was taken exactly once, by the provider's own log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use testkit::Provider;
use tokio::time::{Instant, sleep};

use crate::Result;

/// A fee that is taken later than this, with all well, is taken too late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(250);

/// The drivings that have finished.
#[derive(Debug, Default)]
pub(crate) struct Books {
    finished: BTreeSet<String>,
    /// Those whose fee has not been looked for yet.
    new: BTreeSet<String>,
}

/// What the provider has taken.
#[derive(Debug, Serialize)]
pub(crate) struct Fees {
    pub(crate) due: usize,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
}

impl Books {
    /// This driving has finished: its fee is due.
    pub(crate) fn finished(&mut self, driving: String) {
        self.new.insert(driving.clone());
        self.finished.insert(driving);
    }

    /// Waits until all new fees are taken, and says when that was seen; or gives up on them.
    pub(crate) async fn all_taken(&mut self, provider: &Provider) -> Result<Instant> {
        let end = Instant::now() + PATIENCE;
        let mut new = std::mem::take(&mut self.new);
        loop {
            let taken = taken(provider).await?;
            new.retain(|driving| !taken.contains_key(driving));
            if new.is_empty() {
                break;
            }
            if Instant::now() >= end {
                eprintln!("  {} fees are not taken after {PATIENCE:?}", new.len());
                break;
            }
            sleep(POLL).await;
        }
        Ok(Instant::now())
    }

    /// Compares with the provider's log.
    pub(crate) async fn audit(&self, provider: &Provider) -> Result<Fees> {
        let taken = taken(provider).await?;
        let lost = self.finished.iter().filter(|driving| !taken.contains_key(*driving));
        Ok(Fees {
            due: self.finished.len(),
            lost: lost.count(),
            twice: taken.values().filter(|times| **times > 1).count(),
        })
    }
}

impl Fees {
    /// What is wrong with them, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let Fees { due, lost, twice } = self;
        (lost + twice > 0).then(|| format!("of {due} fees {lost} are lost, {twice} taken twice"))
    }
}

/// How often the fee of which driving was taken.
async fn taken(provider: &Provider) -> Result<BTreeMap<String, u32>> {
    let mut taken = BTreeMap::new();
    for charge in provider.charges().await? {
        if charge.status == "approved" {
            *taken.entry(charge.driving).or_default() += 1;
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fee_that_is_lost_or_taken_twice_is_a_complaint() {
        let complaint = |lost, twice| Fees { due: 9, lost, twice }.complaint();
        assert_eq!(complaint(0, 0), None);
        let sentence = "of 9 fees 1 are lost, 2 taken twice";
        assert_eq!(complaint(1, 2).as_deref(), Some(sentence));
        assert!(complaint(1, 0).is_some() && complaint(0, 1).is_some());
    }
}
