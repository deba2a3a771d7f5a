//! Feeds the view: a batch of deliveries is one read, a fold in memory, and one write.

use std::collections::{HashMap, HashSet};

use kernel::{Failure, Uuid};
use platform::broker::{Broker, Delivery};
use platform::db::{failure, internal};
use platform::projection::View;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, DatabaseTransaction, IntoActiveModel, Iterable};

use crate::entity::{Column, Entity};
use crate::view::{DrivingInfo, Event};

/// The view of all rides.
pub(crate) struct DrivingInfos {
    /// For the shard of each ride.
    pub(crate) broker: Broker,
}

impl View for DrivingInfos {
    async fn fold(&self, tx: &DatabaseTransaction, batch: &[Delivery]) -> Result<(), Failure> {
        let events = decode(batch)?;
        let mut rides = load(tx, &events).await.map_err(failure)?;
        let mut changed = HashSet::new();
        for (delivery, event) in &events {
            let id = delivery.correlation;
            let ride = rides.entry(id).or_insert_with(|| DrivingInfo::before(delivery));
            if ride.fold(delivery, event) {
                ride.shard = i32::try_from(self.broker.shard_of(id)).map_err(internal)?;
                changed.insert(id);
            }
        }
        rides.retain(|id, _| changed.contains(id));
        // In the order of the table, which costs the database less.
        let mut rides: Vec<DrivingInfo> = rides.into_values().collect();
        rides.sort_unstable_by_key(|ride| ride.id);
        save(tx, rides).await.map_err(failure)
    }

    /// What was beyond the end is behind nothing any more: those who watch would take what comes next
    /// for old.
    async fn cut(&self, tx: &DatabaseTransaction, shard: i32, end: i64) -> Result<(), Failure> {
        Entity::update_many()
            .col_expr(Column::Sequence, Expr::value(end))
            .filter(Column::Shard.eq(shard))
            .filter(Column::Sequence.gt(end))
            .exec(tx)
            .await
            .map(drop)
            .map_err(failure)
    }
}

/// The events of a batch that this version knows.
fn decode(batch: &[Delivery]) -> Result<Vec<(&Delivery, Event)>, Failure> {
    let mut events = Vec::with_capacity(batch.len());
    for delivery in batch {
        match Event::decode(&delivery.kind, &delivery.payload).map_err(internal)? {
            Some(event) => events.push((delivery, event)),
            None => tracing::debug!(kind = %delivery.kind, event = %delivery.id, "passed over"),
        }
    }
    Ok(events)
}

async fn load(
    db: &impl ConnectionTrait,
    events: &[(&Delivery, Event)],
) -> Result<HashMap<Uuid, DrivingInfo>, DbErr> {
    let ids: HashSet<Uuid> = events.iter().map(|(delivery, _)| delivery.correlation).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rides = Entity::find().filter(Column::Id.is_in(ids)).all(db).await?;
    Ok(rides.into_iter().map(|ride| (ride.id, ride)).collect())
}

async fn save(db: &impl ConnectionTrait, rides: Vec<DrivingInfo>) -> Result<(), DbErr> {
    if rides.is_empty() {
        return Ok(());
    }
    let all_but_id = Column::iter().filter(|column| !matches!(column, Column::Id));
    Entity::insert_many(rides.into_iter().map(IntoActiveModel::into_active_model))
        .on_conflict(OnConflict::column(Column::Id).update_columns(all_but_id).to_owned())
        .exec_without_returning(db)
        .await
        .map(|_| ())
}
