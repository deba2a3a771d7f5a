//! What happens to every request, whatever it asks for. Each layer is a function from a request to
//! an answer.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use kernel::{Failure, Rejection};
use platform::call::CONSISTENCY_TOKEN_HEADER;
use platform::metrics::calls::{Followed, OTHER};
use platform::status::status;
use platform::telemetry::{Exchange, Rpc, Trace};
use tonic::Code;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::Instrument as _;

use super::answer::Kind;
use super::client::Client;
use super::measure::{self, Limit, Protocol, Seen};
use super::{Door, GatewayError, own};
use crate::upstream;

/// How long a browser remembers what it may send.
const PREFLIGHT: Duration = Duration::from_secs(3600);
/// What a web page may do,
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// and what it may read, beside the body.
const EXPOSED: [HeaderName; 6] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static(CONSISTENCY_TOKEN_HEADER),
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// Says which web pages may call. They may send any header: who they are is in a token, and no
/// browser adds that by itself.
pub(super) fn cors(origins: AllowOrigin) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(METHODS)
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(PREFLIGHT)
}

/// The web pages that may call.
pub(super) fn origins(allowed: &[String]) -> Result<AllowOrigin, GatewayError> {
    if allowed.iter().any(|origin| origin == "*") {
        return Ok(AllowOrigin::any());
    }
    let origin = |text: &String| {
        let has_scheme = text.contains("://") && !text.ends_with('/');
        let value = HeaderValue::try_from(text).ok().filter(|_| has_scheme);
        value.ok_or_else(|| GatewayError::NoOrigin(text.clone()))
    };
    Ok(AllowOrigin::list(allowed.iter().map(origin).collect::<Result<Vec<_>, _>>()?))
}

/// Makes gRPC of gRPC-Web, and gRPC-Web of the answer.
pub(super) async fn web(request: Request, next: Next) -> Response {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    if !kind.starts_with(b"application/grpc-web") {
        let is_grpc = Kind::of(request.headers()) == Kind::Grpc;
        if is_grpc && request.version() < Version::HTTP_2 {
            let why = "gRPC needs HTTP/2; gRPC-Web does not\n";
            return (StatusCode::HTTP_VERSION_NOT_SUPPORTED, why).into_response();
        }
        return next.run(request).await;
    }
    let grpc = service_fn(move |mut request: http::Request<tonic::body::Body>| {
        let next = next.clone();
        request.extensions_mut().insert(Protocol::GrpcWeb);
        async move { Ok::<_, Infallible>(next.run(request.map(Body::new)).await) }
    });
    match GrpcWebLayer::new().layer(grpc).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// Carries on the client's trace, with a span until the end of the answer, and gives everything that
/// is logged on the way its id.
pub(super) async fn trace(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let traceparent = request.headers().get("traceparent").and_then(|it| it.to_str().ok());
    match Kind::of(request.headers()) {
        Kind::Grpc => {
            let path = request.uri().path();
            let method = door.methods.get(path).map(|method| method.name);
            let method = method.or_else(|| own::method(path)).unwrap_or(OTHER);
            let rpc = Rpc::served(method, traceparent);
            Followed::grpc(traced(rpc.trace(), request, next).await, rpc).map(Body::new)
        }
        Kind::Rest => {
            let (method, seen) = (request.method().clone(), Seen::of(&request));
            let mut exchange = Exchange::served(&method, traceparent);
            let response = traced(exchange.trace(), request, next).await;
            if let Some(route) = seen.route() {
                exchange.route(&method, route);
            }
            exchange.answered(response.status());
            Followed::plain(response, exchange, Code::Ok).map(Body::new)
        }
    }
}

async fn traced(trace: Trace, request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        "http",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        trace_id = trace.id()
    );
    let answer = async {
        let start = tokio::time::Instant::now();
        let response = next.run(request).await;
        let grpc = response.headers().get("grpc-status");
        tracing::debug!(status = %response.status(), ?grpc, elapsed = ?start.elapsed(), "answered");
        response
    };
    trace.scope(answer.instrument(span)).await
}

/// Answers for what panics.
pub(super) async fn no_panic(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    let kind = Kind::of(request.headers());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            let defect = Failure::Internal("a handler has panicked".into());
            kind.error(&status(defect), door.routes.pool())
        }
    }
}

/// Refuses at once what there is no room for, instead of letting everybody wait.
pub(super) async fn shed(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    // An overloaded process is alive and says so.
    if own::is_own(request.uri().path()) {
        return next.run(request).await;
    }
    let kind = Kind::of(request.headers());
    // Room is for work: a stream gives it back with its headers, else watchers would use it up.
    match door.room.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => {
            measure::refused(Limit::Concurrency);
            let message = "too many requests at once: try again in a moment";
            let refused = Rejection::exhausted("OVERLOADED", message);
            kind.error(&status(refused), door.routes.pool())
        }
    }
}

/// Refuses who sends more than an address may.
pub(super) async fn per_address(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    let kind = Kind::of(request.headers());
    match door.limits.address(Client::of(&request).address) {
        Ok(()) => next.run(request).await,
        Err(refused) => kind.error(&status(refused), door.routes.pool()),
    }
}

/// Answers for who takes too long. Calls have times of their own; this is for what is beside them.
pub(super) async fn in_time(
    State(door): State<Arc<Door>>,
    request: Request,
    next: Next,
) -> Response {
    let kind = Kind::of(request.headers());
    let answer = tokio::time::timeout(door.most, next.run(request)).await;
    answer.unwrap_or_else(|_| kind.error(&upstream::late(), door.routes.pool()))
}
