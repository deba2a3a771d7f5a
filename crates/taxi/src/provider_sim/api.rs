//! The provider's HTTP interface: from requests to charges and refunds, and from those to answers.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kernel::Uuid;
use serde_json::{Value, json};

use super::faults::Loss;
use super::log::{Charge, ChargeWish, Refund, RefundWish};
use super::{Provider, Refusal};
use crate::faults::{Refused, Row, Rows};

/// All paths.
pub(super) fn router(provider: Provider) -> Router {
    Router::new()
        .route("/v1/charges", post(charge).get(charges))
        .route("/v1/charges/{key}", get(look_up))
        .route("/v1/charges/{key}/refunds", post(refund))
        .route("/v1/refunds", get(refunds))
        .route("/v1/requests", get(requests))
        .route("/v1/faults", get(faults).delete(clear_faults))
        .route("/v1/faults/{name}", get(fault).put(set_fault).delete(clear_fault))
        .with_state(provider)
}

async fn charge(
    State(provider): State<Provider>,
    headers: HeaderMap,
    body: Result<Json<ChargeWish>, JsonRejection>,
) -> Result<Json<Charge>, Refusal> {
    let key = idempotency_key(&headers)?;
    let Json(wish) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    require_won(wish.amount, &wish.currency)?;
    provider.charge(key, wish).await.map(Json)
}

async fn look_up(
    State(provider): State<Provider>,
    Path(key): Path<String>,
) -> Result<Json<Charge>, Refusal> {
    // Nothing is under a key that is none.
    let key = Uuid::try_parse(&key).map_err(|_| Refusal::UnknownCharge)?;
    provider.look_up(key).await.map(Json)
}

async fn refund(
    State(provider): State<Provider>,
    Path(of): Path<String>,
    headers: HeaderMap,
    body: Result<Json<RefundWish>, JsonRejection>,
) -> Result<Json<Refund>, Refusal> {
    let key = idempotency_key(&headers)?;
    let of = Uuid::try_parse(&of).map_err(|_| Refusal::UnknownCharge)?;
    let Json(wish) = body.map_err(|error| Refusal::Malformed(error.body_text()))?;
    require_won(wish.amount, &wish.currency)?;
    provider.refund(key, of, wish).await.map(Json)
}

async fn charges(State(provider): State<Provider>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "charges": provider.log.charges().await? })))
}

async fn refunds(State(provider): State<Provider>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "refunds": provider.log.refunds().await? })))
}

async fn requests(State(provider): State<Provider>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({ "requests": provider.log.requests().await? })))
}

async fn faults(State(provider): State<Provider>) -> Json<Rows> {
    Json(provider.faults.board.rows())
}

async fn clear_faults(State(provider): State<Provider>) -> StatusCode {
    provider.faults.board.clear_all();
    StatusCode::NO_CONTENT
}

async fn fault(
    State(provider): State<Provider>,
    Path(name): Path<String>,
) -> Result<Json<Row>, Refused> {
    provider.faults.board.row(&name).map(Json)
}

async fn set_fault(
    State(provider): State<Provider>,
    Path(name): Path<String>,
    value: String,
) -> Result<StatusCode, Refused> {
    provider.faults.board.set(&name, &value)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_fault(
    State(provider): State<Provider>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    provider.faults.board.clear(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Uuid, Refusal> {
    let key = headers.get("idempotency-key");
    let key = key.and_then(|key| Uuid::try_parse_ascii(key.as_bytes()).ok());
    key.ok_or_else(|| Refusal::Malformed("send Idempotency-Key: <uuid>".to_owned()))
}

fn require_won(amount: i64, currency: &str) -> Result<(), Refusal> {
    match amount > 0 && currency == "KRW" {
        true => Ok(()),
        false => Err(Refusal::Malformed("amount must be positive, currency KRW".to_owned())),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, why),
            Refusal::UnknownCharge => {
                (StatusCode::NOT_FOUND, "there is no charge with this idempotency key".to_owned())
            }
            Refusal::KeyReused => (
                StatusCode::CONFLICT,
                "this idempotency key was used for something else".to_owned(),
            ),
            Refusal::TooMuch => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "more than is left of what the charge has taken".to_owned(),
            ),
            Refusal::Down => return down(),
            Refusal::Error => (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned()),
            Refusal::Lost(Loss::BadGateway) => {
                (StatusCode::BAD_GATEWAY, "the answer was lost".to_owned())
            }
            Refusal::Lost(Loss::Cut) => return cut(),
            Refusal::Broken(error) => {
                tracing::error!(%error, "the provider's log is broken");
                (StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned())
            }
        };
        refuse(status, &error)
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

fn down() -> Response {
    let refused = refuse(StatusCode::SERVICE_UNAVAILABLE, "come back later");
    ([(RETRY_AFTER, "1")], refused).into_response()
}

/// No answer at all: a body that breaks before its first byte takes the connection down, and the
/// head, which has not left yet, with it.
fn cut() -> Response {
    let broken = async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) };
    Response::new(Body::from_stream(futures::stream::once(broken)))
}
