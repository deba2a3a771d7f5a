//! Reads the view: one ride, pages of rides, rides as they change, key figures.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kernel::{
    Actor, Clock, CustomerId, DriverId, Failure, Money, Page, PageRequest, Rejection, Role,
    Timestamp, Uuid,
};
use platform::call::parse_consistency_token;
use platform::db::{Db, failure};
use platform::projection::{AsOf, Freshness};
use platform::shutdown::Shutdown;
use proto::allocation::v1::allocation::State as Allocation;
use proto::driving::v1::driving::State as Driving;
use proto::payment::v1::payment::State as Payment;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, ExprTrait, FromQueryResult, QueryOrder, QuerySelect};

use crate::entity::{Column, Entity};
use crate::view::DrivingInfo;

/// How many rides a watch begins with, and how many it reads at a time.
const WATCHED: u64 = 100;
/// How long before a caller's deadline the wait for the view ends, so that the caller learns why.
const MARGIN: Duration = Duration::from_millis(100);

/// Answers from this context's own table.
#[derive(Clone)]
pub(crate) struct Queries {
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) freshness: Freshness,
    pub(crate) tasks: Shutdown,
    pub(crate) stuck_after: Duration,
}

/// Which rides are asked for; what is not set does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The allocation is in one of these states; none means any.
    pub(crate) states: Vec<Allocation>,
    pub(crate) customer: Option<CustomerId>,
    pub(crate) driver: Option<DriverId>,
    /// Asked for at this time or later.
    pub(crate) from: Option<Timestamp>,
    /// Asked for before this time.
    pub(crate) until: Option<Timestamp>,
}

impl Filter {
    fn condition(&self) -> Condition {
        let states = self.states.iter().copied().map(i32::from);
        Condition::all()
            .add_option((!self.states.is_empty()).then(|| Column::AllocStatus.is_in(states)))
            .add_option(self.customer.as_ref().map(|it| Column::Customer.eq(it.to_string())))
            .add_option(self.driver.as_ref().map(|it| Column::Driver.eq(it.to_string())))
            .add_option(self.from.map(|time| Column::CreateTime.gte(time.micros())))
            .add_option(self.until.map(|time| Column::CreateTime.lt(time.micros())))
    }
}

/// Which rides somebody may see.
fn visible_to(actor: &Actor) -> Condition {
    let own = |column: Column, name: String| Condition::all().add(column.eq(name));
    match actor.role {
        Role::Customer => {
            own(Column::Customer, CustomerId::from_subject(&actor.subject).to_string())
        }
        Role::Driver => own(Column::Driver, DriverId::from_subject(&actor.subject).to_string()),
        Role::Operator => Condition::all(),
        Role::Service => Condition::all().add(Expr::value(false)),
    }
}

impl Queries {
    /// How fresh the view is. To be asked before the rows are read: they are then at least as fresh.
    pub(crate) async fn as_of(&self) -> Result<AsOf, Failure> {
        self.freshness.as_of().await
    }

    /// One ride.
    pub(crate) async fn get(&self, actor: &Actor, id: Uuid) -> Result<DrivingInfo, Failure> {
        let ride = Entity::find_by_id(id).filter(visible_to(actor)).one(self.db.reader()).await;
        ride.map_err(failure)?.ok_or_else(|| {
            Rejection::not_found("DRIVING_INFO_NOT_FOUND", format!("drivingInfos/{id}")).into()
        })
    }

    /// One page of rides, newest first.
    pub(crate) async fn list(
        &self,
        actor: &Actor,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<DrivingInfo>, Failure> {
        let after = page.after.map(|after| Column::Id.lt(after));
        // One more than asked for tells whether there is another page.
        let mut items = Entity::find()
            .filter(visible_to(actor))
            .filter(filter.condition().add_option(after))
            .order_by_desc(Column::Id)
            .limit(page.size + 1)
            .all(self.db.reader())
            .await
            .map_err(failure)?;
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let more = items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(|last| last.id);
        Ok(Page { items, next })
    }

    /// The key figures of all rides.
    pub(crate) async fn summary(&self) -> Result<Summary, Failure> {
        let groups = Entity::find()
            .select_only()
            .columns([Column::AllocStatus, Column::DrivingStatus, Column::PaymentStatus])
            .column_as(Column::Id.count(), "rides")
            .column_as(total(Column::Fee), "fees")
            .column_as(total(Column::Refunded), "refunded")
            .group_by(Column::AllocStatus)
            .group_by(Column::DrivingStatus)
            .group_by(Column::PaymentStatus)
            .into_model::<Group>()
            .all(self.db.reader())
            .await
            .map_err(failure)?;
        let since = self.clock.now().minus(self.stuck_after);
        let stuck = Entity::find().filter(stuck(since)).count(self.db.reader()).await;
        Ok(Summary { groups, stuck: stuck.map_err(failure)? })
    }

    /// Waits until the view contains what this consistency token names; an empty one names nothing.
    pub(crate) async fn reach(&self, token: &str, left: Duration) -> Result<(), Failure> {
        if token.is_empty() {
            return Ok(());
        }
        let written = Written::parse(token)?;
        let patience = left - (left / 10).min(MARGIN);
        let mut freshness = self.freshness.clone();
        let reached = async {
            while self.version(&written).await? < written.version {
                self.changed(&mut freshness).await?;
            }
            Ok(())
        };
        tokio::time::timeout(patience, reached).await.unwrap_or_else(|_| {
            let message = "the view has not caught up with the consistency token yet: try again";
            Err(Rejection::deadline("VIEW_BEHIND", message).into())
        })
    }

    /// The version up to which the view knows the aggregate.
    async fn version(&self, written: &Written) -> Result<i64, Failure> {
        let version = Entity::find()
            .select_only()
            .column(written.version_column)
            .filter(written.id_column.eq(written.id))
            .into_tuple()
            .one(self.db.reader())
            .await;
        Ok(version.map_err(failure)?.unwrap_or(0))
    }

    /// Waits for a change of the view, but not beyond the end of this process.
    async fn changed(&self, freshness: &mut Freshness) -> Result<(), Rejection> {
        tokio::select! {
            () = freshness.changed() => Ok(()),
            () = self.tasks.cancelled() => {
                let message = "this process is about to stop: call again, another one answers";
                Err(Rejection::unavailable("SHUTTING_DOWN", message))
            }
        }
    }

    /// Follows the rides that match: from behind this point, or from the latest ones.
    pub(crate) async fn watch(
        &self,
        actor: &Actor,
        filter: &Filter,
        after: Option<Seen>,
    ) -> Result<Watch, Failure> {
        let condition = Condition::all().add(visible_to(actor)).add(filter.condition());
        let after = match after {
            Some(after) => after,
            None => Seen::until(self.before_latest(&condition).await?),
        };
        Ok(Watch {
            queries: self.clone(),
            freshness: self.freshness.clone(),
            condition,
            after,
            ready: VecDeque::new(),
            as_of: AsOf::default(),
            idle: false,
        })
    }

    /// The place in the stream just before the latest changes that a watch begins with.
    async fn before_latest(&self, condition: &Condition) -> Result<i64, Failure> {
        let latest: Vec<i64> = Entity::find()
            .select_only()
            .column(Column::Sequence)
            .filter(condition.clone())
            .order_by_desc(Column::Sequence)
            .limit(WATCHED)
            .into_tuple()
            .all(self.db.reader())
            .await
            .map_err(failure)?;
        Ok(latest.last().map_or(0, |oldest| oldest - 1))
    }
}

/// What a consistency token names, in the view's columns.
struct Written {
    id_column: Column,
    version_column: Column,
    id: Uuid,
    version: i64,
}

impl Written {
    fn parse(token: &str) -> Result<Written, Rejection> {
        let (kind, id, version) = parse_consistency_token(token)?;
        let (id_column, version_column) = match kind.as_str() {
            "allocation" => (Column::Id, Column::AllocationVersion),
            "driving" => (Column::Driving, Column::DrivingVersion),
            "payment" => (Column::Payment, Column::PaymentVersion),
            kind => {
                return Err(Rejection::invalid(
                    "consistency_token",
                    "INVALID_CONSISTENCY_TOKEN",
                    format!("the view does not follow any {kind}"),
                ));
            }
        };
        Ok(Written { id_column, version_column, id, version })
    }
}

/// How far a watch has seen the changes of rides: a place in the stream for each shard, since
/// replicas fold shards side by side, and one for all the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    others: i64,
    shards: BTreeMap<i32, i64>,
}

impl Seen {
    /// Everything up to this place.
    fn until(sequence: i64) -> Seen {
        Seen { others: sequence, shards: BTreeMap::new() }
    }

    /// Reads what [`Seen::to_string`] has written.
    pub(crate) fn parse(text: &str) -> Option<Seen> {
        let mut parts = text.split(',');
        let others = parts.next()?.parse().ok()?;
        let shard = |part: &str| {
            let (shard, sequence) = part.split_once(':')?;
            Some((shard.parse().ok()?, sequence.parse().ok()?))
        };
        Some(Seen { others, shards: parts.map(shard).collect::<Option<_>>()? })
    }

    /// Up to which place in this shard.
    fn of(&self, shard: i32) -> i64 {
        self.shards.get(&shard).copied().unwrap_or(self.others)
    }

    /// This shard up to this place, too.
    fn note(&mut self, shard: i32, sequence: i64) {
        self.shards.insert(shard, Ord::max(sequence, self.of(shard)));
    }

    /// What has not been seen yet.
    fn condition(&self) -> Condition {
        let apart = Column::Shard.is_not_in(self.shards.keys().copied());
        let new_in = |(shard, seen): (&i32, &i64)| {
            Condition::all().add(Column::Shard.eq(*shard)).add(Column::Sequence.gt(*seen))
        };
        self.shards.iter().map(new_in).fold(
            Condition::any().add(Condition::all().add(apart).add(Column::Sequence.gt(self.others))),
            Condition::add,
        )
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.others)?;
        self.shards.iter().try_for_each(|(shard, seen)| write!(f, ",{shard}:{seen}"))
    }
}

/// The rides that match, in the order in which they last changed, without end.
///
/// A ride that changes several times between two looks is seen once, as it is by then.
pub(crate) struct Watch {
    queries: Queries,
    freshness: Freshness,
    condition: Condition,
    /// How far rides have been handed out.
    after: Seen,
    /// Rides read ahead.
    ready: VecDeque<DrivingInfo>,
    /// How fresh the view was at the last look.
    as_of: AsOf,
    /// Whether the last look found nothing more.
    idle: bool,
}

impl Watch {
    /// The next ride that has changed, how fresh the view was when it was read, and from where to go
    /// on after it.
    pub(crate) async fn next(&mut self) -> Result<(DrivingInfo, AsOf, Seen), Failure> {
        loop {
            if let Some(ride) = self.ready.pop_front() {
                self.after.note(ride.shard, ride.sequence);
                return Ok((ride, self.as_of.clone(), self.after.clone()));
            }
            let as_of = self.queries.as_of().await?;
            let moved = as_of.sequences != self.as_of.sequences;
            self.as_of = as_of;
            if moved {
                self.go_back().await?;
            } else if self.idle {
                self.queries.changed(&mut self.freshness).await?;
                continue;
            }
            self.look().await?;
        }
    }

    /// Begins anew, with the latest rides, in every shard of which more has been seen than it has: the
    /// stream has lost its end there, and gives the places of what was seen to other changes.
    async fn go_back(&mut self) -> Result<(), Failure> {
        for (shard, end) in &self.as_of.sequences {
            if *end < self.after.of(*shard) {
                let here = self.condition.clone().add(Column::Shard.eq(*shard));
                let before = self.queries.before_latest(&here).await?;
                self.after.shards.insert(*shard, Ord::min(before, *end));
            }
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let rides = Entity::find()
            .filter(self.condition.clone())
            .filter(self.after.condition())
            .order_by_asc(Column::Sequence)
            .limit(WATCHED)
            .all(self.queries.db.reader())
            .await
            .map_err(failure)?;
        self.idle = rides.is_empty();
        if self.idle {
            // All that the view contained before the look has been seen.
            for (shard, sequence) in &self.as_of.sequences {
                self.after.note(*shard, *sequence);
            }
        }
        self.ready.extend(rides);
        Ok(())
    }
}

/// The rides that stand in the same three states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Group {
    pub(crate) alloc_status: i32,
    pub(crate) driving_status: i32,
    pub(crate) payment_status: i32,
    pub(crate) rides: i64,
    pub(crate) fees: i64,
    pub(crate) refunded: i64,
}

/// The sum of a column of amounts, 0 when there is none, as the same type in every database.
fn total(column: Column) -> Expr {
    column.sum().if_null(0).cast_as("bigint")
}

/// Key figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) groups: Vec<Group>,
    /// How many rides should have moved long ago.
    pub(crate) stuck: u64,
}

impl Summary {
    /// What has been taken, less what has been given back.
    pub(crate) fn fees_taken(&self) -> Money {
        let taken = self.groups.iter().filter(|group| is_taken(group.payment_status));
        Money::won(taken.map(|group| group.fees - group.refunded).sum())
    }

    /// What is still to be taken for finished rides.
    pub(crate) fn fees_outstanding(&self) -> Money {
        let due = self.groups.iter().filter(|group| {
            group.driving_status == i32::from(Driving::Finished) && !is_taken(group.payment_status)
        });
        Money::won(due.map(|group| group.fees).sum())
    }
}

fn is_taken(payment_status: i32) -> bool {
    [Payment::Approved, Payment::Refunded].map(i32::from).contains(&payment_status)
}

/// Rides that wait for one of our contexts, not for a person, and have done so since then: for
/// driving to open or to decide on a cancel, for payment to come to an end.
pub(crate) fn stuck(since: Timestamp) -> Condition {
    // Not as parameters: no index on some of the rows is used for states that are not known yet.
    let literal = |state: i32| Expr::Constant(state.into());
    let stands = |column: Column, state: i32| Expr::col(column).eq(literal(state));
    let settled = [Payment::Approved, Payment::Declined, Payment::Refunded].map(i32::from);
    let unopened = Condition::all()
        .add(stands(Column::AllocStatus, Allocation::Requested.into()))
        .add(stands(Column::DrivingStatus, Driving::Unspecified.into()))
        .add(Column::UpdateTime.lt(since.micros()));
    let undecided = Condition::all()
        .add(stands(Column::AllocStatus, Allocation::Cancelling.into()))
        .add(Column::UpdateTime.lt(since.micros()));
    let unpaid = Condition::all()
        .add(stands(Column::DrivingStatus, Driving::Finished.into()))
        .add(Expr::col(Column::PaymentStatus).is_not_in(settled.map(literal)))
        // What happens to the payment moves the ride: only the finish tells how long it has taken.
        .add(Column::FinishTime.lt(since.micros()));
    Condition::any().add(unopened).add(undecided).add(unpaid)
}
