//! Places in the stream: how far a view has come, and whether the stream still is the one in which
//! it came that far.

use std::collections::BTreeMap;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use sea_orm::Set;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;

use super::{Projection, View, checkpoint};
use crate::broker::BrokerError;

/// A place in the stream, and when the broker stored what is there, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: i64,
    pub(super) stored_at: i64,
}

impl Place {
    /// Where a message is.
    pub(super) fn of(info: &jetstream::message::Info<'_>) -> Result<Self, BrokerError> {
        Ok(Place {
            sequence: i64::try_from(info.stream_sequence)?,
            stored_at: i64::try_from(info.published.unix_timestamp_nanos())?,
        })
    }

    /// Moves on to a later place, exactly when `Session::advance` moves the row: a row that does not
    /// know the time of its place goes without until the next one.
    pub(super) fn reach(&mut self, to: Place) {
        if to.sequence > self.sequence {
            *self = to;
        }
    }
}

/// The place in the stream of the last event on these subjects, 0 when there is none.
pub(super) async fn last_on(stream: &stream::Stream, subjects: &str) -> Result<i64, BrokerError> {
    match stream.get_last_raw_message_by_subject(subjects).await {
        Ok(message) => Ok(i64::try_from(message.sequence)?),
        Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The checkpoints of all shards.
pub(super) async fn checkpoints<V>(
    projection: &Projection<V>,
) -> Result<BTreeMap<u64, Place>, BrokerError> {
    use checkpoint::{ActiveModel, Column, Entity};
    let Projection { name, db, broker, .. } = projection;
    let fresh = (0..i32::try_from(broker.shards())?).map(|shard| ActiveModel {
        consumer: Set((*name).to_owned()),
        shard: Set(shard),
        sequence: Set(0),
        complete_at: Set(0),
        stored_at: Set(0),
    });
    Entity::insert_many(fresh)
        .on_conflict(OnConflict::columns([Column::Consumer, Column::Shard]).do_nothing().to_owned())
        .exec_without_returning(db.writer())
        .await?;
    let rows = Entity::find().filter(Column::Consumer.eq(*name)).all(db.writer()).await?;
    let place = |row: checkpoint::Model| {
        let place = Place { sequence: row.sequence, stored_at: row.stored_at };
        Ok((u64::try_from(row.shard)?, place))
    };
    rows.into_iter().map(place).collect()
}

/// Goes back where the stream is not the one any more that was folded: its broker has lost the end,
/// or all of it, and what came afterwards stands in the places of what was lost. All that was stored
/// later than the checkpoint is folded then; what the view contains it ignores.
pub(super) async fn go_back<V: View>(
    projection: &Projection<V>,
    stream: &stream::Stream,
    checkpoints: &mut BTreeMap<u64, Place>,
) -> Result<(), BrokerError> {
    use checkpoint::{Column, Entity};
    for (shard, place) in checkpoints {
        if holds(stream, place.sequence, place.stored_at).await? {
            continue;
        }
        let before = first_after(stream, place.stored_at).await? - 1;
        let back = Place {
            sequence: before,
            stored_at: stored_at(stream, before).await?.unwrap_or_default(),
        };
        let (view, from, to) = (projection.name, place.sequence, back.sequence);
        tracing::warn!(view, shard, from, to, "the stream has lost its end: folding again");
        let number = i32::try_from(*shard)?;
        let tx = projection.db.begin().await?;
        let moved = Entity::update_many()
            .col_expr(Column::Sequence, Expr::value(back.sequence))
            .col_expr(Column::StoredAt, Expr::value(back.stored_at))
            .filter(Column::Consumer.eq(projection.name))
            .filter(Column::Shard.eq(number))
            .filter(Column::Sequence.eq(place.sequence))
            .filter(Column::StoredAt.eq(place.stored_at))
            .exec(&tx)
            .await?;
        if moved.rows_affected != 1 {
            return Err("another replica has moved the checkpoints".into());
        }
        projection.view.cut(&tx, number, back.sequence).await?;
        tx.commit().await?;
        *place = back;
    }
    Ok(())
}

/// Whether the stream still is the one in which this was stored at this place at this time; a time
/// of 0 is not known.
pub(crate) async fn holds(
    stream: &stream::Stream,
    sequence: i64,
    time: i64,
) -> Result<bool, BrokerError> {
    match stored_at(stream, sequence).await? {
        Some(stored_at) => Ok(time == stored_at || time == 0),
        // Deleted by somebody, or beyond the end.
        None => {
            let end = stream.get_info().await?.state.last_sequence;
            Ok(u64::try_from(sequence)? <= end)
        }
    }
}

/// When the message at this place was stored, nanoseconds; nothing when there is none.
async fn stored_at(stream: &stream::Stream, sequence: i64) -> Result<Option<i64>, BrokerError> {
    if sequence == 0 {
        return Ok(None);
    }
    match stream.get_raw_message(u64::try_from(sequence)?).await {
        Ok(message) => Ok(Some(i64::try_from(message.time.unix_timestamp_nanos())?)),
        Err(error) if error.kind() == stream::RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The place of the first message that was stored after this time, or the one that is next.
async fn first_after(stream: &stream::Stream, time: i64) -> Result<i64, BrokerError> {
    let start_time = DateTime::from_unix_timestamp_nanos(i128::from(time) + 1)?;
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let next = i64::try_from(stream.get_info().await?.state.last_sequence)? + 1;
    if consumer.cached_info().num_pending == 0 {
        return Ok(next);
    }
    let first = consumer.messages().await?.next().await.ok_or("the broker closed")??;
    Ok(i64::try_from(first.info()?.stream_sequence)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_moves_a_checkpoint_when_the_database_does() {
        let place = |sequence, stored_at| Place { sequence, stored_at };
        for (at, to, then) in [
            (place(7, 70), place(8, 80), place(8, 80)),
            (place(7, 70), place(6, 90), place(7, 70)),
            // From before the column of times.
            (place(7, 0), place(7, 70), place(7, 0)),
            (place(7, 0), place(8, 80), place(8, 80)),
        ] {
            let mut reached = at;
            reached.reach(to);
            assert_eq!(reached, then, "from {at:?} to {to:?}");
        }
    }
}
