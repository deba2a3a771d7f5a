//! HTTP into gRPC and back: pure functions from bytes to bytes.

use http::{HeaderMap, Method};
use kernel::{Failure, Rejection};
use platform::status::status;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tonic::Status;

use crate::body::{self, Read};
use crate::fields::at;
use crate::headers::{self, Peer};
use crate::json::{FieldJson, Json};
use crate::mask;
use crate::query;
use crate::routes::{Capture, Match, Refusal, Route, RouteTable, invalid_path_parameter};
use crate::scalar;
use crate::stream::RESUME_TOKEN;

/// Where an `EventSource` that connects anew says how far it had come.
const LAST_EVENT_ID: &str = "last-event-id";

/// A request as HTTP brings it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, percent-encoded, without the query.
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
    /// The client.
    pub peer: Peer,
}

/// A request as gRPC takes it.
#[derive(Clone, Debug)]
pub struct Call<'r> {
    /// Which rpc, and how its answer goes back.
    pub route: &'r Route,
    /// The encoded request.
    pub message: Vec<u8>,
    /// Its metadata.
    pub metadata: HeaderMap,
}

/// The rpc that a request calls.
pub fn call<'r>(routes: &'r RouteTable, request: &Request<'_>) -> Result<Call<'r>, Refusal> {
    let found = routes.find(request.method, request.path)?;
    let message = message(&found, request.query, request.headers, request.body)?;
    let metadata = headers::metadata(request.headers, request.peer)?;
    Ok(Call { route: found.route, message: message.encode_to_vec(), metadata })
}

/// The request message, for who has found its route already: from the body, then the path, then the
/// query.
pub fn message(
    found: &Match<'_, '_>,
    query: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<DynamicMessage, Rejection> {
    let route = found.route;
    let Read { request: mut message, mask } = body::read(route, body)?;
    for capture in &found.captures {
        capture_into(&mut message, capture)?;
    }
    query::apply(&mut message, route, query.unwrap_or_default())?;
    if let Some(paths) = mask {
        mask::fill(&mut message, route, paths);
    }
    resume(&mut message, route, headers);
    Ok(message)
}

/// Sets the field of a variable of the path. The body may say it too, but not something else: which
/// of two resources is meant must not depend on who reads the request.
fn capture_into(message: &mut DynamicMessage, capture: &Capture<'_, '_>) -> Result<(), Rejection> {
    let Capture { name, target, value } = capture;
    let invalid = |why: &str| invalid_path_parameter(name, why.to_owned());
    let kind = target.last().ok_or_else(|| invalid("is no field"))?.kind();
    let value = scalar::parse(&kind, value).map_err(invalid)?;
    let agreed = at(message, target, |message, field| {
        let agreed = !message.has_field(field) || *message.get_field(field) == value;
        message.set_field(field, value);
        Ok(agreed)
    });
    match agreed.map_err(invalid)? {
        true => Ok(()),
        false => {
            let why = "the path and the body say different things";
            Err(Rejection::invalid(name, "PATH_CONTRADICTS_BODY", why))
        }
    }
}

/// Carries a stream on after the last event that the client saw.
fn resume(message: &mut DynamicMessage, route: &Route, headers: &HeaderMap) {
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let Some(last) = last.filter(|_| route.rpc.is_server_streaming()) else { return };
    let given = message.has_field_by_name(RESUME_TOKEN);
    if let Some(field) = route.input().get_field_by_name(RESUME_TOKEN).filter(|_| !given) {
        // Some other kind of token cannot be resumed from here.
        let _ = message.try_set_field(&field, Value::String(last.to_owned()));
    }
}

/// The body of the response, from the encoded answer of the rpc.
pub fn response(route: &Route, message: &[u8]) -> Result<Vec<u8>, Status> {
    encode(route, &answer(route, message)?)
}

pub(crate) fn answer(route: &Route, message: &[u8]) -> Result<DynamicMessage, Status> {
    let answer = DynamicMessage::decode(route.output(), message);
    answer.map_err(|error| defect(route, error))
}

pub(crate) fn encode(route: &Route, message: &DynamicMessage) -> Result<Vec<u8>, Status> {
    let json = match &route.response_body {
        Some(field) => serde_json::to_vec(&FieldJson { message, field }),
        None => serde_json::to_vec(&Json(message)),
    };
    json.map_err(|error| defect(route, error))
}

/// An answer that cannot be shown is a defect of whoever gave it: logged, and not told.
fn defect(route: &Route, error: impl std::error::Error + Send + Sync + 'static) -> Status {
    tracing::error!(rpc = route.rpc.full_name(), "an answer has no JSON");
    status(Failure::Internal(Box::new(error)))
}
