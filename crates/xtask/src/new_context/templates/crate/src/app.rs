//! The use cases: what customers may do, and what driving has to say.

use std::sync::Arc;

use kernel::{
    Actor, Cause, Clock, Failure, Page, PageRequest, Recorded, Repository,
};
use platform::store::Store;

use crate::domain::{Draft, __Name__, __Name__Id};

/// The __names__ of all customers.
pub struct __Names__ {
    store: Store<__Name__>,
    clock: Arc<dyn Clock>,
}

/// What every use case answers with.
pub type Outcome = Result<Recorded<__Name__>, Failure>;

impl __Names__ {
    /// The __names__ in this store.
    pub fn new(store: Store<__Name__>, clock: Arc<dyn Clock>) -> __Names__ {
        __Names__ { store, clock }
    }

    /// A customer writes one, or a ride that has ended brings one.
    pub async fn create(&self, cause: &Cause, draft: Draft) -> Outcome {
        let id = __Name__Id(self.clock.new_id());
        let (__name__, events) = __Name__::create(id, draft)?;
        self.store.create(cause, __name__, events).await
    }

    /// One that the actor may see.
    pub async fn get(&self, actor: &Actor, id: __Name__Id) -> Outcome {
        self.store.get(actor, id.0).await
    }

    /// Those that the actor may see, newest first.
    pub async fn list(
        &self,
        actor: &Actor,
        page: &PageRequest,
    ) -> Result<Page<Recorded<__Name__>>, Failure> {
        self.store.list(actor, &(), page).await
    }
}
