//! The rows of a view, as the database has them, and where two views differ.
//!
//! Cells are read by the type of their column and not into the view's own rows: what has been
//! written there by hand need not make sense to anybody, and must be found all the same.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Failure, Uuid};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, Query, SimpleExpr, Value};
use sea_orm::{
    DatabaseTransaction, IdenStatic, Iterable, QueryOrder, QueryResult, QuerySelect, QueryTrait,
    TryGetable,
};
use serde::Serialize;

use super::{RebuildError, Rebuildable};

/// How many rows are read at a time.
const PAGE: u64 = 1_000;
/// How many rows are replaced at a time.
const CHUNK: usize = 500;
/// How many differences are shown.
const SHOWN: usize = 10;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key of the row.
    pub row: Uuid,
    /// The column; none when one of the views does not have the row.
    pub column: Option<&'static str>,
    /// What the live view says.
    pub now: String,
    /// What the events make of it.
    pub rebuilt: String,
}

/// How two views differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Rows that the rebuilt view has.
    pub(super) rows: u64,
    pub(super) differing: u64,
    pub(super) missing: u64,
    pub(super) superfluous: u64,
    /// The first differences.
    pub(super) first: Vec<Difference>,
    /// All rows that differ.
    pub(super) wrong: BTreeSet<Uuid>,
}

/// A value, or why it is none.
type Cell = Result<Value, String>;
/// The cells of a row, in the order of the table's columns.
type Row = Vec<Cell>;
type Rows = BTreeMap<Uuid, Row>;
type Column<V> = <<V as Rebuildable>::Table as EntityTrait>::Column;

/// Compares all rows.
pub(super) async fn compare<V: Rebuildable>(
    live: &impl ConnectionTrait,
    rebuilt: &impl ConnectionTrait,
) -> Result<Comparison, RebuildError> {
    let mut comparison = Comparison::default();
    let mut after = None;
    loop {
        let mut now = page::<V>(live, after).await?;
        let mut then = page::<V>(rebuilt, after).await?;
        // Behind the end of a full page, nothing is known of its side yet.
        let full = [&now, &then].into_iter().filter(|page| page.len() as u64 == PAGE);
        after = full.filter_map(|page| page.keys().next_back().copied()).min();
        if let Some(last) = after {
            now.retain(|id, _| *id <= last);
            then.retain(|id, _| *id <= last);
        }
        comparison.add::<V>(&now, &then);
        if after.is_none() {
            return Ok(comparison);
        }
    }
}

/// Replaces those of these rows that differ; answers which.
pub(super) async fn replace<V: Rebuildable>(
    live: &DatabaseTransaction,
    rebuilt: &impl ConnectionTrait,
    suspects: &BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>, RebuildError> {
    let suspects: Vec<Uuid> = suspects.iter().copied().collect();
    let mut replaced = BTreeSet::new();
    for chunk in suspects.chunks(CHUNK) {
        let now = some::<V>(live, chunk).await?;
        let mut then = some::<V>(rebuilt, chunk).await?;
        let mut comparison = Comparison::default();
        comparison.add::<V>(&now, &then);
        then.retain(|id, _| comparison.wrong.contains(id));
        V::Table::delete_many()
            .filter(V::KEY.is_in(comparison.wrong.iter().copied()))
            .exec(live)
            .await?;
        insert::<V>(live, then).await?;
        replaced.append(&mut comparison.wrong);
    }
    Ok(replaced)
}

impl Comparison {
    /// Compares the same part of both views.
    fn add<V: Rebuildable>(&mut self, now: &Rows, then: &Rows) {
        self.rows += then.len() as u64;
        let ids: BTreeSet<Uuid> = now.keys().chain(then.keys()).copied().collect();
        for id in ids {
            match (now.get(&id), then.get(&id)) {
                (Some(now), Some(then)) => self.add_columns::<V>(id, now, then),
                (None, _) => {
                    self.missing += 1;
                    self.note(id, None, "missing", "there");
                }
                (_, None) => {
                    self.superfluous += 1;
                    self.note(id, None, "there", "missing");
                }
            }
        }
    }

    fn add_columns<V: Rebuildable>(&mut self, id: Uuid, now: &Row, then: &Row) {
        let cells = Column::<V>::iter().zip(now.iter().zip(then));
        let differing: Vec<_> = cells.filter(|(_, (now, then))| !same(now, then)).collect();
        self.differing += u64::from(!differing.is_empty());
        for (column, (now, then)) in differing {
            self.note(id, Some(column.as_str()), &text(now), &text(then));
        }
    }

    fn note(&mut self, row: Uuid, column: Option<&'static str>, now: &str, rebuilt: &str) {
        self.wrong.insert(row);
        if self.first.len() < SHOWN {
            let (now, rebuilt) = (now.to_owned(), rebuilt.to_owned());
            self.first.push(Difference { row, column, now, rebuilt });
        }
    }
}

async fn page<V: Rebuildable>(
    db: &impl ConnectionTrait,
    after: Option<Uuid>,
) -> Result<Rows, RebuildError> {
    let mut rows = V::Table::find().order_by_asc(V::KEY).limit(PAGE);
    if let Some(after) = after {
        rows = rows.filter(V::KEY.gt(after));
    }
    read::<V>(db, rows).await
}

async fn some<V: Rebuildable>(
    db: &impl ConnectionTrait,
    ids: &[Uuid],
) -> Result<Rows, RebuildError> {
    read::<V>(db, V::Table::find().filter(V::KEY.is_in(ids.iter().copied()))).await
}

async fn read<V: Rebuildable>(
    db: &impl ConnectionTrait,
    rows: Select<V::Table>,
) -> Result<Rows, RebuildError> {
    let rows = db.query_all(&rows.into_query()).await?;
    rows.iter()
        .map(|row| {
            let cells: Result<Row, RebuildError> =
                Column::<V>::iter().map(|column| cell(row, column)).collect();
            Ok((row.try_get("", V::KEY.as_str())?, cells?))
        })
        .collect()
}

fn cell(row: &QueryResult, column: impl ColumnTrait) -> Result<Cell, RebuildError> {
    let name = column.as_str();
    match column.def().get_column_type() {
        ColumnType::Uuid => Ok(typed::<Uuid>(row, name)),
        ColumnType::Integer => Ok(typed::<i32>(row, name)),
        ColumnType::BigInteger => Ok(typed::<i64>(row, name)),
        ColumnType::Text | ColumnType::String(_) => Ok(typed::<String>(row, name)),
        other => {
            let why = format!("column {name} is a {other:?}: nobody compares these yet");
            Err(Failure::Internal(why.into()).into())
        }
    }
}

fn typed<T: TryGetable>(row: &QueryResult, column: &str) -> Cell
where
    Option<T>: Into<Value>,
{
    let value: Result<Option<T>, DbErr> = row.try_get("", column);
    value.map(Into::into).map_err(|error| error.to_string())
}

/// What cannot be read is never right.
fn same(now: &Cell, then: &Cell) -> bool {
    matches!((now, then), (Ok(now), Ok(then)) if now == then)
}

fn text(cell: &Cell) -> String {
    match cell {
        Ok(Value::Uuid(Some(id))) => id.to_string(),
        Ok(Value::Int(Some(number))) => number.to_string(),
        Ok(Value::BigInt(Some(number))) => number.to_string(),
        Ok(Value::String(Some(text))) => text.clone(),
        Ok(_) => "null".to_owned(),
        Err(why) => format!("unreadable: {why}"),
    }
}

async fn insert<V: Rebuildable>(db: &DatabaseTransaction, rows: Rows) -> Result<(), RebuildError> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut statement = Query::insert();
    statement.into_table(V::Table::default().table_ref()).columns(Column::<V>::iter());
    for row in rows.into_values() {
        let cells: Result<Vec<SimpleExpr>, String> =
            row.into_iter().map(|cell| cell.map(Expr::value)).collect();
        let cells = cells.map_err(|why| Failure::Internal(why.into()))?;
        statement.values(cells).map_err(|error| Failure::Internal(error.into()))?;
    }
    db.execute(&statement).await?;
    Ok(())
}
