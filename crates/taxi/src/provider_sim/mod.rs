//! The simulated payment provider: what a real one is to us, over real HTTP, with a log of its own.
//!
//! For development and tests. It takes money from nobody, and it keeps its word on one thing: an
//! idempotency key is charged at most once, for ever, whatever else goes wrong. And what goes wrong
//! can be set while it runs. Its interface is described in `docs/provider-api.md`.
//!
//! | file | has |
//! |---|---|
//! | `api.rs` | the HTTP interface |
//! | `log.rs` | what was asked, charged and given back, in SQLite |
//! | `faults.rs` | what can be made to go wrong |
//! | `webhooks.rs` | what it says without being asked |

mod api;
mod faults;
mod log;
#[cfg(test)]
mod tests;
mod webhooks;

use std::future::Future;
use std::path::Path;

use axum::Router;
use kernel::Uuid;
use sea_orm::DbErr;

pub(crate) use self::faults::KNOBS;
use self::faults::{Faults, Loss, Obstacle};
use self::log::{Charge, ChargeWish, Log, Operation, Refund, RefundWish};
pub(crate) use self::webhooks::Webhooks;
use crate::exit::Exit;

/// The provider. Clones are the same.
#[derive(Clone)]
pub(crate) struct Provider {
    log: Log,
    faults: Faults,
    webhooks: Option<Webhooks>,
}

/// Why there is no answer with a charge or a refund, or none at all.
#[derive(Debug)]
enum Refusal {
    Malformed(String),
    UnknownCharge,
    KeyReused,
    TooMuch,
    Down,
    Error,
    Lost(Loss),
    Broken(DbErr),
}

impl From<DbErr> for Refusal {
    fn from(error: DbErr) -> Refusal {
        Refusal::Broken(error)
    }
}

impl Provider {
    /// Opens the log in this file; what goes wrong by chance follows from the seed.
    pub(crate) async fn open(
        file: &Path,
        seed: u64,
        webhooks: Option<Webhooks>,
    ) -> Result<Provider, Exit> {
        Ok(Provider { log: Log::open(file).await?, faults: Faults::new(seed), webhooks })
    }

    /// Its HTTP interface.
    pub(crate) fn router(self) -> Router {
        api::router(self)
    }

    async fn charge(&self, key: Uuid, wish: ChargeWish) -> Result<Charge, Refusal> {
        self.meet(Operation::Charge, key).await?;
        let provider = self.clone();
        detached(async move {
            tokio::time::sleep(provider.faults.latency()).await;
            let reason = provider.reason_to_decline(&wish);
            let (charge, new) = provider.log.charge(key, &wish, reason).await?;
            if new {
                let approved = charge.status == "approved";
                provider
                    .tell(if approved { "charge.approved" } else { "charge.declined" }, &charge);
            }
            provider.answer(charge)
        })
        .await
    }

    async fn refund(&self, key: Uuid, of: Uuid, wish: RefundWish) -> Result<Refund, Refusal> {
        self.meet(Operation::Refund, key).await?;
        let provider = self.clone();
        detached(async move {
            tokio::time::sleep(provider.faults.latency()).await;
            let (refund, new) = provider.log.refund(key, of, &wish).await?;
            if new {
                provider.tell("refund.succeeded", &refund);
            }
            provider.answer(refund)
        })
        .await
    }

    async fn look_up(&self, key: Uuid) -> Result<Charge, Refusal> {
        self.meet(Operation::LookUp, key).await?;
        tokio::time::sleep(self.faults.latency()).await;
        self.log.find(key).await
    }

    /// Lets happen what stands in the way of a request. It is on record all the same.
    async fn meet(&self, operation: Operation, key: Uuid) -> Result<(), Refusal> {
        let Some(obstacle) = self.faults.obstacle() else { return Ok(()) };
        self.log.note(operation, key).await?;
        Err(match obstacle {
            Obstacle::Refused => Refusal::Down,
            Obstacle::Cut => Refusal::Lost(Loss::Cut),
            Obstacle::Error => Refusal::Error,
            Obstacle::Hangs => std::future::pending().await,
        })
    }

    fn reason_to_decline(&self, wish: &ChargeWish) -> Option<&'static str> {
        if has_no_money(&wish.customer) {
            return Some("insufficient_funds");
        }
        self.faults.declines().then_some("card_declined")
    }

    fn tell(&self, kind: &'static str, about: &impl serde::Serialize) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.send(kind, about, self.faults.copies());
        }
    }

    /// The answer, unless it gets lost.
    fn answer<T>(&self, answer: T) -> Result<T, Refusal> {
        match self.faults.loses_answer() {
            Some(loss) => Err(Refusal::Lost(loss)),
            None => Ok(answer),
        }
    }
}

/// Does something to its end, even when whoever asked for it hangs up.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    // Only a panic ends it early, and that is in the log.
    tokio::spawn(work).await.unwrap_or(Err(Refusal::Error))
}

fn has_no_money(customer: &str) -> bool {
    customer.strip_prefix("customers/").unwrap_or(customer).starts_with("declined")
}
