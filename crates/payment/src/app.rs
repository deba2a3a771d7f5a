//! The use cases: a fee is to be taken, now or when its time has come, and given back.

mod admission;
mod attempt;
mod pay;
mod reconcile;
mod refund;
mod settle;
mod tokens;

use std::sync::Arc;

use kernel::{
    Actor, Clock, DrivingId, Failure, Page, PageRequest, PaymentId, Recorded, Rejection, Repository,
};
use platform::db::Db;
use platform::store::Store;
use tokio::sync::Notify;

use self::admission::Admission;
use self::tokens::Tokens;
use crate::Config;
use crate::domain::{Claim, Filter, Payment};
use crate::ports::Provider;

pub use self::refund::RefundRequest;

/// The payments of all drivings.
pub struct Payments {
    store: Store<Payment>,
    db: Db,
    provider: Box<dyn Provider>,
    clock: Arc<dyn Clock>,
    config: Config,
    admission: Admission,
    tokens: Tokens,
    news: Notify,
}

/// What every use case answers with.
pub type Outcome = Result<Recorded<Payment>, Failure>;

impl Payments {
    /// The payments in this store, which is in this database.
    pub fn new(
        store: Store<Payment>,
        db: Db,
        provider: Box<dyn Provider>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Payments {
        let admission = Admission::new(config.queue.get(), config.concurrency.get());
        let tokens = Tokens::new(config.reconcile_rate, clock.clone());
        let news = Notify::new();
        Payments { store, db, provider, clock, config, admission, tokens, news }
    }

    /// One payment that the actor may see.
    pub async fn get(&self, actor: &Actor, id: PaymentId) -> Outcome {
        self.store.get(actor, id.0).await
    }

    /// The payments that the actor may see, newest first.
    pub async fn list(
        &self,
        actor: &Actor,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Recorded<Payment>>, Failure> {
        self.store.list(actor, filter, page).await
    }

    async fn of_driving(&self, actor: &Actor, driving: DrivingId) -> Outcome {
        let filter = Filter { driving: Some(driving), ..Filter::default() };
        let page = PageRequest { size: 1, after: None };
        let found = self.store.list(actor, &filter, &page).await?.items.pop();
        let name = format!("payment of {driving}");
        found.ok_or_else(|| Rejection::not_found("PAYMENT_NOT_FOUND", name).into())
    }

    fn new_claim(&self) -> Claim {
        Claim { id: self.clock.new_id(), time: self.clock.now() }
    }
}
