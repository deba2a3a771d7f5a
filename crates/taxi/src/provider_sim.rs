//! The simulated payment provider: what a real one is to us, over real HTTP, with a log of its own.
//!
//! For development and tests. It takes money from nobody, and it keeps its word on one thing: an
//! idempotency key is charged at most once, for ever.
//!
//! ```text
//! POST /v1/charges                        Idempotency-Key: <uuid>
//!      {"amount": 3000, "currency": "KRW", "customer": "customers/C1", "driving": "drivings/<uuid>"}
//!  200 {"id": "ch_<uuid>", "idempotency_key": "<uuid>", "amount": 3000, "currency": "KRW",
//!       "customer": "customers/C1", "driving": "drivings/<uuid>",
//!       "status": "approved" | "declined", "decline_reason": null | "insufficient_funds"}
//!  400 no key, or no charge     409 the key was used for another charge
//! GET  /v1/charges/<idempotency key>      200 the charge     404 there is none
//! GET  /v1/charges                        200 {"charges": [..]}, all of them, oldest first
//! ```
//!
//! Every other answer has the body `{"error": "<one sentence>"}`. A customer whose subject starts
//! with `declined` has no money.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{self, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kernel::{Clock, Uuid};
use platform::clock::SystemClock;
use platform::db::{Db, DbConfig};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::sqlite_url;
use crate::exit::Exit;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS charge (
    number integer PRIMARY KEY AUTOINCREMENT, id text NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE, amount bigint NOT NULL, currency text NOT NULL,
    customer text NOT NULL, driving text NOT NULL, status text NOT NULL, decline_reason text)";
const COLUMNS: &str =
    "id, idempotency_key, amount, currency, customer, driving, status, decline_reason";

/// The provider. Clones share its log.
#[derive(Clone)]
pub(crate) struct Provider {
    log: Db,
    clock: Arc<dyn Clock>,
}

/// Who is to pay how much.
#[derive(Clone, Debug, Deserialize)]
struct Request {
    amount: i64,
    currency: String,
    customer: String,
    driving: String,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize)]
struct Charge {
    id: String,
    idempotency_key: String,
    amount: i64,
    currency: String,
    customer: String,
    driving: String,
    status: String,
    decline_reason: Option<String>,
}

impl Charge {
    fn is_of(&self, request: &Request) -> bool {
        self.amount == request.amount
            && self.currency == request.currency
            && self.customer == request.customer
            && self.driving == request.driving
    }
}

/// Why there is no charge.
#[derive(Debug)]
enum Refusal {
    Malformed(String),
    Unknown,
    KeyReused,
    Broken(DbErr),
}

impl From<DbErr> for Refusal {
    fn from(error: DbErr) -> Refusal {
        Refusal::Broken(error)
    }
}

impl Provider {
    /// Opens the log in this file.
    pub(crate) async fn open(file: &Path) -> Result<Provider, Exit> {
        let log = open_log(file).await.map_err(|error| {
            let file = file.display();
            Exit::cannot_create(format!("the provider's log {file} cannot be used: {error}"))
        })?;
        Ok(Provider { log, clock: Arc::new(SystemClock) })
    }

    /// Its HTTP interface.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/charges", post(charge).get(list))
            .route("/v1/charges/{key}", get(find))
            .with_state(self)
    }

    /// Charges at most once: whoever comes second with a key gets what came of the first.
    async fn charge(&self, key: Uuid, request: &Request) -> Result<Charge, Refusal> {
        if request.amount <= 0 || request.currency != "KRW" {
            return Err(Refusal::Malformed("amount must be positive, currency KRW".to_owned()));
        }
        let (status, reason) = match has_no_money(&request.customer) {
            true => ("declined", Some("insufficient_funds")),
            false => ("approved", None),
        };
        let values: [Value; 8] = [
            format!("ch_{}", self.clock.new_id()).into(),
            key.to_string().into(),
            request.amount.into(),
            request.currency.as_str().into(),
            request.customer.as_str().into(),
            request.driving.as_str().into(),
            status.into(),
            reason.into(),
        ];
        let insert = format!(
            "INSERT INTO charge ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (idempotency_key) DO NOTHING"
        );
        self.log.writer().execute_raw(statement(insert, values)).await?;
        let charge = self.find(&key.to_string()).await?;
        if charge.is_of(request) { Ok(charge) } else { Err(Refusal::KeyReused) }
    }

    async fn find(&self, key: &str) -> Result<Charge, Refusal> {
        let select = format!("SELECT {COLUMNS} FROM charge WHERE idempotency_key = ?");
        let found = Charge::find_by_statement(statement(select, [key.into()]));
        found.one(self.log.writer()).await?.ok_or(Refusal::Unknown)
    }

    async fn list(&self) -> Result<Vec<Charge>, Refusal> {
        let select = format!("SELECT {COLUMNS} FROM charge ORDER BY number");
        Ok(Charge::find_by_statement(statement(select, [])).all(self.log.reader()).await?)
    }
}

async fn open_log(file: &Path) -> Result<Db, Box<dyn Error>> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let log = Db::connect(&DbConfig { url: sqlite_url(file), max_connections: 1 }).await?;
    log.writer().execute_unprepared(TABLE).await?;
    Ok(log)
}

fn statement(sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)
}

fn has_no_money(customer: &str) -> bool {
    customer.strip_prefix("customers/").unwrap_or(customer).starts_with("declined")
}

async fn charge(
    State(provider): State<Provider>,
    headers: HeaderMap,
    body: Result<Json<Request>, JsonRejection>,
) -> Result<Json<Charge>, Refusal> {
    let key =
        headers.get("idempotency-key").and_then(|key| Uuid::try_parse_ascii(key.as_bytes()).ok());
    let key = key.ok_or_else(|| Refusal::Malformed("send Idempotency-Key: <uuid>".to_owned()))?;
    let Json(request) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    provider.charge(key, &request).await.map(Json)
}

async fn find(
    State(provider): State<Provider>,
    extract::Path(key): extract::Path<String>,
) -> Result<Json<Charge>, Refusal> {
    provider.find(&key.to_lowercase()).await.map(Json)
}

async fn list(State(provider): State<Provider>) -> Result<Json<serde_json::Value>, Refusal> {
    Ok(Json(json!({ "charges": provider.list().await? })))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, why),
            Refusal::Unknown => {
                (StatusCode::NOT_FOUND, "there is no charge with this idempotency key".to_owned())
            }
            Refusal::KeyReused => (
                StatusCode::CONFLICT,
                "this idempotency key was used for another charge".to_owned(),
            ),
            Refusal::Broken(error) => {
                tracing::error!(%error, "the provider's log is broken");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned())
            }
        };
        (status, Json(json!({ "error": error }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(amount: i64, customer: &str) -> Request {
        Request {
            amount,
            currency: "KRW".to_owned(),
            customer: customer.to_owned(),
            driving: "drivings/1".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_key_is_charged_once_for_ever() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("provider.db");
        let provider = Provider::open(&file).await.expect("opens");
        let (key, asked) = (Uuid::from_u128(1), request(3000, "customers/C1"));
        let (one, two) = tokio::join!(provider.charge(key, &asked), provider.charge(key, &asked));
        let charge = one.expect("charged");
        assert_eq!((charge.status.as_str(), &charge.decline_reason), ("approved", &None));
        assert_eq!(two.expect("the same"), charge);

        let reopened = Provider::open(&file).await.expect("opens again");
        assert_eq!(reopened.charge(key, &asked).await.expect("the same"), charge);
        assert_eq!(reopened.list().await.expect("a log"), [charge]);
        let other = reopened.charge(key, &request(2000, "customers/C1")).await;
        assert!(matches!(other, Err(Refusal::KeyReused)), "{other:?}");
    }

    #[tokio::test]
    async fn who_has_no_money_is_declined() {
        let dir = tempfile::tempdir().expect("a directory");
        let provider = Provider::open(&dir.path().join("provider.db")).await.expect("opens");
        let asked = request(3000, "customers/declined-joe");
        let charge = provider.charge(Uuid::from_u128(1), &asked).await.expect("an answer");
        assert_eq!(charge.status, "declined");
        assert_eq!(charge.decline_reason.as_deref(), Some("insufficient_funds"));
        let nothing = provider.charge(Uuid::from_u128(2), &request(0, "customers/C1")).await;
        assert!(matches!(nothing, Err(Refusal::Malformed(_))), "{nothing:?}");
        let unknown = provider.find("00000000-0000-0000-0000-000000000002").await;
        assert!(matches!(unknown, Err(Refusal::Unknown)), "{unknown:?}");
    }
}
