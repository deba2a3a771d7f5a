//! Aggregates, and the port behind which they are kept.

use std::future::Future;
use std::ops::{Deref, DerefMut};

use uuid::Uuid;

use crate::{Actor, Cause, Failure, Rejection, Timestamp};

/// A consistency boundary: it alone decides about its own state, and says what happened.
pub trait Aggregate: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// What can happen to it.
    type Event: Clone + std::fmt::Debug + Send + Sync + 'static;
    /// How it is looked for in lists.
    type Filter: Send + Sync;
    /// Its name in subjects, tokens and logs, such as `order`.
    const KIND: &'static str;
    /// Its identity.
    fn id(&self) -> Uuid;
}

/// An aggregate as it is on record: the domain's state beside what the record knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<A> {
    /// The domain's own state.
    pub aggregate: A,
    /// Counts changes; the entity tag of the resource and the guard of the next write.
    pub revision: i64,
    /// Counts events; the aggregate version that consumers see, 1..n without a gap.
    pub version: i64,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

impl<A> Recorded<A> {
    /// The entity tag a client may send back to make sure that it decides on what it saw.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.revision)
    }

    /// Refuses when the client decided on an older state than the present one.
    pub fn require_etag(&self, etag: Option<&str>) -> Result<(), Rejection> {
        match etag {
            Some(etag) if etag != self.etag() => Err(Rejection::aborted(
                "ETAG_MISMATCH",
                format!("etag is {}, not {etag}: read again and decide again", self.etag()),
            )),
            _ => Ok(()),
        }
    }
}

impl<A> Deref for Recorded<A> {
    type Target = A;
    fn deref(&self) -> &A {
        &self.aggregate
    }
}

impl<A> DerefMut for Recorded<A> {
    fn deref_mut(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many.
    pub size: u64,
    /// Only what comes after this key; lists are ordered by id, newest first.
    pub after: Option<Uuid>,
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// The key to go on from; `None` when this was the last part.
    pub next: Option<Uuid>,
}

/// Where aggregates of one kind live.
///
/// Every change is one transaction of row, events and cause. The decision is a plain function: it
/// cannot await, so nobody can call a neighbour, a broker or a clock while a row is locked, and the
/// record is free to commit many decisions together.
pub trait Repository<A: Aggregate>: Clone + Send + Sync + 'static {
    /// Puts a new aggregate on record. A cause seen before gets its first answer again.
    fn create(
        &self,
        cause: &Cause,
        aggregate: A,
        events: Vec<A::Event>,
    ) -> impl Future<Output = Result<Recorded<A>, Failure>> + Send;

    /// Lets the aggregate decide, perhaps more than once when the first transaction did not come to
    /// its end. Only an aggregate that is open to the cause's actor is found. A cause seen before
    /// changes nothing: a client's gets its first answer again, a policy's the aggregate as it is.
    /// A rejection burns no cause.
    fn change(
        &self,
        cause: &Cause,
        id: Uuid,
        decision: impl Fn(&mut Recorded<A>) -> Result<Vec<A::Event>, Rejection> + Send + Sync + 'static,
    ) -> impl Future<Output = Result<Recorded<A>, Failure>> + Send;

    /// Reads one aggregate that this actor may see.
    fn get(
        &self,
        actor: &Actor,
        id: Uuid,
    ) -> impl Future<Output = Result<Recorded<A>, Failure>> + Send;

    /// Lists the aggregates that this actor may see, newest first.
    fn list(
        &self,
        actor: &Actor,
        filter: &A::Filter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Recorded<A>>, Failure>> + Send;
}
