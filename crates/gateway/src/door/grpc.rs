//! gRPC, passed through: which method, who calls and until when is looked at, the messages are not.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{Method, Version};
use http_body_util::BodyExt as _;
use platform::status::status;
use tokio::time::timeout_at;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::client::Client;
use super::measure::Seen;
use super::time::Time;
use super::{Door, own};
use crate::errors::detailed;
use crate::headers;
use crate::upstream::{Bounded, InTrailers, late};

/// Answers a call.
pub(super) async fn call(door: &Door, request: Request) -> Response {
    match own::is_own(request.uri().path()) {
        true => own(door, request).await,
        false => pass(door, request).await,
    }
    .unwrap_or_else(|status| status.into_http())
}

async fn pass(door: &Door, request: Request) -> Result<Response, Status> {
    let (client, seen) = (Client::of(&request), Seen::of(&request));
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let method = door.methods.get(path).ok_or_else(|| no_method(path))?;
    seen.method(method.name);
    let principal = door.admit(&parts.headers).await.map_err(status)?;
    let time = Time::of(&parts.headers, door.config.timeout, door.most).map_err(status)?;
    let terms = match method.streaming {
        true => {
            let slot = door.limits.stream(&principal).map_err(status)?;
            time.of_stream(door.draining.clone(), slot)
        }
        false => time.of_message(),
    };
    let mut request = http::Request::new(tonic::body::Body::new(body));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers::passed_through(&parts.headers, client.peer);
    terms.tell(request.headers_mut());
    *request.uri_mut() = parts.uri;
    let response = method.upstream.clone().send(request, terms).await?;
    Ok(response.map(|body| Body::new(InTrailers::new(body))))
}

/// Reflection and health. Nobody knows who asks, so what is bounded is the address.
async fn own(door: &Door, request: Request) -> Result<Response, Status> {
    if let Some(method) = own::method(request.uri().path()) {
        Seen::of(&request).method(method);
    }
    let time = Time::of(request.headers(), door.config.timeout, door.most).map_err(status)?;
    let slot = door.limits.stranger(Client::of(&request).address).map_err(status)?;
    let terms = time.of_stream(door.draining.clone(), slot);
    let response = match timeout_at(terms.answer_by, door.own.clone().oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => return Err(late()),
    };
    let bounded = |body: Body| Bounded::new(body.map_err(broken), terms);
    Ok(response.map(|body| Body::new(InTrailers::new(bounded(body)))))
}

fn broken(error: axum::Error) -> Status {
    Status::from_error(error.into())
}

/// There is no such method, or none for the outside: nobody shall tell which.
pub(super) fn no_method(path: &str) -> Status {
    detailed(Code::Unimplemented, "UNKNOWN_METHOD", format!("there is no method {path}"))
}
