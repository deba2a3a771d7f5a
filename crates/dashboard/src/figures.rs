//! How many rides are stuck, for whoever collects metrics.

use std::time::Duration;

use platform::metrics::Figure;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::entity::{Column, Entity};
use crate::query::stuck;

/// All of them: a ride is stuck after this long.
pub(crate) fn figures(stuck_after: Duration) -> Vec<Figure> {
    vec![Figure::count(
        ("taxi.rides.stuck", "{ride}"),
        "Rides that wait for one of our contexts for too long",
        Box::new(move |backend, now| {
            let count = Entity::find().select_only().column_as(Column::Id.count(), "rides");
            count.filter(stuck(now.minus(stuck_after))).build(backend)
        }),
    )]
}
