//! What a call looks like from outside: spans, a place in the trace, and a measurement.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;

use super::around::Middleware;
use super::retry::PREVIOUS_ATTEMPTS;
use crate::metrics::calls::{Call, Watcher as _};
use crate::telemetry::Rpc;

/// Measures the call as its caller sees it, and hands out every status as the answer it is.
#[derive(Clone, Copy)]
pub(super) struct Observed;

impl<S> Middleware<Request<Body>, S> for Observed
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;

    async fn handle(self, request: Request<Body>, inner: S) -> Result<Response<Body>, Infallible> {
        let call = Call::asked(request.uri().path());
        let rpc = Rpc::asked(request.uri().path());
        let trace = rpc.trace();
        let span = tracing::info_span!("call", rpc.method = call.method(), trace_id = trace.id());
        let outcome = trace.scope(inner.oneshot(request).instrument(span)).await;
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        call.ended(code);
        rpc.ended(code);
        Ok(outcome.unwrap_or_else(Status::into_http))
    }
}

/// Gives each attempt a span of its own, in the log and in the trace.
#[derive(Clone, Copy)]
pub(super) struct Attempt;

impl<S> Middleware<Request<Bytes>, S> for Attempt
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Status> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Status;

    async fn handle(self, request: Request<Bytes>, inner: S) -> Result<Response<Body>, Status> {
        let mut rpc = Rpc::asked(request.uri().path());
        let before = request.headers().get(PREVIOUS_ATTEMPTS).map(HeaderValue::to_str);
        let before = before.and_then(Result::ok).and_then(|it| it.parse().ok()).unwrap_or(0);
        rpc.again(before);
        let span = tracing::info_span!("attempt", before);
        let attempt = async {
            let outcome = inner.oneshot(request).await;
            if let Err(status) = &outcome {
                tracing::debug!(code = ?status.code(), message = status.message(), "failed");
            }
            outcome
        };
        let outcome = rpc.trace().scope(attempt.instrument(span)).await;
        rpc.ended(outcome.as_ref().map_or_else(Status::code, |_| Code::Ok));
        outcome
    }
}
