//! A ride as the view keeps it: one row, keyed by the allocation's id.
//!
//! States are the numbers of the contract's enums; 0 is "no event has told yet". Customer and driver
//! are resource names, empty until known. Times are microseconds.

use std::fmt;
use std::str::FromStr;

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// One ride.
#[derive(Clone, Debug, Default, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "driving_info")]
pub(crate) struct Model {
    /// The allocation's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: Uuid,
    pub(crate) customer: String,
    pub(crate) pickup: Option<Place>,
    pub(crate) destination: Option<Place>,
    pub(crate) alloc_status: i32,
    pub(crate) driving: Option<Uuid>,
    pub(crate) driver: String,
    pub(crate) driving_status: i32,
    pub(crate) start_time: Option<i64>,
    pub(crate) finish_time: Option<i64>,
    /// Whole won.
    pub(crate) fee: Option<i64>,
    pub(crate) payment: Option<Uuid>,
    pub(crate) payment_status: i32,
    /// Whole won given back so far.
    pub(crate) refunded: i64,
    pub(crate) cancel_reason: String,
    pub(crate) timeline: Timeline,
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
    /// The last event folded of the allocation, of the driving and of the payment.
    pub(crate) allocation_version: i64,
    pub(crate) driving_version: i64,
    pub(crate) payment_version: i64,
    /// The place in the stream of the last event that was heard: the order in which rides change.
    pub(crate) sequence: i64,
    /// The shard of the stream in which all its events are.
    pub(crate) shard: i32,
}

/// No relations.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A place as its customer named it, kept as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, DeriveValueType)]
#[sea_orm(value_type = "String", column_type = "Text")]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) location: Option<Location>,
}

/// Degrees, WGS 84.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
}

/// What happened, oldest first, kept as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DeriveValueType)]
#[sea_orm(value_type = "String", column_type = "Text")]
pub(crate) struct Timeline(pub(crate) Vec<Entry>);

/// One event of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The simple name of the event.
    pub(crate) event: String,
    /// When it happened, microseconds.
    pub(crate) time: i64,
    /// The event's id.
    pub(crate) id: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json(self, f)
    }
}

impl FromStr for Place {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Place, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json(self, f)
    }
}

impl FromStr for Timeline {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Timeline, serde_json::Error> {
        serde_json::from_str(text)
    }
}

fn json(value: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?)
}
