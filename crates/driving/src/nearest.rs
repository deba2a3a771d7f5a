//! Lists of drivings in the order of their pickups' distance.
//!
//! The database narrows the choice by a box of degrees and answers with positions only; the exact
//! distance is found in memory, and only the rows of one page are read. Without a radius the choice
//! is all that the caller may see: fine for what is open, slow for an operator's whole archive.

use std::collections::HashMap;

use kernel::{Actor, Failure, Location, Recorded, Rejection, Uuid};
use platform::db::{Db, failure, internal};
use platform::page::{decode_token, encode_token};
use platform::store::Persist;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QuerySelect};

use crate::domain::{Driving, Filter};
use crate::entity::{Column, Entity};
use crate::near::Near;

/// A place in the order of distance: by metres, then newest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    metres: f64,
    id: Uuid,
}

impl Spot {
    fn order(&self, other: &Spot) -> std::cmp::Ordering {
        self.metres.total_cmp(&other.metres).then(other.id.cmp(&self.id))
    }

    /// The place in the list of this query that a page token stands for.
    pub(crate) fn parse(token: &str, query: &str) -> Result<Option<Spot>, Rejection> {
        if token.is_empty() {
            return Ok(None);
        }
        let spot = || {
            let payload = decode_token(&kind(query), token)?;
            let (metres, id) = payload.split_once(' ')?;
            let metres = f64::from_bits(u64::from_str_radix(metres, 16).ok()?);
            Some(Spot { metres, id: Uuid::try_parse(id).ok()? })
        };
        let message = "must be the next_page_token of the same query, unchanged";
        let no = || Rejection::invalid("page_token", "INVALID_PAGE_TOKEN", message);
        spot().map(Some).ok_or_else(no)
    }

    /// The page token that stands for this place.
    pub(crate) fn token(&self, query: &str) -> String {
        encode_token(&kind(query), &format!("{:x} {}", self.metres.to_bits(), self.id))
    }
}

fn kind(query: &str) -> String {
    format!("nearest of {query}")
}

/// One part of a list in the order of distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The items, nearest first, those whose pickup nobody knows last.
    pub items: Vec<Recorded<Driving>>,
    /// Where to go on; `None` when this was the last part.
    pub next: Option<Spot>,
}

/// Which part of a list in the order of distance is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NearestRequest {
    /// Around which position.
    pub near: Near,
    /// At most this many.
    pub size: usize,
    /// Only what comes after this place.
    pub after: Option<Spot>,
}

/// Lists the drivings that this actor may see.
pub(crate) async fn nearest(
    db: &Db,
    actor: &Actor,
    filter: &Filter,
    request: &NearestRequest,
) -> Result<Nearest, Failure> {
    let NearestRequest { near, size, after } = request;
    let visible = Condition::all().add(Driving::visible_to(actor)).add(Driving::matching(filter));
    let candidates: Vec<(Uuid, Option<f64>, Option<f64>)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::PickupLatitude, Column::PickupLongitude])
        .filter(visible.clone())
        .filter(within(near))
        .into_tuple()
        .all(db.reader())
        .await
        .map_err(failure)?;

    let spot = |(id, north, east): (Uuid, Option<f64>, Option<f64>)| {
        let pickup = north.zip(east).and_then(|(n, e)| Location::parse("", n, e).ok());
        Spot { metres: near.distance(pickup), id }
    };
    let mut spots: Vec<Spot> = candidates
        .into_iter()
        .map(spot)
        .filter(|spot| near.covers(spot.metres))
        .filter(|spot| after.is_none_or(|after| spot.order(&after).is_gt()))
        .collect();
    spots.sort_unstable_by(Spot::order);
    let more = spots.len() > *size;
    spots.truncate(*size);

    let ids = spots.iter().map(|spot| spot.id);
    let rows = Entity::find()
        .filter(Column::Id.is_in(ids))
        // What has left the list meanwhile is left out.
        .filter(visible)
        .all(db.reader())
        .await
        .map_err(failure)?;
    let mut rows: HashMap<Uuid, _> = rows.into_iter().map(|row| (row.id, row)).collect();
    let items = spots
        .iter()
        .filter_map(|spot| rows.remove(&spot.id))
        .map(Driving::from_row)
        .collect::<Result<Vec<_>, _>>()
        .map_err(internal)?;
    Ok(Nearest { items, next: spots.last().copied().filter(|_| more) })
}

fn within(near: &Near) -> Condition {
    let Some(bounds) = near.bounds() else { return Condition::all() };
    let longitudes = bounds.longitudes.into_iter().fold(Condition::any(), |any, range| {
        let (from, to) = range.into_inner();
        any.add(Column::PickupLongitude.between(from, to))
    });
    let (from, to) = bounds.latitudes.into_inner();
    Condition::all().add(Column::PickupLatitude.between(from, to)).add(longitudes)
}
