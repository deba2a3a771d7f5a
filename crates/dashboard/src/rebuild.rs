//! Folds all rides once more, beside the view that is read.

use kernel::{Clock, Uuid};
use platform::broker::{Broker, Delivery};
use platform::db::{Db, DbConfig};
use platform::rebuild::{Rebuild, RebuildError, Rebuildable, Report};

use crate::entity::{Column, Entity};
use crate::projection::DrivingInfos;
use crate::{Migrations, NAME};

impl Rebuildable for DrivingInfos {
    type Table = Entity;

    const KEY: Column = Column::Id;

    fn row(event: &Delivery) -> Uuid {
        event.correlation
    }
}

/// Compares the view with what its events make of it; replaces what differs if `apply`.
pub async fn rebuild(
    broker: &Broker,
    db: &Db,
    config: &DbConfig,
    clock: &dyn Clock,
    apply: bool,
) -> Result<Report, RebuildError> {
    let view = DrivingInfos { broker: broker.clone() };
    Rebuild { name: NAME, view, broker, db, config, clock }.run::<Migrations>(apply).await
}
