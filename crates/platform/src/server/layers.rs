//! The layers of the server's stack that are our own. Each is a function from a request to an
//! answer, and each refuses with a proper gRPC answer: trailers only, with `google.rpc` details.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use kernel::Rejection;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::Instrument as _;

use crate::auth::is_open;
use crate::call::{Deadline, read_timeout};
use crate::metrics::calls::{self, Call, Followed, Methods};
use crate::status::{self, status, upper_snake};
use crate::telemetry::Rpc;

/// Measures the call, until its answer has come to its end.
pub(super) async fn measure(
    State(methods): State<Arc<Methods>>,
    request: Request,
    next: Next,
) -> Response {
    let call = Call::served(methods.at(request.uri().path()));
    call.follow(next.run(request).await).map(Body::new)
}

/// Carries on the caller's trace, with a span until the end of the answer, and gives everything that
/// is logged on the way its id.
pub(super) async fn trace(
    State(methods): State<Arc<Methods>>,
    request: Request,
    next: Next,
) -> Response {
    let traceparent = request.headers().get("traceparent").and_then(|it| it.to_str().ok());
    let rpc = Rpc::served(methods.at(request.uri().path()), traceparent);
    let trace = rpc.trace();
    let (service, method) =
        request.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let span = tracing::info_span!(
        "rpc",
        rpc.service = service,
        rpc.method = method,
        trace_id = trace.id()
    );
    let answer = async {
        let start = Instant::now();
        let response = next.run(request).await;
        // An answer that is not refused outright tells its status in the trailers.
        let code = response.headers().get(Status::GRPC_STATUS).map(HeaderValue::as_bytes);
        let code = code.map_or(Code::Ok, Code::from_bytes);
        tracing::debug!(?code, elapsed = ?start.elapsed(), "answered");
        response
    };
    let response = trace.scope(answer.instrument(span)).await;
    Followed::grpc(response, rpc).map(Body::new)
}

/// Gives an error from tonic itself, or a bare one from a handler, what every error has: a reason.
pub(super) async fn explain(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Status>() {
        Some(bare) if bare.code() != Code::Ok && bare.details().is_empty() => {
            explained(bare).into_http()
        }
        _ => response,
    }
}

fn explained(bare: &Status) -> Status {
    let message = bare.message();
    let starts = |start: &str| message.starts_with(start);
    // tonic knows these by their messages only.
    let mut explained = match bare.code() {
        Code::OutOfRange if starts("Error, decoded message length too large") => {
            status::other(Code::InvalidArgument, "MESSAGE_TOO_LARGE", message)
        }
        Code::Internal if starts("failed to decode Protobuf") || starts("Missing request") => {
            status::other(Code::InvalidArgument, "MALFORMED_MESSAGE", message)
        }
        Code::Internal | Code::Unknown => {
            tracing::error!(error = message, "internal error");
            status::internal()
        }
        code => status::other(code, upper_snake(code), message),
    };
    *explained.metadata_mut() = bare.metadata().clone();
    explained
}

/// Refuses at once what there is no room for, instead of letting everybody wait.
pub(super) async fn shed(
    State(room): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    // An overloaded process is alive and says so.
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    // Room is for work: a stream gives it back with its headers, else watchers would use it up.
    match room.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => {
            calls::no_room();
            let message = "too many requests at once: try again in a moment";
            refuse(Rejection::exhausted("OVERLOADED", message))
        }
    }
}

/// How long an answer may take.
#[derive(Clone)]
pub(super) struct Bounds {
    /// For the answer, or the beginning of a stream, whatever the caller says.
    pub(super) most: Duration,
    /// Ends the streams when the process drains.
    pub(super) draining: CancellationToken,
}

/// Keeps the caller's deadline, and lets everything below know it.
pub(super) async fn deadline(
    State(bounds): State<Bounds>,
    mut request: Request,
    next: Next,
) -> Response {
    let now = Instant::now();
    let asked = match read_timeout(request.headers()) {
        Ok(asked) => asked,
        Err(rejection) => return refuse(rejection),
    };
    let deadline = Deadline(now + asked.unwrap_or(bounds.most).min(bounds.most));
    request.extensions_mut().insert(deadline);
    let answer = deadline.scope(next.run(request));
    match tokio::time::timeout_at(deadline.0, answer).await {
        // A stream may go on for as long as the caller wants, whatever our own limit.
        Ok(response) => response.map(|body| {
            Body::new(Bounded {
                body,
                until: asked.map(|asked| now + asked),
                draining: bounds.draining,
                end: None,
            })
        }),
        Err(_) => refuse(late()),
    }
}

fn late() -> Rejection {
    Rejection::deadline("DEADLINE_EXCEEDED", "not done within the time the caller gave")
}

/// A refusal, as the answer it is.
fn refuse(rejection: Rejection) -> Response {
    status(rejection).into_http()
}

/// The body of an answer, which ends when the caller's time is up or the process drains.
struct Bounded {
    body: Body,
    until: Option<Instant>,
    draining: CancellationToken,
    /// Made when the body first keeps us waiting: an answer that is complete needs no timer.
    end: Option<BoxFuture<'static, Rejection>>,
}

async fn end(until: Option<Instant>, draining: CancellationToken) -> Rejection {
    let time_is_up = async {
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_up => late(),
        () = draining.cancelled() => {
            let message = "this process is about to stop: call again, another one answers";
            Rejection::unavailable("SHUTTING_DOWN", message)
        }
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // First what is there already: the end must not cut a complete answer.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let (until, draining) = (self.until, self.draining.clone());
        let end = self.end.get_or_insert_with(|| Box::pin(end(until, draining)));
        let status = status(ready!(end.as_mut().poll(context)));
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        let written = status.add_header(&mut trailers).map_err(axum::Error::new);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_from_below_get_their_reason() {
        let reason = |bare: Status| {
            let explained = explained(&bare);
            (explained.code(), status::reason(&explained).expect("always there"))
        };
        for (bare, code, expected) in [
            (
                Status::out_of_range(
                    "Error, decoded message length too large: found 9 bytes, the limit is: 1 bytes",
                ),
                Code::InvalidArgument,
                "MESSAGE_TOO_LARGE",
            ),
            (
                Status::internal("failed to decode Protobuf message: invalid tag value: 0"),
                Code::InvalidArgument,
                "MALFORMED_MESSAGE",
            ),
            (Status::internal("secret"), Code::Internal, "INTERNAL"),
            (Status::unknown("secret"), Code::Internal, "INTERNAL"),
            (Status::out_of_range("so far"), Code::OutOfRange, "OUT_OF_RANGE"),
            (Status::unimplemented(""), Code::Unimplemented, "UNIMPLEMENTED"),
        ] {
            assert_eq!(reason(bare), (code, expected.to_owned()));
        }
        assert_eq!(explained(&Status::internal("secret")).message(), "internal error");
    }
}
