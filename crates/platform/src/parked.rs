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
use crate::outbox::chain;
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
    #[serde(default)]
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
/// nothing is before it any more. One that cannot be read back stays parked for that reason.
pub(crate) async fn due(db: &Db) -> Result<Vec<Model>, DbErr> {
    let sql = "SELECT * FROM parked_event AS head \
               WHERE (head.retry_at IS NOT NULL OR head.reason = $1) AND NOT EXISTS ( \
                   SELECT 1 FROM parked_event AS earlier \
                   WHERE earlier.aggregate = head.aggregate AND earlier.version < head.version) \
               ORDER BY head.sequence LIMIT 100";
    let statement = Statement::from_sql_and_values(db.backend(), sql, [BEHIND.into()]);
    let mut due = Vec::new();
    for parked in Entity::find().from_raw_sql(statement).all(db.reader()).await? {
        match parked.delivery() {
            Ok(_) => due.push(parked),
            Err(error) => failed_again(db, parked.event, &chain(&*error)).await?,
        }
    }
    Ok(due)
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

/// There is no such event that waits for an operator.
pub fn not_parked(event: Uuid) -> Rejection {
    Rejection::not_found("EVENT_NOT_PARKED", format!("parked event {event}"))
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

#[cfg(test)]
mod tests {
    use sea_orm_migration::{MigrationTrait, MigratorTrait};

    use super::*;
    use crate::context::house_migrations;
    use crate::db::DbConfig;
    use crate::store::known;

    struct Migrations;

    #[async_trait::async_trait]
    impl MigratorTrait for Migrations {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            house_migrations()
        }
    }

    const NOW: Timestamp = Timestamp::from_micros(1_764_000_000_123_456);

    async fn database(files: &tempfile::TempDir) -> Db {
        let url = format!("sqlite://{}", files.path().join("parked.db").display());
        let db = Db::connect(&DbConfig { url, max_connections: 1 }).await.expect("a database");
        db.migrate::<Migrations>().await.expect("migrated");
        db
    }

    /// An event by its aggregate and its number there.
    fn event(aggregate: u128, version: i64) -> Delivery {
        Delivery {
            id: id(aggregate, version),
            kind: "shop.order.v1.OrderPlaced".to_owned(),
            context: "order".to_owned(),
            aggregate: Uuid::from_u128(aggregate),
            version,
            correlation: Uuid::nil(),
            causation: Uuid::nil(),
            time: NOW,
            trace: None,
            payload: vec![0xff].into(),
            sequence: version as u64,
        }
    }

    fn id(aggregate: u128, version: i64) -> Uuid {
        Uuid::from_u128(aggregate << 64 | version as u128)
    }

    async fn due_now(db: &Db) -> Vec<Uuid> {
        due(db).await.expect("a list").iter().map(|parked| parked.event).collect()
    }

    fn reason<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> &'static str {
        match outcome {
            Err(Failure::Rejected(no)) => no.reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_first_of_a_history_is_tried_again_or_given_up_and_the_next_follows() {
        let files = tempfile::tempdir().expect("a directory");
        let db = database(&files).await;
        for (aggregate, version, why) in [(7, 2, "poison"), (7, 3, BEHIND), (8, 1, "poison")] {
            insert(db.writer(), &event(aggregate, version), why, NOW).await.expect("parked");
        }
        assert!(due_now(&db).await.is_empty());
        assert_eq!(reason(retry(&db, id(7, 3), NOW).await), "PARKED_BEHIND");
        assert_eq!(reason(discard(&db, id(7, 3)).await), "PARKED_BEHIND");
        assert_eq!(reason(get(&db, id(9, 1)).await), "EVENT_NOT_PARKED");

        retry(&db, id(8, 1), NOW).await.expect("asked for");
        assert_eq!(due_now(&db).await, [id(8, 1)]);
        failed_again(&db, id(8, 1), "still poison").await.expect("noted");
        assert!(due_now(&db).await.is_empty());
        assert_eq!(get(&db, id(8, 1)).await.expect("parked").reason, "still poison");

        discard(&db, id(7, 2)).await.expect("given up");
        assert_eq!(due_now(&db).await, [id(7, 3)]);
        let known = known::Entity::find_by_id(Uuid::from_u128(7)).one(db.reader()).await;
        assert_eq!(known.expect("asked").map(|known| known.version), Some(2));
        let left = list(&db).await.expect("a list");
        assert_eq!(left.iter().map(|it| it.event).collect::<Vec<_>>(), [id(8, 1), id(7, 3)]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_back_stays_and_stops_nobody() {
        let files = tempfile::tempdir().expect("a directory");
        let db = database(&files).await;
        for aggregate in [7, 8] {
            insert(db.writer(), &event(aggregate, 1), "poison", NOW).await.expect("parked");
            retry(&db, id(aggregate, 1), NOW).await.expect("asked for");
        }
        let without = Entity::update_many().col_expr(Column::Headers, Expr::value("{}"));
        let without = without.filter(Column::Event.eq(id(7, 1))).exec(db.writer()).await;
        without.expect("as an old version has parked it");
        assert_eq!(due_now(&db).await, [id(8, 1)]);
        let parked = get(&db, id(7, 1)).await.expect("parked");
        assert_eq!((parked.reason.as_str(), parked.retry_at), ("header ce-time is missing", None));
    }
}
