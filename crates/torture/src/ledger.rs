//! Somebody who looks at the ledger while the run lasts: what is written there stays as it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel::Uuid;
use tokio::time::sleep;

use crate::evidence::{Movement, movements};
use crate::findings::Findings;
use crate::world::World;

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(700);

/// What was seen of the ledger. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    seen: Arc<Mutex<BTreeMap<(Uuid, String), Movement>>>,
    findings: Findings,
}

impl Reader {
    /// Reads the ledger again and again, until dropped.
    pub(crate) async fn watch(&self, world: &World) {
        loop {
            // While the database is away there is nothing to see.
            if let Ok(ledger) = movements(&world.database("payment").await).await {
                self.compare(&ledger);
            }
            sleep(LOOK).await;
        }
    }

    /// Whether all that was there is there as it was.
    pub(crate) fn compare(&self, ledger: &[Movement]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |it: &Movement| (it.charge, it.kind.clone());
        let now: BTreeMap<_, _> = ledger.iter().map(|it| (key(it), it.clone())).collect();
        for (key, before) in &*seen {
            self.findings.look();
            match now.get(key) {
                Some(after) if after == before => {}
                after => self.findings.report(format!("{before:?} has become {after:?}")),
            }
        }
        // Said once.
        *seen = now;
    }

    /// What was found.
    pub(crate) const fn findings(&self) -> &Findings {
        &self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movement(charge: u128, amount: i64) -> Movement {
        Movement { charge: Uuid::from_u128(charge), amount, ..Movement::default() }
    }

    #[test]
    fn a_row_may_come_but_neither_change_nor_go() {
        let reader = Reader::default();
        reader.compare(&[movement(1, 100)]);
        reader.compare(&[movement(1, 100), movement(2, 200)]);
        assert_eq!(reader.findings().broken(), [""; 0]);
        reader.compare(&[movement(1, 100), movement(2, 201)]);
        assert_eq!(reader.findings().broken().len(), 1);
        reader.compare(&[movement(2, 201)]);
        assert_eq!(reader.findings().broken().len(), 2);
    }
}
