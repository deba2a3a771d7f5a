//! `/dev/faults` at the door of `taxi dev`: the faults of our services and of the payment provider,
//! all in one place and worked in one way.
//!
//! ```text
//! GET    /dev/faults             {"faults": [{"name", "value", "takes", "about"}, ..]}
//! GET    /dev/faults/<name>      one of them
//! PUT    /dev/faults/<name>      204; the body is the value
//! DELETE /dev/faults[/<name>]    204; one, or all
//! ```
//!
//! 400 with a sentence for what makes no sense, 503 while the payment provider does not answer.

use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use platform::server::Faults as Handle;
use reqwest::Client;
use serde_json::json;

use crate::faults::{Board, Knob, Refused, Row, Rows, SWITCH, Takes, unknown};
use crate::provider_sim;

const DOWN: Knob = Knob {
    name: "payment.down",
    takes: SWITCH,
    about: "answers no call and takes no fee, as if it were not there",
};
const LATENCY: Knob =
    Knob { name: "payment.latency", takes: Takes::Duration, about: "waits before each answer" };
const KNOBS: [Knob; 2] = [DOWN, LATENCY];

/// The faults of a whole mesh.
#[derive(Clone)]
pub(super) struct Faults {
    payment: Handle,
    board: Board,
    provider: Remote,
}

/// The faults of the payment provider, in its process.
#[derive(Clone)]
struct Remote {
    http: Client,
    /// Where they are worked.
    url: String,
}

/// Why a fault is not worked.
enum Trouble {
    Refused(Refused),
    Away,
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Trouble {
        Trouble::Refused(refused)
    }
}

impl Faults {
    /// Those of the payment service with this handle, and of the provider at this base address.
    pub(super) fn new(payment: Handle, provider: &str) -> Faults {
        // Nobody's proxy knows our loopback.
        let http = Client::builder().no_proxy().build().unwrap_or_default();
        let provider = Remote { http, url: format!("{provider}/v1/faults") };
        Faults { payment, board: Board::new(&KNOBS), provider }
    }

    /// What answers at the door.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/dev/faults", get(list).delete(clear_all))
            .route("/dev/faults/{name}", get(show).put(set).delete(clear))
            .with_state(self)
    }

    /// Whether it is ours and not the provider's.
    fn is_ours(&self, name: &str) -> Result<bool, Refused> {
        if self.board.has(name) {
            return Ok(true);
        }
        match provider_sim::KNOBS.iter().any(|knob| knob.name == name) {
            true => Ok(false),
            false => Err(unknown(name, KNOBS.iter().chain(&provider_sim::KNOBS))),
        }
    }

    /// Lets the payment service have what is set.
    fn apply(&self) {
        self.payment.set_down(self.board.is_on(&DOWN));
        self.payment.set_latency(self.board.duration(&LATENCY));
    }
}

impl Remote {
    /// Asks the provider; its refusal is ours.
    async fn ask(
        &self,
        method: Method,
        name: Option<&str>,
        value: String,
    ) -> Result<reqwest::Response, Trouble> {
        let url = name.map_or_else(|| self.url.clone(), |name| format!("{}/{name}", self.url));
        let answer = self.http.request(method, url).body(value).send().await;
        let answer = answer.map_err(|_| Trouble::Away)?;
        if answer.status() != StatusCode::BAD_REQUEST {
            return answer.error_for_status().map_err(|_| Trouble::Away);
        }
        #[derive(serde::Deserialize)]
        struct Refusal {
            error: String,
        }
        let Refusal { error } = answer.json().await.map_err(|_| Trouble::Away)?;
        Err(Refused(error).into())
    }
}

async fn list(State(faults): State<Faults>) -> Result<Json<Rows>, Trouble> {
    let mut rows = faults.board.rows();
    let theirs = faults.provider.ask(Method::GET, None, String::new()).await?;
    rows.faults.extend(theirs.json::<Rows>().await.map_err(|_| Trouble::Away)?.faults);
    Ok(Json(rows))
}

async fn show(
    State(faults): State<Faults>,
    Path(name): Path<String>,
) -> Result<Json<Row>, Trouble> {
    if faults.is_ours(&name)? {
        return Ok(Json(faults.board.row(&name)?));
    }
    let theirs = faults.provider.ask(Method::GET, Some(&name), String::new()).await?;
    theirs.json().await.map(Json).map_err(|_| Trouble::Away)
}

async fn set(
    State(faults): State<Faults>,
    Path(name): Path<String>,
    value: String,
) -> Result<StatusCode, Trouble> {
    match faults.is_ours(&name)? {
        true => {
            faults.board.set(&name, &value)?;
            faults.apply();
        }
        false => drop(faults.provider.ask(Method::PUT, Some(&name), value).await?),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn clear(
    State(faults): State<Faults>,
    Path(name): Path<String>,
) -> Result<StatusCode, Trouble> {
    match faults.is_ours(&name)? {
        true => {
            faults.board.clear(&name)?;
            faults.apply();
        }
        false => drop(faults.provider.ask(Method::DELETE, Some(&name), String::new()).await?),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_all(State(faults): State<Faults>) -> Result<StatusCode, Trouble> {
    faults.board.clear_all();
    faults.apply();
    faults.provider.ask(Method::DELETE, None, String::new()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Trouble::Refused(refused) => refused.into_response(),
            Trouble::Away => {
                let error = "the payment provider does not answer: try again in a moment";
                (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response()
            }
        }
    }
}
