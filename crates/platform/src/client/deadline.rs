//! No call takes longer than it may, and neither does an attempt.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use kernel::Rejection;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _};

use super::answer::exchange;
use super::around::Middleware;
use crate::call::{Deadline, read_timeout};
use crate::status::status;

/// With less than this left, a call is not worth starting.
const LEAST: Duration = Duration::from_millis(1);

/// Ends a call at the earliest of its policy's deadline, the request's own and its caller's.
#[derive(Clone, Copy)]
pub(super) struct TotalDeadline(pub(super) Duration);

impl<S> Middleware<Request<Body>, S> for TotalDeadline
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Status;

    async fn handle(self, mut request: Request<Body>, inner: S) -> Result<Response<Body>, Status> {
        // What the generated client was told, if anything; ours is well-formed.
        let own = read_timeout(request.headers()).ok().flatten();
        let mine = Deadline(Instant::now() + own.unwrap_or(self.0).min(self.0));
        let deadline = Deadline::current().map_or(mine, |callers| callers.min(mine));
        if deadline.remaining() < LEAST {
            return Err(status(late()));
        }
        request.extensions_mut().insert(deadline);
        timeout_at(deadline.0, inner.oneshot(request)).await.unwrap_or_else(|end| Err(over(end)))
    }
}

/// Ends one attempt at the earliest of its own time and the call's: waiting for a connection and a
/// token, and the whole answer with its trailers. What the neighbour is told is in the extensions.
#[derive(Clone, Copy)]
pub(super) struct AttemptTimeout(pub(super) Duration);

impl<S> Middleware<Request<Bytes>, S> for AttemptTimeout
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = BoxError> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Status;

    async fn handle(self, mut request: Request<Bytes>, inner: S) -> Result<Response<Body>, Status> {
        let mine = Deadline(Instant::now() + self.0);
        let deadline = until(&request).map_or(mine, |total| total.min(mine));
        request.extensions_mut().insert(deadline);
        timeout_at(deadline.0, exchange(inner, request)).await.unwrap_or_else(|end| Err(over(end)))
    }
}

/// Until when this request is waited for: outside of an attempt the whole call's deadline.
pub(super) fn until<B>(request: &Request<B>) -> Option<Deadline> {
    request.extensions().get::<Deadline>().copied()
}

pub(super) fn late() -> Rejection {
    Rejection::deadline("DEADLINE_EXCEEDED", "the neighbour did not answer in time")
}

fn over(end: Elapsed) -> Status {
    let mut status = status(late());
    status.set_source(Arc::new(end));
    status
}
