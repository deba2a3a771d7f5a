//! Events that could not be applied, and what follows them in the same history.
//!
//! They wait for an operator: after the defect is mended the first of a history is tried again, and
//! when it succeeds those behind it follow by themselves; or it is dropped, as if it had been
//! applied. Nobody else waits for them.

use std::collections::{BTreeMap, HashSet};

use async_nats::header::HeaderMap;
use async_nats::{HeaderName, HeaderValue};
use kernel::{Failure, Rejection, Timestamp, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ConnectionTrait, IntoActiveModel, QueryOrder, QuerySelect, Statement, TransactionTrait,
};
use serde::{Deserialize, Serialize};

use crate::broker::{BrokerError, Delivery};
use crate::db::{Db, failure};
use crate::store::note_known;

/// Why an event is parked that could be applied, were it not for an earlier one.
pub const BEHIND: &str = "an earlier event of the same aggregate is parked";

/// One event that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(table_name = "parked_event")]
pub struct Model {
    /// The event's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event: Uuid,
    /// What it happened to.
    pub aggregate: Uuid,
    /// Its number there.
    pub version: i64,
    /// The full protobuf name of the payload.
    pub kind: String,
    /// Its place in the stream.
    pub sequence: i64,
    /// Why it could not be applied.
    pub reason: String,
    /// The protobuf message.
    #[serde(with = "base64")]
    pub payload: Vec<u8>,
    /// When it was parked, microseconds.
    pub time: i64,
    /// The event's headers, a JSON object.
    pub headers: String,
    /// When an operator asked for another try, microseconds.
    pub retry_at: Option<i64>,
}

/// No relations.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// An event put aside now.
    pub fn new(event: &Delivery, why: &str, now: Timestamp) -> Model {
        let headers: BTreeMap<String, String> = event
            .headers()
            .iter()
            .filter_map(|(name, values)| Some((name.to_string(), values.first()?.to_string())))
            .collect();
        Model {
            event: event.id,
            aggregate: event.aggregate,
            version: event.version,
            kind: event.kind.clone(),
            sequence: i64::try_from(event.sequence).unwrap_or(i64::MAX),
            reason: why.to_owned(),
            payload: event.payload.to_vec(),
            time: now.micros(),
            headers: serde_json::json!(headers).to_string(),
            retry_at: None,
        }
    }

    /// The event as it came.
    pub fn delivery(&self) -> Result<Delivery, BrokerError> {
        let texts: BTreeMap<String, String> = serde_json::from_str(&self.headers)?;
        let mut headers = HeaderMap::new();
        for (name, value) in texts {
            headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        Delivery::parse(&headers, self.payload.clone().into(), u64::try_from(self.sequence)?)
    }
}

/// Puts an event aside; once is enough.
pub(crate) async fn insert(
    db: &impl ConnectionTrait,
    event: &Delivery,
    why: &str,
    now: Timestamp,
) -> Result<(), DbErr> {
    Entity::insert(Model::new(event, why, now).into_active_model())
        .on_conflict(OnConflict::column(Column::Event).do_nothing().to_owned())
        .exec_without_returning(db)
        .await
        .map(drop)
}

/// The histories in which something is parked.
pub(crate) async fn histories(db: &Db) -> Result<HashSet<Uuid>, DbErr> {
    let aggregates: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Aggregate)
        .distinct()
        .into_tuple()
        .all(db.reader())
        .await?;
    Ok(aggregates.into_iter().collect())
}

/// Whether something of this history is parked.
pub(crate) async fn is_in_history_of(db: &Db, aggregate: Uuid) -> Result<bool, DbErr> {
    let first = Entity::find().filter(Column::Aggregate.eq(aggregate)).limit(1);
    Ok(first.one(db.reader()).await?.is_some())
}

/// The events to be tried again: the first of a history, when an operator has asked for it or when
/// nothing is before it any more.
pub(crate) async fn due(db: &Db) -> Result<Vec<Model>, DbErr> {
    let sql = "SELECT * FROM parked_event AS head \
               WHERE (head.retry_at IS NOT NULL OR head.reason = $1) AND NOT EXISTS ( \
                   SELECT 1 FROM parked_event AS earlier \
                   WHERE earlier.aggregate = head.aggregate AND earlier.version < head.version) \
               ORDER BY head.sequence LIMIT 100";
    let statement = Statement::from_sql_and_values(db.backend(), sql, [BEHIND.into()]);
    Entity::find().from_raw_sql(statement).all(db.reader()).await
}

/// Removes an event that has been applied.
pub(crate) async fn applied(db: &impl ConnectionTrait, event: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(event).exec(db).await.map(drop)
}

/// Leaves an event parked after another try that came to nothing.
pub(crate) async fn failed_again(db: &Db, event: Uuid, why: &str) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::Reason, Expr::value(why))
        .col_expr(Column::RetryAt, Expr::value(Option::<i64>::None))
        .filter(Column::Event.eq(event))
        .exec(db.writer())
        .await
        .map(drop)
}

/// All parked events, in the order of the stream.
pub async fn list(db: &Db) -> Result<Vec<Model>, Failure> {
    Entity::find().order_by_asc(Column::Sequence).all(db.reader()).await.map_err(failure)
}

/// One parked event.
pub async fn get(db: &Db, event: Uuid) -> Result<Model, Failure> {
    let found = Entity::find_by_id(event).one(db.reader()).await.map_err(failure)?;
    found.ok_or_else(|| not_parked(event).into())
}

/// Asks for another try of an event; it must be the first of its history.
pub async fn retry(db: &Db, event: Uuid, now: Timestamp) -> Result<(), Failure> {
    first_of_history(db.writer(), event).await?;
    Entity::update_many()
        .col_expr(Column::RetryAt, Expr::value(now.micros()))
        .filter(Column::Event.eq(event))
        .exec(db.writer())
        .await
        .map(drop)
        .map_err(failure)
}

/// Gives an event up, as if it had been applied; it must be the first of its history.
pub async fn discard(db: &Db, event: Uuid) -> Result<(), Failure> {
    let tx = db.writer().begin().await.map_err(failure)?;
    let parked = first_of_history(&tx, event).await?;
    note_known(&tx, [(parked.aggregate, parked.version)]).await.map_err(failure)?;
    applied(&tx, event).await.map_err(failure)?;
    tx.commit().await.map_err(failure)
}

async fn first_of_history(db: &impl ConnectionTrait, event: Uuid) -> Result<Model, Failure> {
    let found = Entity::find_by_id(event).one(db).await.map_err(failure)?;
    let parked = found.ok_or_else(|| not_parked(event))?;
    let first = Entity::find()
        .filter(Column::Aggregate.eq(parked.aggregate))
        .order_by_asc(Column::Version)
        .one(db)
        .await
        .map_err(failure)?;
    match first.filter(|first| first.event != event) {
        None => Ok(parked),
        Some(first) => {
            let why = format!("event {} of the same history comes first", first.event);
            Err(Rejection::precondition("PARKED_BEHIND", why).into())
        }
    }
}

fn not_parked(event: Uuid) -> Rejection {
    Rejection::not_found("EVENT_NOT_PARKED", format!("no parked event {event}"))
}

/// Bytes as text in JSON.
mod base64 {
    use ::base64::Engine as _;
    use ::base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
